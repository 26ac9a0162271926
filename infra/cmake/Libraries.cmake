# Every library from outside, found once, here, as lib::<name>. Headers are SYSTEM includes: their warnings are not ours.

find_package(PkgConfig REQUIRED)

function(onboarding_pkg name)
  pkg_check_modules(PC_${name} REQUIRED IMPORTED_TARGET GLOBAL ${ARGN})
  add_library(lib::${name} ALIAS PkgConfig::PC_${name})
endfunction()

# A library that ships neither a CMake nor a pkg-config file.
function(onboarding_find name)
  add_library(lib_${name} INTERFACE)
  foreach(library ${ARGN})
    find_library(LIB_${library} ${library} REQUIRED)
    target_link_libraries(lib_${name} INTERFACE ${LIB_${library}})
  endforeach()
  add_library(lib::${name} ALIAS lib_${name})
endfunction()

onboarding_pkg(sodium libsodium)
onboarding_pkg(sqlite sqlite3)
onboarding_pkg(rdkafka rdkafka)
onboarding_pkg(curl libcurl)
onboarding_pkg(zstd libzstd)
onboarding_pkg(pqxx libpqxx)
onboarding_pkg(icu icu-uc icu-i18n)
onboarding_pkg(idn2 libidn2)
onboarding_pkg(openssl openssl)
onboarding_pkg(pistache_only libpistache)
onboarding_find(jemalloc jemalloc)
onboarding_find(caf caf_core)
onboarding_find(phonenumber phonenumber)
onboarding_find(prometheus prometheus-cpp-core)
add_library(lib_pistache INTERFACE)
target_link_libraries(lib_pistache INTERFACE lib::pistache_only lib::openssl)
add_library(lib::pistache ALIAS lib_pistache)

find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
add_library(lib_spdlog INTERFACE)
target_link_libraries(lib_spdlog INTERFACE spdlog::spdlog fmt::fmt)
add_library(lib::spdlog ALIAS lib_spdlog)

# Header-only: the include path is the system's.
foreach(name rapidjson expected tomlplusplus cli11)
  add_library(lib_${name} INTERFACE)
  add_library(lib::${name} ALIAS lib_${name})
endforeach()

if(ONBOARDING_TESTS)
  find_package(GTest REQUIRED)
  find_package(benchmark REQUIRED)
  onboarding_find(rapidcheck rapidcheck)
endif()

# Language level, warnings, sanitizers, ccache. Included once, before any target exists.

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
option(ONBOARDING_TESTS "build the tests and benchmarks" ON)
option(ONBOARDING_SANITIZE "AddressSanitizer and UndefinedBehaviorSanitizer in every target" OFF)
option(ONBOARDING_WERROR "warnings are errors" ON)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}")
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# -g1: a backtrace names functions and lines; full debug information doubles build and link time.
# No NDEBUG: assertions stay on in release.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1")
# Unit tests gain nothing from the optimiser and dominate the build: they are compiled with -O0 (see Module.cmake).

add_compile_options(-Wall -Wextra -Wpedantic -Wnon-virtual-dtor -Woverloaded-virtual -Wimplicit-fallthrough)
if(ONBOARDING_WERROR)
  add_compile_options(-Werror)
endif()
if(ONBOARDING_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1)
  add_link_options(-fsanitize=address,undefined)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      "${CMAKE_COMMAND}" -E env "CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime" "CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}" "CCACHE_NOHASHDIR=1" "${CCACHE}")
  # ccache can only hash a precompiled header that was written with this flag.
  add_compile_options($<$<CXX_COMPILER_ID:Clang>:-Xclang> $<$<CXX_COMPILER_ID:Clang>:-fno-pch-timestamp> -fpch-preprocess)
endif()
find_package(Threads REQUIRED)

# One function per kind of target. Sources are found by folder, so that no list is kept twice:
# a folder with a CMakeLists.txt of its own is a target of its own and belongs to nobody else.

# onboarding_sources(VAR): all *.cpp at and below this folder, without the folders that are targets of their own.
function(onboarding_sources out)
  file(GLOB_RECURSE found CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cpp")
  file(GLOB_RECURSE nested CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*/CMakeLists.txt")
  foreach(list_file ${nested})
    get_filename_component(folder "${list_file}" DIRECTORY)
    list(FILTER found EXCLUDE REGEX "^${folder}/")
  endforeach()
  set(${out} "${found}" PARENT_SCOPE)
endfunction()

# The shared precompiled headers: standard library only, so that any target may use them.
# Targets whose every source needs a heavy library header add their own with PCH.
file(WRITE "${CMAKE_BINARY_DIR}/pch/empty.cpp" "")
function(onboarding_pch name)
  add_library(${name} OBJECT "${CMAKE_BINARY_DIR}/pch/empty.cpp")
  target_precompile_headers(${name} PRIVATE ${ARGN})
endfunction()
# A precompiled header is only good for sources compiled with the same flags: programs get -fPIC, as the libraries do,
# instead of the -fPIE that CMake would choose for them.
function(onboarding_like_libraries name)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${name} PRIVATE -fPIC)
endfunction()
set(ONBOARDING_STD_HEADERS <algorithm> <array> <atomic> <chrono> <cstdint> <cstring> <deque> <functional> <map> <memory>
  <mutex> <optional> <set> <span> <string> <string_view> <thread> <tuple> <unordered_map> <utility> <variant> <vector>)
onboarding_pch(pch_std ${ONBOARDING_STD_HEADERS})

# onboarding_module(<name> [LINK lib…] [LINK_PUBLIC lib…] [PCH <header>…])
# A library onboarding::<name> of this folder's sources. Includes are written from the repository root.
# LINK is private: what a module uses is nobody else's business. LINK_PUBLIC is for what its headers include.
function(onboarding_module name)
  cmake_parse_arguments(ARG "" "" "LINK;LINK_PUBLIC;PCH" ${ARGN})
  onboarding_sources(sources)
  if(sources)
    add_library(${name} STATIC ${sources})
    target_include_directories(${name} PUBLIC "${CMAKE_SOURCE_DIR}")
    target_link_libraries(${name} PUBLIC ${ARG_LINK_PUBLIC} PRIVATE ${ARG_LINK} Threads::Threads)
    if(ARG_PCH)
      target_precompile_headers(${name} PRIVATE ${ONBOARDING_STD_HEADERS} ${ARG_PCH})
    else()
      target_precompile_headers(${name} REUSE_FROM pch_std)
    endif()
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE "${CMAKE_SOURCE_DIR}")
    target_link_libraries(${name} INTERFACE ${ARG_LINK_PUBLIC} ${ARG_LINK})
  endif()
  add_library(onboarding::${name} ALIAS ${name})
endfunction()

# onboarding_program(<name> SOURCES file… LINK lib…): an executable in the top of the build folder.
function(onboarding_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE "${CMAKE_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${ARG_LINK} Threads::Threads)
  target_precompile_headers(${name} REUSE_FROM pch_std)
  onboarding_like_libraries(${name})
endfunction()

if(ONBOARDING_TESTS)
  enable_testing()
  onboarding_pch(pch_test ${ONBOARDING_STD_HEADERS} <gtest/gtest.h>)
  target_compile_options(pch_test PRIVATE -O0)
  target_link_libraries(pch_test PRIVATE GTest::gtest)
endif()

# onboarding_test(<name> LINK lib… [LABELS label…] [TIMEOUT seconds] [OPTIMISED] [PCH <header>…])
# A GoogleTest program of this folder's sources, registered with ctest as one test. Labels: `slow` is left out of
# `infra/test --quick` and of the sanitizer run; `postgres` needs ONBOARD_TEST_POSTGRES_URL; `kafka` ONBOARD_TEST_KAFKA_BROKERS, or starts brokers; `program` needs the two programs.
function(onboarding_test name)
  cmake_parse_arguments(ARG "OPTIMISED" "TIMEOUT" "LINK;LABELS;PCH" ${ARGN})
  onboarding_sources(sources)
  add_executable(${name} ${sources})
  target_include_directories(${name} PRIVATE "${CMAKE_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gtest GTest::gmock GTest::gtest_main Threads::Threads)
  onboarding_like_libraries(${name})
  if(ARG_PCH OR ARG_OPTIMISED)
    target_precompile_headers(${name} PRIVATE ${ONBOARDING_STD_HEADERS} <gtest/gtest.h> ${ARG_PCH})
  else()
    target_precompile_headers(${name} REUSE_FROM pch_test)
  endif()
  if(NOT ARG_OPTIMISED)
    target_compile_options(${name} PRIVATE -O0)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()

# onboarding_python_test(<name> SOURCES file… [LABELS label…] [TIMEOUT seconds]): Python unittests, run by
# tests/run_unittests.py, which reports cases as GoogleTest does. The programs are found in ONBOARDING_BUILD_DIR.
function(onboarding_python_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LABELS" ${ARGN})
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  list(TRANSFORM ARG_SOURCES PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} -B "${CMAKE_SOURCE_DIR}/tests/run_unittests.py" ${name} ${ARG_SOURCES}
    WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}" ENVIRONMENT "ONBOARDING_BUILD_DIR=${CMAKE_BINARY_DIR}")
endfunction()

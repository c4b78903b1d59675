# The project's own vocabulary for CMakeLists files: a library, a service, a unit test, a service test.

add_library(aethelos_flags INTERFACE)
target_compile_definitions(aethelos_flags INTERFACE _GNU_SOURCE AETHELOS_VERSION="${PROJECT_VERSION}")
target_compile_options(
  aethelos_flags
  INTERFACE -Wall
            -Wextra
            -Werror
            -Wformat=2
            -Wshadow
            -Wstrict-prototypes
            -Wmissing-prototypes
            -Wimplicit-fallthrough
            -Wundef
            -Wno-missing-field-initializers
            -fstack-protector-strong
            -fno-strict-aliasing
            -fno-omit-frame-pointer)
target_link_options(aethelos_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed)
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT AETHELOS_SANITIZE)
  target_compile_options(aethelos_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()
if(AETHELOS_CRASH_POINTS)
  target_compile_definitions(aethelos_flags INTERFACE AETHELOS_CRASH_POINTS)
endif()
if(AETHELOS_SANITIZE)
  target_compile_options(aethelos_flags INTERFACE -fsanitize=${AETHELOS_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(aethelos_flags INTERFACE -fsanitize=${AETHELOS_SANITIZE})
endif()

# aethelos_library(name SOURCES a.c ... LINK lib ...): headers are included by their path from the root ("common/base/json.h" is "base/json.h").
function(aethelos_library name)
  cmake_parse_arguments(A "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/common ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  target_link_libraries(${name} PRIVATE aethelos_flags PUBLIC ${A_LINK})
endfunction()

# aethelos_program(name SOURCES a.c ... LINK lib ...): build/<preset>/bin/name
function(aethelos_program name)
  cmake_parse_arguments(A "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/common ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  target_link_libraries(${name} PRIVATE aethelos_flags ${A_LINK})
endfunction()

# unit_test(name LINK lib ...): tests/unit/test_<name>.c, no servers, seconds
function(unit_test name)
  cmake_parse_arguments(A "" "" "LINK" ${ARGN})
  aethelos_program(test_${name} SOURCES test_${name}.c LINK ${A_LINK} PkgConfig::CMOCKA)
  add_test(NAME unit_${name} COMMAND test_${name})
  set_tests_properties(unit_${name} PROPERTIES LABELS unit TIMEOUT 60)
endfunction()

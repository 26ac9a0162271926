# migrations/*.sql become part of the program at build time, so that program and schema cannot be of different versions.
# Included by CMakeLists.txt it adds the rule; run as a script (cmake -P) it writes the source file.
if(CMAKE_SCRIPT_MODE_FILE)
  file(GLOB files "${FOLDER}/*.sql")
  list(SORT files)
  set(source "#include \"projections/postgres/migrate.hpp\"\n\nnamespace onboarding::projections {\n\n"
             "const std::vector<Migration>& embedded_migrations() {\n  static const std::vector<Migration> all = {\n")
  set(number 10000)  # its last four digits: cmake prints no leading zeros
  foreach(file ${files})
    get_filename_component(name "${file}" NAME_WE)
    math(EXPR number "${number} + 1")
    string(SUBSTRING ${number} 1 4 expected)
    if(NOT name MATCHES "^${expected}_")
      message(FATAL_ERROR "migrations/${name}.sql is not number ${expected}")
    endif()
    file(READ "${file}" sql)
    string(APPEND source "{\"${name}\", R\"sql-file(${sql})sql-file\"},\n")
  endforeach()
  string(APPEND source "  };\n  return all;\n}\n\n}  // namespace onboarding::projections\n")
  file(WRITE "${OUTPUT}" "${source}")
else()
  file(GLOB migrations CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/migrations/*.sql")
  set(embedded "${CMAKE_CURRENT_BINARY_DIR}/embedded_migrations.cpp")
  add_custom_command(OUTPUT "${embedded}" DEPENDS ${migrations} embed_migrations.cmake
    COMMAND "${CMAKE_COMMAND}" "-DFOLDER=${CMAKE_SOURCE_DIR}/migrations" "-DOUTPUT=${embedded}" -P "${CMAKE_CURRENT_SOURCE_DIR}/embed_migrations.cmake")
  target_sources(projections_postgres PRIVATE "${embedded}")
endif()

# Stands for Slicer's file: what describes an extension must be there.

foreach(name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${name}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${name} is not set")
  endif()
endforeach()
file(WRITE "${CMAKE_BINARY_DIR}/description.txt"
  "depends ${EXTENSION_DEPENDS}\nhomepage ${EXTENSION_HOMEPAGE}\n")

# Stands for the SlicerConfig.cmake of a Slicer build, as far as a scripted module needs it: the
# variables and functions that our CMake files use, with the checks that tell a missing or
# misplaced file. Testing/Python/unit/test_install.py configures, builds and installs with it.

set(Slicer_VERSION 5.12.3)
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/GenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/Package.cmake")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-5.12/qt-scripted-modules")
set(Slicer_FOUND TRUE)

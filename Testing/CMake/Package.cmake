# Stands for Slicer's file: the package holds what is installed.

set(CPACK_GENERATOR "TGZ")
set(CPACK_PACKAGE_NAME "${PROJECT_NAME}")
include(CPack)

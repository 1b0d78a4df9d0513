"""Reads images and annotation from files and writes segmentations."""

import SimpleITK

# What ITK and GDCM say on stderr names no file and no remedy: what matters is checked here.
SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)

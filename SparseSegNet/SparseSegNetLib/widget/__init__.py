"""The module's panel in Slicer, one file per section."""

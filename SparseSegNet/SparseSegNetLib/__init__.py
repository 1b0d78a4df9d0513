"""SparseSegNet: dense 3D segmentations from a few annotated slices."""

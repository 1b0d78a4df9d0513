"""Training of a network on labelled voxels."""

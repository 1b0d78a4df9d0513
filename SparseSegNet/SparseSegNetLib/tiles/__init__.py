"""Volumes that are larger than memory, segmented tile by tile."""

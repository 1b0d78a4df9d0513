"""Volumes, segmentations and runs in Slicer's MRML scene, without qt and torch."""

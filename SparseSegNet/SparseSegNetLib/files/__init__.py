"""Reads images and annotation from files and writes segmentations."""

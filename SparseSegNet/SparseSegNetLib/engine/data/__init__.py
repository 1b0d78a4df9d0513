"""Inputs, preprocessing, sampling and augmentation."""

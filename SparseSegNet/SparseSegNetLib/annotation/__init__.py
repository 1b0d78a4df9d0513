"""Annotation: slices, segments and the label array that training starts from."""

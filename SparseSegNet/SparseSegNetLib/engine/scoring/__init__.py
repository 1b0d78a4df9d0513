"""Honest scores from out-of-fold predictions: calibration, estimates of the overlap, intervals."""

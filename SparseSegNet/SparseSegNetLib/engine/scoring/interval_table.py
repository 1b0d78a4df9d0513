"""Residuals of estimated IoUs; made by Testing/Benchmark/score_intervals.py."""

# Of the logits of the two estimates: from the folds, and from calibrated probabilities.
INTERCEPT = 0.141
WEIGHTS = (0.051, 0.946)
# Numbers of annotated slices, and the 10 % and 90 % quantiles of the residuals in logits.
SLICES = (3, 5, 8, 13)
LOW = (-0.829, -0.740, -0.740, -0.642)
HIGH = (1.098, 0.614, 0.614, 0.510)
# 1 - IoU falls with the number of slices to the power of minus this.
DECAY = 0.33
# As INTERCEPT and WEIGHTS, for the share of the border within one voxel.
NEAR_INTERCEPT = 0.615
NEAR_WEIGHTS = (0.200, 0.786)

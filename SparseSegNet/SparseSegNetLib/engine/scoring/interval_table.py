"""Residuals of estimated IoUs on the benchmark; made by Testing/Benchmark/score_intervals.py."""

# Of the logits of the two estimates: from the folds, and from calibrated probabilities.
INTERCEPT = 0.0
WEIGHTS = (0.5, 0.5)
# Numbers of annotated slices, and the 10 % and 90 % quantiles of the residuals in logits.
SLICES = (3, 5, 8, 13)
LOW = (-0.8, -0.7, -0.6, -0.5)
HIGH = (0.8, 0.7, 0.6, 0.5)
# 1 - IoU falls with the number of slices to the power of minus this.
DECAY = 0.55
# As INTERCEPT and WEIGHTS, for the share of the border within one voxel.
NEAR_INTERCEPT = 0.0
NEAR_WEIGHTS = (0.0, 1.0)

"""Residuals of estimated IoUs; made by Testing/Benchmark/score_intervals.py."""

# Of the logits of the two estimates: from the folds, and from calibrated probabilities.
INTERCEPT = 0.190
WEIGHTS = (0.033, 0.898)
# Numbers of annotated slices, and the 10 % and 90 % quantiles of the residuals in logits.
SLICES = (3, 5, 8, 13)
LOW = (-0.568, -0.568, -0.568, -0.529)
HIGH = (1.143, 0.515, 0.515, 0.341)
# 1 - IoU falls with the number of slices to the power of minus this.
DECAY = 0.31
# As INTERCEPT and WEIGHTS, for the share of the border within one voxel.
NEAR_INTERCEPT = 0.616
NEAR_WEIGHTS = (0.120, 0.821)

"""Batch normalisation by the patches of all ranks that train together.

Alone, and when predicting, it is torch's. torch's own SyncBatchNorm knows graphics cards alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..compute.ranks import gathered, summing, total


class _Normalise(torch.autograd.Function):
    """(x - mean) / sd * weight + bias, with the gradient of mean and sd over all ranks."""

    @staticmethod
    def forward(ctx, x, weight, bias, mean, variance, eps, count):
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.count = eps, count
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, mean, variance = ctx.saved_tensors
        # As if mean and sd were constants; what they depend on comes after it.
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, ctx.eps, (True, True, True)
        )
        by_bias, by_weight = total(torch.stack((of_bias, of_weight))) / ctx.count
        inverse = torch.rsqrt(variance + ctx.eps)
        slope = -weight * inverse * inverse * by_weight
        offset = -weight * inverse * by_bias - slope * mean
        # x * slope + offset, by the kernel that is quick at it.
        none, one = torch.zeros_like(mean), torch.ones_like(mean)
        of_x = of_x + F.batch_norm(x, none, one, slope, offset, False, 0.0, 0.0)
        return of_x, of_weight, of_bias, None, None, None, None


def _shared(norm: nn.BatchNorm2d | nn.BatchNorm3d, x: torch.Tensor) -> torch.Tensor:
    # The running statistics tell the number format; they stay as they are.
    own = torch.batch_norm_update_stats(x.detach(), norm.running_mean, norm.running_var, 0.0)
    means, variances = gathered(torch.stack(own)).unbind(dim=1)  # each rank has as many patches
    mean = means.mean(dim=0)
    variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
    count = len(means) * x.numel() // x.shape[1]
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / max(1, count - 1)), norm.momentum)
    return _Normalise.apply(x, norm.weight, norm.bias, mean, variance, norm.eps, count)


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, by the patches of all ranks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        return _shared(self, x) if self.training and summing() else super().forward(x)


class BatchNorm3d(nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d`, by the patches of all ranks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the module; see the class."""
        return _shared(self, x) if self.training and summing() else super().forward(x)

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
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps))
        ctx.count = count
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, mean, inverse = ctx.saved_tensors
        axes = [axis for axis in range(x.dim()) if axis != 1]
        form = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        wide = gradient.to(weight.dtype)
        normal = (x.to(weight.dtype) - mean.view(form)) * inverse.view(form)
        of_bias, of_weight = wide.sum(axes), (wide * normal).sum(axes)
        means = total(torch.stack((of_bias, of_weight))) / ctx.count
        wide = wide - means[0].view(form) - normal * means[1].view(form)
        of_x = (weight * inverse).view(form) * wide
        return of_x.to(x.dtype), of_weight, of_bias, None, None, None, None


def _shared(norm: nn.BatchNorm2d | nn.BatchNorm3d, x: torch.Tensor) -> torch.Tensor:
    axes = [axis for axis in range(x.dim()) if axis != 1]
    own = torch.var_mean(x.detach().to(norm.weight.dtype), axes, correction=0)
    variances, means = gathered(torch.stack(own)).unbind(dim=1)  # each rank has as many patches
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

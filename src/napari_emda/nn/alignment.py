"""Distances between the features of two domains.

Every spatial position is a sample, with the channels as its features. Thus the distances do not
depend on where in a patch something lies.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Positions sampled per domain and level. With 256 channels MMD then takes 0.8 GFLOP, a training
# step of a 256-pixel patch 24 to 72; with all positions MMD would dominate the step.
POSITIONS = 512
# Rows per sample of which the median distance is estimated.
_MEDIAN_ROWS = 128
# A median of 0, of constant features, would divide by 0.
_SMALLEST_VARIANCE = 1e-6


def level_weights(levels: int) -> list[float]:
    """Weights of the encoder's levels 0 ... L.

    They increase with depth (Roels et al. 2019, section 3).

    Args:
        levels: L, at most 5.
    """
    # Two to three times as much from level to level. 0 at full resolution, where a position is
    # little more than a grey value.
    deepest = [0.02, 0.05, 0.1, 0.3, 1.0][-levels:]
    return [0.0] * (levels + 1 - len(deepest)) + deepest


def sample_positions(features: Tensor, count: int = POSITIONS) -> Tensor:
    """At most ``count`` positions of B x C x H x W as float32 rows n x C, without replacement."""
    rows = features.movedim(1, -1).reshape(-1, features.shape[1])
    if len(rows) > count:
        rows = rows[torch.randperm(len(rows), device=rows.device)[:count]]
    return rows.float()


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 of rows, n x m; rounding can make those of equal rows slightly negative."""
    # |x|^2 + |y|^2 - 2 x y: one matrix product instead of an n x m x C array of differences.
    norms = x.square().sum(1)[:, None] + y.square().sum(1)[None, :]
    return norms.addmm_(x, y.T, alpha=-2)


def median_distance(x: Tensor, y: Tensor) -> Tensor:
    """Median squared distance of the pooled rows, at least 1e-6, without a gradient.

    The heuristic of Gretton et al. 2012. Only the first 128 rows of each sample are used.
    """
    # Rows come in random order, so the first ones are a random subset. The median of a million
    # distances would cost more than all kernels.
    pooled = torch.cat([x[:_MEDIAN_ROWS], y[:_MEDIAN_ROWS]]).detach()
    return squared_distances(pooled, pooled).flatten().median().clamp(min=_SMALLEST_VARIANCE)


class MMD(NamedTuple):
    """Squared maximum mean discrepancy, estimated in two ways (Gretton et al. 2012, eqs. 3 and 5).

    Attributes:
        unbiased: the U-statistic, without pairs of equal rows, for the loss; can be negative.
        biased: the V-statistic, for reports; at least 0, and 0 for equal samples.
    """

    unbiased: Tensor
    biased: Tensor


def mmd(x: Tensor, y: Tensor, variance: Tensor | float | None = None, kernels: int = 5) -> MMD:
    """MMD^2 between two samples under the mean of Gaussian kernels exp(-d^2 / (2 variance)).

    Args:
        x: n x C rows, n > 1, in single or double precision.
        y: m x C rows, m > 1.
        variance: of the widest kernel; by default 4 times `median_distance`.
        kernels: number of kernels; each has half the variance of the one before. By default these
            are the median times 4, 2, 1, 1/2 and 1/4.
    """
    widest = 4 * median_distance(x, y) if variance is None else variance
    within_x = _KernelSum.apply(x, None, widest, kernels)
    within_y = _KernelSum.apply(y, None, widest, kernels)
    between = _KernelSum.apply(x, y, widest, kernels)
    n = len(x)
    m = len(y)
    cross = 2 * between / (n * m)
    unbiased = within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - cross
    # + n and + m: the kernel of a row with itself is 1.
    biased = (within_x + n) / n**2 + (within_y + m) / m**2 - cross
    return MMD(unbiased, biased)


class _KernelSum(torch.autograd.Function):
    """Sum of the mean of Gaussian kernels over all pairs of rows of x and y.

    Without y, over all pairs of different rows of x. Written by hand it takes a third of the time
    that autograd needs for the distances and kernels.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor | None, widest: Tensor | float, kernels: int
    ) -> Tensor:
        other = x if y is None else y
        distances = squared_distances(x, other).clamp_(min=0)
        # exp(-d / (2 v)) as a power of 2, which is several times faster than one of e.
        kernel = distances.mul_(math.log2(math.e) / (-2 * widest)).exp2_()
        slope = torch.zeros_like(kernel)
        total = torch.zeros((), dtype=x.dtype, device=x.device)
        for halvings in range(kernels):
            # Half the variance is the square of the kernel: only the widest needs an exponential.
            kernel = kernel.square_() if halvings else kernel
            total += kernel.sum() - (kernel.diagonal().sum() if y is None else 0)
            # d/dd exp(-2^h d / (2 v)) = -2^h / (2 v) exp(...): summed here for `backward`.
            slope.add_(kernel, alpha=2**halvings)
        ctx.save_for_backward(x, other, slope.div_(-2 * widest * kernels))
        ctx.within = y is None
        return total / kernels

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, y, slope = ctx.saved_tensors
        slope = gradients[0] * slope
        # d |x_i - y_j|^2 / d x_i = 2 (x_i - y_j), summed over j.
        to_x = 2 * (slope.sum(1)[:, None] * x - slope @ y)
        if ctx.within:
            # A row of x occurs on both sides of the symmetric matrix of distances.
            return 2 * to_x, None, None, None
        to_y = 2 * (slope.sum(0)[:, None] * y - slope.T @ x)
        return to_x, to_y, None, None


def covariance(x: Tensor) -> Tensor:
    """Covariance of rows, C x C, with 1 / (n - 1)."""
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


def coral(x: Tensor, y: Tensor) -> Tensor:
    """|cov(x) - cov(y)|_F^2 / (4 C^2) of rows n x C and m x C (CORAL, Sun & Saenko 2016, eq. 1)."""
    return (covariance(x) - covariance(y)).square().sum() / (4 * x.shape[1] ** 2)


def mean_distance(x: Tensor, y: Tensor) -> Tensor:
    """|mean(x) - mean(y)|^2 / C of rows n x C and m x C; CORAL does not see this difference."""
    return (x.mean(0) - y.mean(0)).square().mean()


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def reverse_gradient(x: Tensor, factor: float) -> Tensor:
    """The identity; its gradient is multiplied by ``-factor`` (Ganin & Lempitsky 2015)."""
    result: Tensor = _Reverse.apply(x, factor)
    return result


def adversarial_ramp(progress: float) -> float:
    """2 / (1 + exp(-10 p)) - 1 (Ganin & Lempitsky 2015).

    0 at the start, 0.85 after a quarter of the training, 1 at the end: at first the classifiers
    know nothing, and their reversed gradient would be noise.
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


def normalised_rows(rows: Tensor) -> Tensor:
    """Rows with mean 0 and standard deviation 1 each.

    Distances then do not depend on the scale of the features, nor a loss weight on the network.
    """
    return F.layer_norm(rows, rows.shape[1:])

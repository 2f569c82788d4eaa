"""Distances between the features of two domains; every spatial position counts as one sample."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

POSITIONS = 512
_POOLED = 128


def level_weights(levels: int) -> list[float]:
    """Weights of the encoder's levels 0 ... L (at most 5), increasing with depth (Roels et al. 2019, section 3).

    0 at full resolution, where a position is little more than a grey value.
    """
    deep = [0.02, 0.05, 0.1, 0.3, 1.0][-levels:]
    return [0.0] * (levels + 1 - len(deep)) + deep


def sample_positions(features: Tensor, count: int = POSITIONS) -> Tensor:
    """At most ``count`` positions of B x C x H x W, without replacement, as float32 rows: n x C."""
    rows = features.movedim(1, -1).reshape(-1, features.shape[1])
    if len(rows) > count:
        rows = rows[torch.randperm(len(rows), device=rows.device)[:count]]
    return rows.float()


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 of rows, n x m; by rounding those of equal rows may be a little below 0."""
    norms = x.square().sum(1)[:, None] + y.square().sum(1)[None, :]
    return norms.addmm_(x, y.T, alpha=-2)


def median_distance(x: Tensor, y: Tensor) -> Tensor:
    """Median squared distance of the pooled rows, at least 1e-6, without a gradient (Gretton et al. 2012).

    Of long samples the first 128 rows each are pooled: rows are drawn by lot, and a median of a million distances would
    cost more than all kernels.
    """
    pooled = torch.cat([x[:_POOLED], y[:_POOLED]]).detach()
    return squared_distances(pooled, pooled).flatten().median().clamp(min=1e-6)


class MMD(NamedTuple):
    """Squared maximum mean discrepancy, estimated in two ways (Gretton et al. 2012, eqs. 3 and 5).

    Attributes:
        unbiased: the U-statistic, without the distances of rows to themselves; may be below 0. For learning.
        biased: the V-statistic, 0 or more, and 0 for equal samples. For reporting.
    """

    unbiased: Tensor
    biased: Tensor


def mmd(x: Tensor, y: Tensor, variance: Tensor | float | None = None, kernels: int = 5) -> MMD:
    """MMD^2 between two samples under the mean of Gaussian kernels exp(-d^2 / (2 variance)).

    Args:
        x: n x C rows, n > 1, in single or double precision.
        y: m x C rows, m > 1.
        variance: of the widest kernel; by default 4 times `median_distance`.
        kernels: how many; each has half the variance of the one before: by default the median times 4, 2, 1, 1/2, 1/4.
    """
    widest = 4 * median_distance(x, y) if variance is None else variance
    within_x, within_y, between = (
        _KernelSum.apply(*rows, widest, kernels) for rows in ((x, None), (y, None), (x, y))
    )
    n, m = len(x), len(y)
    cross = 2 * between / (n * m)
    unbiased = within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - cross
    biased = (
        (within_x + n) / n**2 + (within_y + m) / m**2 - cross
    )  # a row's kernel with itself is 1
    return MMD(unbiased, biased)


class _KernelSum(torch.autograd.Function):
    """Sum of the mean of Gaussian kernels over all pairs of rows of x and y; without y, of different rows of x.

    Half the variance is the square of the kernel, and 2^x comes several times faster than e^x; the derivative is made
    in the same pass. By hand it costs a third of what autograd's way through the distances does.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor | None, widest: Tensor | float, kernels: int
    ) -> Tensor:
        other = x if y is None else y
        kernel = (
            squared_distances(x, other)
            .clamp_(min=0)
            .mul_(math.log2(math.e) / (-2 * widest))
            .exp2_()
        )
        slope, total = torch.zeros_like(kernel), torch.zeros((), dtype=x.dtype, device=x.device)
        for halvings in range(kernels):
            kernel = kernel.square_() if halvings else kernel
            total += kernel.sum() - (kernel.diagonal().sum() if y is None else 0)
            slope.add_(kernel, alpha=2**halvings)
        ctx.save_for_backward(x, other, slope.div_(-2 * widest * kernels))
        ctx.within = y is None
        return total / kernels

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, y, slope = ctx.saved_tensors
        slope = gradients[0] * slope
        to_x = 2 * (
            slope.sum(1)[:, None] * x - slope @ y
        )  # d |x_i - y_j|^2 / d x_i = 2 (x_i - y_j)
        if ctx.within:
            return 2 * to_x, None, None, None
        return to_x, 2 * (slope.sum(0)[:, None] * y - slope.T @ x), None, None


def covariance(x: Tensor) -> Tensor:
    """Covariance of rows, C x C, with 1 / (n - 1)."""
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


def coral(x: Tensor, y: Tensor) -> Tensor:
    """CORAL distance |cov(x) - cov(y)|_F^2 / (4 C^2) of rows n x C and m x C (Sun & Saenko 2016, eq. 1)."""
    return (covariance(x) - covariance(y)).square().sum() / (4 * x.shape[1] ** 2)


def mean_distance(x: Tensor, y: Tensor) -> Tensor:
    """|mean(x) - mean(y)|^2 / C: what CORAL is blind to."""
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
    """The identity, whose gradient is multiplied by ``-factor`` (Ganin & Lempitsky 2015)."""
    reversed_: Tensor = _Reverse.apply(x, factor)
    return reversed_


def adversarial_ramp(progress: float) -> float:
    """2 / (1 + exp(-10 p)) - 1 (Ganin & Lempitsky 2015): 0 at the start, 0.85 at a quarter, 1 at the end."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


def normalised_rows(rows: Tensor) -> Tensor:
    """Rows of mean 0 and standard deviation 1, so that distances do not depend on the scale of the features."""
    return F.layer_norm(rows, rows.shape[1:])

"""Distances between the features of two domains; every spatial position counts as one sample."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

POSITIONS = 512
_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def level_weights(levels: int) -> list[float]:
    """Weights of the encoder's levels 0 ... L, increasing with depth (Roels et al. 2019, section 3)."""
    deep = [0.05, 0.1, 0.3, 1.0][-levels:]
    return [0.0] * (levels + 1 - len(deep)) + deep


def sample_positions(features: Tensor, count: int = POSITIONS) -> Tensor:
    """At most ``count`` positions of B x C x H x W, without replacement, as float32 rows: n x C."""
    rows = features.movedim(1, -1).reshape(-1, features.shape[1])
    if len(rows) > count:
        rows = rows[torch.randperm(len(rows), device=rows.device)[:count]]
    return rows.float()


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 of rows, n x m, never negative."""
    return (x.square().sum(1)[:, None] + y.square().sum(1)[None, :] - 2 * x @ y.T).clamp(min=0)


def mmd(x: Tensor, y: Tensor, variances: list[float] | Tensor | None = None, *, unbiased: bool = True) -> Tensor:
    """Squared maximum mean discrepancy between two samples, mean over Gaussian kernels exp(-d^2 / (2 variance)).

    Args:
        x: n x C rows.
        y: m x C rows.
        variances: of the kernels; by default m * {1/4, 1/2, 1, 2, 4}, m the median squared distance of the pooled rows
            (Gretton et al. 2012), without a gradient.
        unbiased: the U-statistic, without the diagonals, which may be below 0; else the V-statistic, 0 or more.
    """
    pooled = torch.cat([x, y]).float()
    distances = squared_distances(pooled, pooled)
    if variances is None:
        # the lower triangle would hold every pair once; the median of the whole differs by the zero diagonal alone
        median = distances.detach().flatten().median().clamp(min=1e-6)
        variances = median * torch.tensor(_BANDWIDTHS, device=pooled.device)
    kernel = torch.stack([torch.exp(-distances / (2 * variance)) for variance in variances]).mean(0)
    n, m = len(x), len(y)
    xx, yy, xy = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    if not unbiased:
        return xx.mean() + yy.mean() - 2 * xy.mean()
    inner = (xx.sum() - xx.diagonal().sum()) / (n * (n - 1)) + (yy.sum() - yy.diagonal().sum()) / (m * (m - 1))
    return inner - 2 * xy.mean()


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

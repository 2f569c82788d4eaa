"""Turning, scaling and blurring whole batches with few kernels, none of which the processor waits for."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def similarity_grid(scale: Tensor, angle: Tensor, size: tuple[int, int]) -> Tensor:
    """Where to sample patches so that they are scaled and turned about their centre.

    The inverse of a similarity is a similarity, so nothing has to be inverted numerically.

    Args:
        scale: of each patch, B; 2 makes everything in it twice as large.
        angle: of each patch in radians, B; from the x axis towards the y axis, which points down.
        size: height and width in pixels.

    Returns:
        B x H x W x 2 for `torch.nn.functional.grid_sample` with ``align_corners``.
    """
    height, width = size
    y = torch.linspace(-1, 1, height, device=scale.device).view(-1, 1)
    x = torch.linspace(-1, 1, width, device=scale.device)
    cos = (angle.cos() / scale).view(-1, 1, 1)
    sin = (angle.sin() / scale).view(-1, 1, 1)
    # In the coordinates of grid_sample both sides go from -1 to 1, however long they are.
    aspect = max(height - 1, 1) / max(width - 1, 1)
    # Not by affine_grid: it multiplies matrices, which autocast does in bfloat16.
    return torch.stack([cos * x + sin * aspect * y, cos * y - sin / aspect * x], dim=-1)


def sampled(
    maps: Tensor,
    grid: Tensor,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    padding: Literal["zeros", "reflection"] = "zeros",
) -> Tensor:
    """Maps B x C x H x W at the places of a grid, in float32; beyond the edge zeros or mirror images."""
    return F.grid_sample(maps.float(), grid, mode, padding, align_corners=True).to(maps.dtype)


def blurred(image: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Gaussian blur, each patch by its own standard deviation; mirrored at the edges, which are not repeated.

    Args:
        image: B x C x H x W.
        sigma: B, in pixels.
        radius: of the kernel, in pixels; H and W are larger.
    """
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    weights = (-(offsets**2) / (2 * sigma.view(-1, 1) ** 2)).exp()
    weights = (weights / weights.sum(1, keepdim=True)).view(len(sigma), -1, 1, 1, 1)
    for axis, border in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        padded = F.pad(image, border, mode="reflect")
        size = image.shape[axis]
        image = padded.narrow(axis, 0, size) * weights[:, 0]
        for tap in range(1, 2 * radius + 1):
            image.addcmul_(padded.narrow(axis, tap, size), weights[:, tap])
    return image

"""Rotating, scaling and blurring whole batches on a GPU.

Few kernels are launched, and the host waits for none of them.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def similarity_grid(scale: Tensor, angle: Tensor, size: tuple[int, int]) -> Tensor:
    """Where to sample patches so that they are scaled and rotated about their centre.

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
    # The inverse of x -> scale R(angle) x is x -> R(-angle) x / scale: no matrix is inverted.
    cos = (angle.cos() / scale).view(-1, 1, 1)
    sin = (angle.sin() / scale).view(-1, 1, 1)
    # In the coordinates of grid_sample both sides go from -1 to 1, whatever their length. Without
    # this factor, rotation would shear patches that are not square.
    aspect = max(height - 1, 1) / max(width - 1, 1)
    # Not by affine_grid: it multiplies matrices, which autocast does in bfloat16, and positions
    # need more than its eight bits.
    return torch.stack([cos * x + sin * aspect * y, cos * y - sin / aspect * x], dim=-1)


def sampled(
    maps: Tensor,
    grid: Tensor,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    padding: Literal["zeros", "reflection"] = "zeros",
) -> Tensor:
    """Sample maps B x C x H x W at the positions of a grid; the dtype stays.

    Args:
        maps: computed with in float32, also under autocast.
        grid: B x H' x W' x 2, from `similarity_grid`.
        mode: of interpolation; ``nearest`` for class ids.
        padding: what lies beyond the edges: 0 or the mirror image.
    """
    return F.grid_sample(maps.float(), grid, mode, padding, align_corners=True).to(maps.dtype)


def blurred(image: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Gaussian blur with a standard deviation per patch, mirrored at the edges.

    Edge pixels are not repeated (SciPy's mode ``mirror``).

    Args:
        image: B x C x H x W.
        sigma: standard deviations in pixels, B.
        radius: of the kernel, in pixels; H and W must be larger.
    """
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    weights = (-(offsets**2) / (2 * sigma.view(-1, 1) ** 2)).exp()
    weights = (weights / weights.sum(1, keepdim=True)).view(len(sigma), -1, 1, 1, 1)
    # The kernel is separable: columns, then rows. Adding shifted images is a few kernels a batch, a
    # convolution with one kernel per patch would need a group per patch.
    for axis, border in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        padded = F.pad(image, border, mode="reflect")
        size = image.shape[axis]
        image = padded.narrow(axis, 0, size) * weights[:, 0]
        for tap in range(1, 2 * radius + 1):
            image.addcmul_(padded.narrow(axis, tap, size), weights[:, tap])
    return image

"""Histogram matching as a lookup table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class HistogramMatch(nn.Module):
    """The monotone map of grey values T(v) = F_t^-1(F_s(v)), as a table kept in the checkpoint.

    F_s and F_t are the distribution functions of whole volumes, so that the content of a single
    patch does not change the map. It is linear between quantiles. Grey values beyond the extremes
    are shifted like the nearest extreme.

    Args:
        source, target: standardised quantiles at equal levels, increasing, 513 each.
        padding: standardised grey values of padding, which stay as they are.
    """

    def __init__(
        self,
        source: NDArray[np.float64],
        target: NDArray[np.float64],
        padding: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.padding = tuple(padding)
        # Quantiles that share a grey value become one entry with their mean level; otherwise the
        # distribution function would have several values there.
        values, index = np.unique(np.asarray(source), return_inverse=True)
        levels = np.bincount(index, np.linspace(0, 1, len(source))) / np.bincount(index)
        mapped = np.interp(levels, np.linspace(0, 1, len(target)), target)
        # Equally spaced entries are found by a division instead of a search; with four times as
        # many as quantiles, little is lost where quantiles lie close together.
        grid = np.linspace(values[0], values[-1], 4 * len(source))
        self.low: Tensor
        self.step: Tensor
        self.table: Tensor
        # The step of an image of one grey value would be 0.
        step = max(grid[1] - grid[0], 1e-12)
        self.register_buffer("low", torch.tensor(grid[0], dtype=torch.float32))
        self.register_buffer("step", torch.tensor(step, dtype=torch.float32))
        table = np.interp(grid, values, mapped)
        self.register_buffer("table", torch.tensor(table, dtype=torch.float32))

    def forward(self, image: Tensor) -> Tensor:
        """Map standardised grey values of any shape."""
        position = (image - self.low) / self.step
        inside = position.clamp(0, len(self.table) - 1)
        index = inside.long().clamp(max=len(self.table) - 2)
        value = torch.lerp(self.table[index], self.table[index + 1], inside - index)
        # Beyond the extremes the slope is 1.
        mapped = value + (position - inside) * self.step
        for grey in self.padding:
            mapped = torch.where(image == grey, image, mapped)
        return mapped

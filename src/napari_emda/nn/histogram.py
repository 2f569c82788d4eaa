"""Histogram matching as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class HistogramMatch(nn.Module):
    """The monotone map of grey values T(v) = F_t^-1(F_s(v)), as a table of quantiles kept in the checkpoint.

    Volume-pooled, so the content of a single patch never changes the map; linear between quantiles and, beyond the
    extremes, shifted along with them.

    Args:
        source, target: standardised quantiles at equal levels, increasing, 513 each.
        padding: standardised grey values that are no content and stay as they are.
    """

    def __init__(
        self,
        source: NDArray[np.float64],
        target: NDArray[np.float64],
        padding: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.padding = tuple(padding)
        # equal grey values (plateaus of the histogram) become one entry: their mean level
        values, index = np.unique(np.asarray(source), return_inverse=True)
        levels = np.bincount(index, np.linspace(0, 1, len(source))) / np.bincount(index)
        mapped = np.interp(levels, np.linspace(0, 1, len(target)), target)
        grid = np.linspace(values[0], values[-1], 4 * len(source))
        self.low: Tensor
        self.step: Tensor
        self.table: Tensor
        self.register_buffer("low", torch.tensor(grid[0], dtype=torch.float32))
        self.register_buffer(
            "step", torch.tensor(max(grid[1] - grid[0], 1e-12), dtype=torch.float32)
        )
        self.register_buffer(
            "table", torch.tensor(np.interp(grid, values, mapped), dtype=torch.float32)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map standardised grey values of any shape."""
        position = (image - self.low) / self.step
        inside = position.clamp(0, len(self.table) - 1)
        index = inside.long().clamp(max=len(self.table) - 2)
        value = torch.lerp(self.table[index], self.table[index + 1], inside - index)
        mapped = value + (position - inside) * self.step
        for grey in self.padding:
            mapped = torch.where(image == grey, image, mapped)
        return mapped

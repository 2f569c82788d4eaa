"""Weights that bring one axis of an image to another pixel size."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def interval_weights(
    start: int, stop: int, scale: float, size: int
) -> tuple[int, NDArray[np.float32]]:
    """Weights that bring one axis to another pixel size.

    Output pixel ``i`` covers the input interval [i / scale, (i + 1) / scale). Shrinking (scale < 1)
    takes the mean over that interval (binning, if the factor is an integer), enlarging interpolates
    linearly between pixel centres. The weights depend only on absolute positions, so a block agrees
    with the whole.

    Args:
        start: first output pixel.
        stop: one past the last.
        scale: output pixels per input pixel.
        size: input pixels along the axis.

    Returns:
        The first input pixel needed and the weights, (stop - start) x (input pixels needed).
    """
    i = np.arange(start, stop, dtype=np.float64)
    if scale < 1:
        low = i / scale
        high = np.minimum((i + 1) / scale, size)
    else:
        centre = np.clip((i + 0.5) / scale - 0.5, 0, size - 1)
        low = np.floor(centre)
        high = np.minimum(low + 2, size)
    # 1e-9: without it, ends that rounding has moved past a whole pixel would need one more.
    j = np.arange(math.floor(low[0] + 1e-9), math.ceil(high[-1] - 1e-9))
    if scale < 1:
        weights = np.clip(np.minimum(high[:, None], j + 1) - np.maximum(low[:, None], j), 0, 1)
    else:
        weights = np.clip(1 - np.abs(centre[:, None] - j), 0, 1)
    return int(j[0]), (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def weighted_sums(
    rows: NDArray[np.float32], values: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Bring sections to another pixel size by the weights of their rows and columns.

    Args:
        rows: output rows x input rows.
        values: sections x input rows x input columns.
        columns: output columns x input columns.

    Returns:
        Sections x output rows x output columns.
    """
    # Some kernels of OpenBLAS compute more lanes than there are numbers. Now and then such a lane
    # raises the flag of an invalid operation, while no result is one (numpy issue 24067).
    with np.errstate(invalid="ignore"):
        # Two matrix products, because the weights of rows and columns are separate.
        sums: NDArray[np.float32] = np.matmul(np.matmul(rows, values), columns.T)
    return sums

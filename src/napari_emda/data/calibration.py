"""Calibration of stored probabilities by two numbers, so that 0.5 is the best threshold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from napari_emda.data.array import Array
from napari_emda.data.probabilities import CERTAIN, LEVELS, against_background

# What a stored probability of 0 stands for is anything below half a level, and 255 likewise.
LOGITS: NDArray[np.float64] = np.log((np.arange(LEVELS) + 0.5) / (LEVELS - 0.5 - np.arange(LEVELS)))
"""The log odds of each stored probability."""
# Bounds of what a file may say. Slopes outside them would make all probabilities alike, or a step;
# an offset of 20 takes the lowest stored probability beyond the highest.
SLOPES = (0.01, 100.0)
LARGEST_OFFSET = 20.0


@dataclass(frozen=True)
class Calibration:
    """A change of the log odds of the foreground, x -> slope x + offset - logit(threshold).

    Attributes:
        slope: above 1 where the model is too cautious, below 1 where it is too sure.
        offset: above 0 where the model finds too little.
        threshold: calibrated probability from which on a voxel is foreground in the best mask; it
            becomes 0.5, the threshold that all masks begin with.
    """

    slope: float
    offset: float
    threshold: float = 0.5

    def __post_init__(self) -> None:
        in_bounds = (
            SLOPES[0] <= self.slope <= SLOPES[1]
            and abs(self.offset) <= LARGEST_OFFSET
            and 0 < self.threshold < 1
        )
        # Also for NaN, of which no comparison is true.
        if not in_bounds:
            raise ValueError("The numbers of the calibration are out of bounds")

    @cached_property
    def table(self) -> NDArray[np.uint8]:
        """The calibrated probability of each stored one, uint8; it never falls."""
        odds = self.slope * LOGITS + self.offset - logit(self.threshold)
        table = np.floor(CERTAIN * expit(odds) + 0.5).astype(np.uint8)
        # Where nothing was predicted at all, nothing is: most of a volume stays empty chunks.
        table[0] = 0
        return table

    @property
    def first_level(self) -> int:
        """The lowest stored probability that is foreground at a threshold of 0.5; 256 if none."""
        return int(np.searchsorted(self.table, LEVELS // 2))


class Calibrated:
    """Stored probabilities after a calibration, (C - 1, z, y, x) uint8; read where sliced.

    With several foreground classes, the odds of the best one against the background are calibrated.
    The others keep their ratio to it, so no voxel moves from one foreground class to another.

    Args:
        probabilities: as they are stored.
        calibration: of them.

    Attributes:
        shape: (C - 1, z, y, x).
        chunks: those of the stored probabilities.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, probabilities: Array, calibration: Calibration) -> None:
        self._probabilities = probabilities
        self.calibration = calibration
        self.shape = tuple(probabilities.shape)
        self.chunks = getattr(probabilities, "chunks", None)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Slice like NumPy; the first entry, an integer or a slice, selects classes."""
        if self.shape[0] == 1:
            return np.asarray(self.calibration.table[np.asarray(self._probabilities[key])])
        selected, *position = key if isinstance(key, tuple) else (key,)
        # What a class becomes depends on all of them.
        stored = np.asarray(self._probabilities[(slice(None), *position)])
        return calibrated(stored, self.calibration)[selected]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


def calibrated(stored: NDArray[np.uint8], calibration: Calibration) -> NDArray[np.uint8]:
    """Calibrate the probabilities of all foreground classes, see `Calibrated`.

    Args:
        stored: (C - 1, ...) uint8.
        calibration: of them.
    """
    if len(stored) == 1:
        return np.asarray(calibration.table[stored])
    ids, share = against_background(stored)
    # Of the best class k: share r = p_k / (p_k + p_0), afterwards. All foreground probabilities are
    # multiplied by the same c, and the background gets c p_k (1 - r) / r, so that the sum is 1.
    wanted = calibration.table[share] / CERTAIN
    foreground = stored.sum(axis=0, dtype=np.int32)
    best = np.take_along_axis(stored, ids[None].astype(np.intp) - 1, axis=0)[0]
    # r is 0 only where no class has any probability worth mentioning.
    background = best * (1 - wanted) / np.maximum(wanted, 0.5 / CERTAIN)
    factor = CERTAIN / np.maximum(foreground + background, 1)
    values = np.floor(stored * factor).astype(np.int32)
    # Rounded up where the others are rounded down: the best class stays the best. And it reaches
    # the background exactly where its share says so, whatever rounding does to both.
    others = values.sum(axis=0) - np.take_along_axis(values, ids[None].astype(np.intp) - 1, 0)[0]
    left = CERTAIN - others
    top = np.ceil(best * factor).astype(np.int32)
    is_foreground = calibration.table[share] >= LEVELS // 2
    top = np.where(
        is_foreground, np.maximum(top, (left + 1) // 2), np.minimum(top, (left - 1) // 2)
    )
    np.put_along_axis(values, ids[None].astype(np.intp) - 1, np.clip(top, 0, left)[None], axis=0)
    return values.astype(np.uint8)

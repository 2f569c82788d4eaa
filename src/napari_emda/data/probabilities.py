"""Probabilities as they are stored, and what follows from them: class ids, masks, the probability of one class.

A prediction is stored as uint8 (C - 1, z, y, x): 255 times the probability of the classes 1 ... C - 1. Background,
class 0, has what is left to 255. Everything that turns probabilities into classes does so here, so that the mask on
view is the mask that is exported and the one that is scored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import chunk_shape
from napari_emda.data.lazy import Lazy3D

LEVELS = 256
"""Values that a stored probability can take."""
CERTAIN = LEVELS - 1
"""What a probability of 1 is stored as."""
_ROUNDING = 1e-9
"""0.2 * 255 is a little more than 51 in floating point: so much above an integer still counts as that integer."""


def stored_threshold(fraction: float) -> int:
    """The lowest stored probability that reaches a fraction: 128 for 0.5. 0 never reaches one."""
    return int(_lowest_shares(fraction)[CERTAIN])


def _lowest_shares(fraction: float) -> NDArray[np.uint8]:
    """For each whole from 0 to 255, the lowest part of it that reaches a fraction; at least 1."""
    shares = np.ceil(fraction * np.arange(LEVELS) - _ROUNDING)
    return np.maximum(shares, 1).astype(np.uint8)


def class_ids(probabilities: NDArray[np.uint8], threshold: float = 0.5) -> NDArray[np.uint8]:
    """The class of each voxel, 0 being background.

    The most probable foreground class k (the lower id on a tie) is compared with background alone: a voxel is of class
    k where p_k / (p_k + p_0) reaches the threshold, and background elsewhere. With one foreground class that is
    p_1 ≥ threshold. At 0.5 it is the most probable of all classes. A higher threshold takes voxels from every class,
    and never moves one from one foreground class to another.

    Args:
        probabilities: (C - 1, ...) uint8, stored probabilities of the classes 1 to C - 1.
        threshold: above 0, at most 1.

    Returns:
        Class ids, uint8, shaped as one channel.
    """
    best = probabilities[0].copy()
    ids = np.ones(probabilities.shape[1:], np.uint8)
    for index in range(1, len(probabilities)):  # argmax along a first axis takes twice as long
        np.copyto(ids, index + 1, where=probabilities[index] > best)
        np.maximum(best, probabilities[index], out=best)
    if len(probabilities) == 1:
        return np.where(best >= stored_threshold(threshold), ids, np.uint8(0))
    background = np.maximum(CERTAIN - probabilities.sum(axis=0, dtype=np.int32), 0)
    lowest = _lowest_shares(threshold)[best + background]
    return np.where(best >= lowest, ids, np.uint8(0))


class _OfProbabilities(Lazy3D):
    """A uint8 (z, y, x) volume that follows from stored probabilities, computed where it is sliced.

    Attributes:
        probabilities: uint8 (C - 1, z, y, x); others of the same shape may take their place.
        chunks: in which they are stored.
    """

    def __init__(self, probabilities: Array) -> None:
        z, y, x = probabilities.shape[1:]
        super().__init__((z, y, x), np.uint8)
        self.probabilities = probabilities
        self.chunks = chunk_shape(probabilities)


class ClassProbability(_OfProbabilities):
    """The stored probability of one class.

    Args:
        probabilities: uint8 (C - 1, z, y, x).
        class_id: from 1.
    """

    def __init__(self, probabilities: Array, class_id: int) -> None:
        super().__init__(probabilities)
        self._channel = class_id - 1

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        return np.asarray(self.probabilities[self._channel, z, y, x])


class Mask(_OfProbabilities):
    """The class of each voxel by `class_ids`.

    Attributes:
        threshold: may be changed; what is sliced next follows it.
    """

    def __init__(self, probabilities: Array, threshold: float = 0.5) -> None:
        super().__init__(probabilities)
        self.threshold = threshold

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        return class_ids(np.asarray(self.probabilities[:, z, y, x]), self.threshold)

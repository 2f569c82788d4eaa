"""Stored probabilities, and what follows from them: class ids, masks, single classes.

A prediction is stored as uint8 (C - 1, z, y, x): 255 times the probability of the classes
1 ... C - 1. The rest to 255 is that of the background, class 0. All code that turns probabilities
into classes is here, so that the mask in the viewer is the one that is exported and scored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from napari_emda.data.array import Array
from napari_emda.data.blocks import chunk_shape
from napari_emda.data.lazy import Lazy3D

LEVELS = 256
"""Number of values that a stored probability can have."""
CERTAIN = LEVELS - 1
"""The stored value of a probability of 1."""
# 0.2 * 255 is a little more than 51 in floating point, and would be rounded up to 52.
_ROUNDING = 1e-9


def stored_threshold(fraction: float) -> int:
    """The lowest stored probability that reaches a fraction, such as 128 for 0.5; at least 1."""
    return int(_lowest_shares(fraction)[CERTAIN])


def _lowest_shares(fraction: float) -> NDArray[np.uint8]:
    """For each total from 0 to 255, the lowest part of it that reaches a fraction; at least 1."""
    shares = np.ceil(fraction * np.arange(LEVELS) - _ROUNDING)
    return np.maximum(shares, 1).astype(np.uint8)


def class_ids(probabilities: NDArray[np.uint8], threshold: float = 0.5) -> NDArray[np.uint8]:
    """The class of each voxel, 0 being background.

    The most probable foreground class k (the lower id on a tie) is compared with the background
    alone: a voxel is of class k if p_k / (p_k + p_0) reaches the threshold, and background
    otherwise. With one foreground class that is p_1 ≥ threshold. At 0.5 the most probable of all
    classes wins. A higher threshold takes voxels from every class, and never moves a voxel from one
    foreground class to another.

    Args:
        probabilities: (C - 1, ...) uint8, stored probabilities of the classes 1 to C - 1.
        threshold: above 0, at most 1.

    Returns:
        Class ids, uint8, shaped as one channel.
    """
    ids, best = _strongest(probabilities)
    if len(probabilities) == 1:
        return np.where(best >= stored_threshold(threshold), ids, np.uint8(0))
    # Ours never add up to more than 255, but arrays of other programs may.
    background = np.maximum(CERTAIN - probabilities.sum(axis=0, dtype=np.int32), 0)
    # A table of 256 entries instead of a division for every voxel.
    lowest = _lowest_shares(threshold)[best + background]
    return np.where(best >= lowest, ids, np.uint8(0))


def _strongest(probabilities: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The most probable foreground class of each voxel, from 1, and its stored probability."""
    best = probabilities[0].copy()
    ids = np.ones(probabilities.shape[1:], np.uint8)
    # Channel by channel, because argmax along the first axis takes twice as long.
    for index in range(1, len(probabilities)):
        np.copyto(ids, index + 1, where=probabilities[index] > best)
        np.maximum(best, probabilities[index], out=best)
    return ids, best


def against_background(
    probabilities: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """What `class_ids` goes by: the best foreground class, and its share against the background.

    Args:
        probabilities: (C - 1, ...) uint8, stored probabilities of the classes 1 to C - 1.

    Returns:
        Ids of the most probable foreground class k, from 1, and 255 p_k / (p_k + p_0), rounded;
        both uint8, shaped as one channel. The share is 128 or more exactly where the voxel is of
        class k at a threshold of 0.5. With one foreground class it is the stored probability.
    """
    ids, best = _strongest(probabilities)
    if len(probabilities) == 1:
        return ids, best
    background = np.maximum(CERTAIN - probabilities.sum(axis=0, dtype=np.int32), 0)
    total = np.maximum(best + background, 1)
    # Rounded half up, so that a tie with the background, 127.5, is foreground as in `class_ids`.
    share = (2 * CERTAIN * best.astype(np.int32) + total) // (2 * total)
    return ids, share.astype(np.uint8)


class _OfProbabilities(Lazy3D):
    """A uint8 (z, y, x) volume that is computed from stored probabilities where it is sliced.

    Attributes:
        probabilities: uint8 (C - 1, z, y, x); may be replaced by others of the same shape.
        chunks: (z, y, x) chunks in which they are stored.
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


class Entropy(_OfProbabilities):
    """Entropy over classes as a share of its maximum log C, 255 being the maximum.

    It is less exact than the entropy that a prediction stores, because probabilities are rounded.
    """

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        foreground = np.asarray(self.probabilities[:, z, y, x]) / np.float32(CERTAIN)
        # H = - sum over classes of p log p; entr(p) is -p log p, and 0 for p = 0. The background is
        # not stored: it has what the others leave to 1.
        entropy = entr(foreground).sum(0) + entr(1 - foreground.sum(0))
        share = np.clip(entropy / np.log(1 + len(foreground)), 0, 1)
        return np.asarray(np.rint(CERTAIN * share), np.uint8)


class Mask(_OfProbabilities):
    """The class of each voxel by `class_ids`.

    Attributes:
        threshold: may be changed; the next slice follows it.
    """

    def __init__(self, probabilities: Array, threshold: float = 0.5) -> None:
        super().__init__(probabilities)
        self.threshold = threshold

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        return class_ids(np.asarray(self.probabilities[:, z, y, x]), self.threshold)

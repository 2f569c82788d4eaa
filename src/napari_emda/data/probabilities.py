"""From stored probabilities to classes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
"""Values that a stored probability can take."""


def stored_threshold(fraction: float) -> int:
    """The lowest stored probability that reaches a fraction: 128 for 0.5."""
    return math.ceil(fraction * (LEVELS - 1) - 1e-9)


def class_ids(probabilities: NDArray[np.uint8], threshold: float = 0.5) -> NDArray[np.uint8]:
    """The class of each voxel, 0 being background.

    Args:
        probabilities: (C - 1, ...) stored probabilities of classes 1 to C - 1; background has the rest of 255.
        threshold: fraction from which a voxel is foreground when there is one foreground class; several classes
            compete instead (the most probable wins, the lower id on a tie) and do not look at it.

    Returns:
        Class ids, shaped as one channel.
    """
    if len(probabilities) == 1:
        return (probabilities[0] >= stored_threshold(threshold)).astype(np.uint8)
    best, ids = probabilities[0].copy(), np.ones(probabilities.shape[1:], np.uint8)
    for index in range(1, len(probabilities)):  # argmax along a first axis takes twice as long
        np.copyto(ids, index + 1, where=probabilities[index] > best)
        np.maximum(best, probabilities[index], out=best)
    background = LEVELS - 1 - probabilities.sum(axis=0, dtype=np.int16)
    return np.where(background >= best, np.uint8(0), ids)

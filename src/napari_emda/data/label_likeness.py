"""Tells labels from images by their numbers."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from napari_emda.data.array import Array

# Sections that are read, and rows of each, evenly spaced: they cross the structures of the whole
# volume, and are compared in a moment.
_SECTIONS = 5
_ROWS = 96
# Values of a mask. Grey values are more, even of an image of low contrast.
_VALUES_OF_A_MASK = 4
# Share of pixels with the value of the pixel beside them, the most common value aside. In labels of
# objects it is above .8 from ten pixels of diameter on, in electron micrographs below .2.
_EQUAL_NEIGHBOURS = 0.6
# Side in pixels of the sections in which pieces are searched for: objects of a hundredth of a
# section are still ten pixels wide, and five sections take a moment.
_SIDE = 1024

Likeness = Literal["image", "labels", "labels with NaN"]
"""Some programs write NaN into a mask where nobody looked."""


def likeness(array: Array) -> Likeness:
    """What the numbers of an array (z, y, x) look like: grey values, or a mask or objects."""
    if np.dtype(array.dtype).kind not in "buif" or min(array.shape) < 1:
        return "image"
    rows = slice(None, None, -(-array.shape[1] // _ROWS))
    values = np.stack([np.asarray(array[z])[rows] for z in _sections(array)])
    if values.dtype.kind != "f":
        return "labels" if _are_labels(values) else "image"
    nan = np.isnan(values)
    # No label has this number: voxels with NaN have the same value, as objects do.
    values = np.where(nan, -np.inf, values)
    # Labels are whole numbers, also where a program has stored them as decimal ones.
    if not (values == np.round(values)).all() or not _are_labels(values):
        return "image"
    return "labels with NaN" if nan.any() else "labels"


def seems_labels(array: Array) -> bool:
    """Whether an array (z, y, x) looks like a mask or labels of objects, not like grey values."""
    return likeness(array) != "image"


def _are_labels(values: NDArray[np.generic]) -> bool:
    """Whether whole numbers (sections, rows, columns) are those of a mask or of objects."""
    numbers, counts = np.unique(values, return_counts=True)
    # A single value is nothing in particular: a layer that is still empty, or padding.
    if len(numbers) <= _VALUES_OF_A_MASK:
        return len(numbers) > 1
    left = values[..., :-1]
    # Background and padding are uniform in both kinds of images, and say nothing.
    inside = left != numbers[counts.argmax()]
    return bool((left == values[..., 1:])[inside].mean() > _EQUAL_NEIGHBOURS)


def holds_pieces(labels: Array) -> bool:
    """Whether 0 lies in labels (z, y, x) in pieces, as objects do, rather than around them.

    More than half of its pixels belong to pieces that do not reach the edge of their section.
    """
    step = -(-max(labels.shape[1:]) // _SIDE)
    thin = (slice(None, None, step), slice(None, None, step))
    zeros = [np.asarray(labels[z])[thin] == 0 for z in _sections(labels)]
    inside = sum(int(_inside(zero).sum()) for zero in zeros)
    return inside > sum(int(zero.sum()) for zero in zeros) / 2


def _inside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pieces of a mask (rows x columns) that do not reach its edge."""
    numbers, _ = label(mask)
    edges = (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1])
    return mask & ~np.isin(numbers, np.concatenate(edges))


def _sections(array: Array) -> list[int]:
    depth = array.shape[0]
    evenly = np.linspace(0, depth - 1, min(depth, _SECTIONS))
    chosen: list[int] = np.unique(evenly.astype(int)).tolist()
    return chosen

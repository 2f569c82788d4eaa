"""Tells labels from images by their numbers."""

from __future__ import annotations

import numpy as np

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


def seems_labels(array: Array) -> bool:
    """Whether an array (z, y, x) looks like a mask or labels of objects, not like grey values."""
    if np.dtype(array.dtype).kind not in "buif" or min(array.shape) < 1:
        return False
    depth, height, _ = array.shape
    sections = np.unique(np.linspace(0, depth - 1, min(depth, _SECTIONS)).astype(int))
    rows = slice(None, None, -(-height // _ROWS))
    values = np.stack([np.asarray(array[z])[rows] for z in sections.tolist()])
    # Labels are whole numbers, also where a program has stored them as decimal ones.
    if values.dtype.kind == "f" and not (values == np.round(values)).all():
        return False
    numbers, counts = np.unique(values, return_counts=True)
    # A single value is nothing in particular: a layer that is still empty, or padding.
    if len(numbers) <= _VALUES_OF_A_MASK:
        return len(numbers) > 1
    left = values[..., :-1]
    # Background and padding are uniform in both kinds of images, and say nothing.
    inside = left != numbers[counts.argmax()]
    return bool((left == values[..., 1:])[inside].mean() > _EQUAL_NEIGHBOURS)

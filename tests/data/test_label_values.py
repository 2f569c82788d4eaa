"""Numbers in labels that stand for no class are found, wherever they lie."""

from __future__ import annotations

import numpy as np
import pytest

from napari_emda.data.box import Box
from napari_emda.data.label_values import not_annotations, wrong_numbers

SHAPE = (3, 8, 10)
HALVES = [Box((0, 0, 0), (3, 8, 4)), Box((0, 0, 4), (3, 8, 10))]


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (3, np.uint8),
        (255, np.uint8),
        (256, np.uint16),
        (-1, np.int8),
        (1.5, np.float32),
        (np.nan, float),
        (np.inf, float),
    ],
)
def test_a_number_that_is_no_class_is_found_with_its_place(number, dtype):
    values = np.full(SHAPE, 2, dtype)
    values[1, 2, 3:6] = number
    values[2, 7, 9] = number
    found = wrong_numbers(values, not_annotations(2), HALVES)
    # The three voxels lie in both halves.
    assert list(found.counts.values()) == [4]
    assert found.boxes == {1: Box((1, 2, 3), (2, 3, 6)), 2: Box((2, 7, 9), (3, 8, 10))}
    assert found.in_words() == (
        f"{number:g} in 4 voxels of section 1 (y 2 to 2, x 3 to 5) and 1 other section"
    )


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_classes_and_unpainted_voxels_are_right(dtype):
    values = (np.arange(240).reshape(SHAPE) % (2 if dtype is bool else 3)).astype(dtype)
    assert not wrong_numbers(values, not_annotations(2), HALVES)

"""Blocks of a box, voxel by voxel."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_emda.data.blocks import blocks
from napari_emda.data.box import Box

SIDES = st.tuples(*[st.integers(1, 6)] * 3)


@given(st.tuples(*[st.integers(0, 7)] * 3), SIDES, SIDES)
def test_blocks_cover_a_box_once_and_follow_the_chunks_of_the_whole_array(start, shape, size):
    box = Box(start, tuple(a + n for a, n in zip(start, shape, strict=True)))
    covered = np.zeros((14, 14, 14), int)
    for block in blocks(box, size):
        covered[block.slices] += 1
        for low, high, side in zip(block.start, block.stop, size, strict=True):
            assert low // side == (high - 1) // side  # no block needs two chunks along an axis
    expected = np.zeros_like(covered)
    expected[box.slices] = 1
    np.testing.assert_array_equal(covered, expected)

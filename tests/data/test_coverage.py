"""Parts of a volume, against arrays of voxels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.data.masked_part import marked, ratios_to

SHAPE = (3, 11, 14)
WHOLE = Box.whole(SHAPE)


@st.composite
def boxes(draw):
    starts = [draw(st.integers(0, size - 1)) for size in SHAPE]
    stops = [draw(st.integers(low + 1, size)) for low, size in zip(starts, SHAPE, strict=True)]
    return Box(tuple(starts), tuple(stops))


def voxels(listed):
    image = np.zeros(SHAPE, bool)
    for box in listed:
        image[box.slices] = True
    return image


@settings(max_examples=60, deadline=None)
@given(st.lists(boxes(), max_size=5), st.lists(boxes(), max_size=3), boxes())
def test_a_part_of_boxes_holds_exactly_their_voxels(listed, others, asked):
    part = Coverage.of(SHAPE, listed)
    image = voxels(listed)
    np.testing.assert_array_equal(part.inside(WHOLE), image)
    np.testing.assert_array_equal(part.inside(asked), image[asked.slices])
    assert part.covers(asked) == image[asked.slices].all()
    assert part.touches(asked) == image[asked.slices].any()
    assert part.share == pytest.approx(image.mean())
    assert part.is_all == image.all()
    assert part.shape == SHAPE
    rest = part.without(Coverage.of(SHAPE, others))
    np.testing.assert_array_equal(rest.inside(WHOLE), image & ~voxels(others))


@given(st.lists(boxes(), max_size=3), st.integers(1, 20))
def test_in_cells_of_a_grid_a_part_holds_every_cell_that_a_box_touches(listed, side):
    part = Coverage.nothing(SHAPE, side)
    part.add(listed)
    expected = np.zeros(SHAPE, bool)
    for z, y, x in np.argwhere(voxels(listed)):
        rows = slice(y // side * side, (y // side + 1) * side)
        columns = slice(x // side * side, (x // side + 1) * side)
        expected[z, rows, columns] = True
    np.testing.assert_array_equal(part.inside(WHOLE), expected)


def test_nothing_covers_no_box():
    nothing = Coverage.of((0, 0, 0), [])
    assert not nothing.covers(WHOLE)
    assert not nothing.is_all
    assert nothing.share == 0


@pytest.mark.parametrize("factors", [(1, 1, 1), (1, 2, 3), (2, 4, 5), (3, 11, 14)])
@pytest.mark.parametrize("box", [WHOLE, Box((1, 4, 0), (3, 9, 8))])
def test_a_coarse_mask_marks_the_cells_that_it_marks_enlarged(factors, box):
    shape = tuple(-(-n // factor) for n, factor in zip(SHAPE, factors, strict=True))
    mask = (np.random.default_rng(1).random(shape) < 0.15) * 7
    enlarged = mask
    for axis, factor in enumerate(factors):
        enlarged = enlarged.repeat(factor, axis)
    enlarged = enlarged[tuple(map(slice, SHAPE))]
    within = Coverage.nothing(SHAPE, 4)
    within.add([box])
    expected = np.zeros_like(within.cells)
    for z, row, column in np.argwhere(within.cells):
        cell = enlarged[z, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        expected[z, row, column] = cell.any()
    assert ratios_to(shape, SHAPE) == factors
    np.testing.assert_array_equal(marked(mask, factors, within).cells, expected)


@pytest.mark.parametrize(
    ("mask", "volume", "sizes", "ratios"),
    [
        ((5, 100, 100), (5, 100, 100), (None, 4.0, 4.0), (1, 1, 1)),
        ((5, 40, 40), (5, 100, 101), (1.0, 2.5, 2.5), (1, 2.5, 2.5)),
        ((5, 41, 40), (5, 100, 100), (None, 2.5, 2.5), (1, 2.5, 2.5)),
        ((5, 33, 34), (5, 100, 100), (None, None, None), (1, 3, 3)),
        ((5, 41, 40), (5, 100, 100), (None, None, None), None),
        ((5, 200, 200), (5, 100, 100), (None, None, None), None),
        ((4, 100, 100), (5, 100, 100), (None, None, None), None),
        ((5, 50, 50), (5, 100, 100), (None, 3.0, 3.0), (1, 2, 2)),
    ],
)
def test_how_much_coarser_a_mask_is(mask, volume, sizes, ratios):
    assert ratios_to(mask, volume, sizes) == ratios


def test_a_mask_whose_voxels_are_no_whole_number_of_voxels():
    mask = np.zeros((1, 40, 40), np.uint8)
    mask[0, 13, 20] = 1  # rows 32.5 to 35, columns 50 to 52.5
    within = Coverage.nothing((1, 100, 100), 1)
    within.add([Box((0, 0, 0), (1, 100, 100))])
    found = np.argwhere(marked(mask, (1, 2.5, 2.5), within).cells[0])
    assert found.min(0).tolist() == [32, 50]
    assert found.max(0).tolist() == [34, 52]

"""Dabs of the brush that keep to edges."""

import numpy as np
import pytest
from scipy import ndimage

from napari_emda.objects.supervoxels import Supervoxels, foreground
from tests.objects.test_clicks import disc

DAB = disc((4, 4), 4, side=9)


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    return 100.0 - 60 * disc((30, 30), 13, side=64) + rng.normal(0, 4, (64, 64))


def test_areas_are_connected_and_cover_the_section(image):
    ids = Supervoxels(image, None, 6).ids(slice(0, 64), slice(0, 64))
    for number in np.unique(ids):
        assert ndimage.label(ids == number)[1] == 1
    assert 50 < len(np.unique(ids)) < 200


def test_dabs_inside_an_object_paint_it_up_to_its_edge(image):
    """Strokes that stay 3 pixels inside; the plain brush would paint beyond the edge."""
    inside = disc((30, 30), 13, side=64)
    brush = Supervoxels(image, None, 6)
    painted = np.zeros(inside.shape, bool)
    for y, x in np.argwhere(disc((30, 30), 10, side=64))[::5]:
        mask, (top, left) = brush.snapped(DAB, (y - 4, x - 4), (y, x))
        painted[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
    assert (painted & inside).sum() / (painted | inside).sum() > 0.9


def test_an_edge_of_the_map_holds_where_the_image_has_none():
    probability = np.where(np.arange(64) < 32, 250, 5).astype(np.uint8) * np.ones((64, 1), np.uint8)
    flat = np.zeros((64, 64))
    ids = Supervoxels(flat, probability, 7).ids(slice(0, 64), slice(0, 64))
    assert not set(np.unique(ids[:, :31])) & set(np.unique(ids[:, 33:]))


def test_a_dab_takes_the_areas_that_it_covers_by_half_and_the_one_below_it(image):
    brush = Supervoxels(image, None, 6)
    ids = brush.ids(slice(0, 64), slice(0, 64))
    whole = np.zeros((64, 64), bool)
    whole[12:21, 40:49] = DAB
    taken = [k for k in np.unique(ids) if 2 * (whole & (ids == k)).sum() >= (ids == k).sum()]
    expected = np.isin(ids, [*taken, ids[16, 44]])
    mask, (top, left) = brush.snapped(DAB, (12, 40), (16, 44))
    found = np.zeros((64, 64), bool)
    found[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    assert np.array_equal(found, expected)


def test_dabs_over_the_border_of_the_section_and_of_squares(image):
    large = np.tile(image, (5, 5))
    brush = Supervoxels(large, None, 6)
    for centre in ((0, 0), (319, 319), (256, 255), (2, 318)):
        corner = (centre[0] - 4, centre[1] - 4)
        mask, (top, left) = brush.snapped(DAB, corner, centre)
        assert top >= 0 and left >= 0
        assert top + mask.shape[0] <= 320 and left + mask.shape[1] <= 320
        assert mask[centre[0] - top, centre[1] - left]
    assert not brush.snapped(DAB, (-40, 5), (-36, 9))[0].any()


def test_all_classes_count_as_foreground():
    probabilities = np.array([[[200, 0]], [[100, 30]]], np.uint8)
    assert foreground(probabilities).tolist() == [[255, 30]]

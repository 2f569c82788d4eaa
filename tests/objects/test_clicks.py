"""Corrections by object in a section: floods against brute force, and what clicks mean."""

import numpy as np
import pytest
from scipy import ndimage

from napari_emda.objects.clicks import BACKGROUND, ObjectClicks
from napari_emda.objects.flood import flood, steepness_of

SIDE = 48


def disc(centre, radius, side=SIDE):
    y, x = np.ogrid[:side, :side]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


@pytest.fixture
def section():
    """An image with two discs, the first found by the model, the second hardly."""
    rng = np.random.default_rng(0)
    found, missed = disc((14, 14), 7), disc((34, 32), 6)
    image = 100 - 60 * (found | missed) + rng.normal(0, 3, (SIDE, SIDE))
    likely = ndimage.gaussian_filter(0.95 * found + 0.2 * missed, 1.5)
    stored = np.rint(255 * likely).astype(np.uint8)
    paint = np.where(stored >= 128, 2, 0).astype(np.uint8)
    return image, stored, paint, missed


@pytest.mark.parametrize("seed", range(5))
def test_regions_are_what_is_connected_at_each_threshold(seed):
    rng = np.random.default_rng(seed)
    stored = np.rint(255 * rng.random((20, 24)) ** 2).astype(np.uint8)
    allowed = rng.random(stored.shape) < 0.9
    pixel = (int(rng.integers(20)), int(rng.integers(24)))
    regions = flood(stored, steepness_of(stored), allowed, pixel)
    y, x = pixel
    near = np.where(allowed, stored, 0)[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
    assert regions.thresholds[0] == near.max()
    top = np.argwhere(regions.region(0))[0]
    for step, threshold in enumerate(regions.thresholds):
        labels, _ = ndimage.label(allowed & (stored >= threshold))
        assert np.array_equal(regions.region(step), labels == labels[tuple(top)])


def test_a_missed_object_is_added_as_its_outline_is_in_the_map_and_in_the_image(section):
    image, stored, paint, missed = section
    clicks = ObjectClicks(image, stored[None])
    correction = clicks.click(paint, (34, 32), 1)
    assert set(np.unique(correction.values)) == {0, 2}
    shared = correction.changes & missed
    assert shared.sum() / (correction.changes | missed).sum() > 0.85
    larger, smaller = correction.resized(1), correction.resized(-1)
    assert larger.changes.sum() > correction.changes.sum() > smaller.changes.sum()
    assert np.array_equal(larger.resized(-1).values, correction.values)
    assert correction.resized(-99).changes.any()


def test_a_flood_spreads_neither_into_other_objects_nor_into_painted_background(section):
    image, stored, paint, _ = section
    stored = np.maximum(stored, 30)
    clicks = ObjectClicks(image, stored[None])
    paint[:, 40:] = BACKGROUND
    everything = clicks.click(paint, (34, 32), 1).resized(99)
    assert everything.changes.sum() == (paint == 0).sum()
    assert not everything.changes[paint > 0].any()
    # Whoever clicks into painted background has changed his mind.
    assert clicks.click(paint, (34, 44), 1).resized(99).changes[:, 40:].all()


def test_an_object_is_dropped_or_given_another_class(section):
    image, stored, paint, _ = section
    clicks = ObjectClicks(image, np.stack([stored, 255 - stored]) // 2)
    whole = paint == 2
    for class_id, value in ((1, BACKGROUND), (0, BACKGROUND), (2, 3)):
        correction = clicks.click(paint, (14, 14), class_id)
        assert np.array_equal(correction.values, np.where(whole, value, 0))
        assert np.array_equal(correction.resized(1).values, correction.values)
    paint[34, 32] = 3
    assert clicks.click(paint, (34, 32), 2).changes.sum() == 1


def test_an_object_grows_and_shrinks_from_the_size_that_it_has(section):
    image, stored, paint, _ = section
    clicks = ObjectClicks(image, stored[None])
    size = (paint == 2).sum()
    grown = clicks.resize(paint, (14, 14), 1)
    after = np.where(grown.changes, grown.values, paint)
    assert size < (after == 2).sum() < 1.5 * size
    shrunk = clicks.resize(paint, (14, 14), -1)
    after = np.where(shrunk.changes, shrunk.values, paint)
    assert 0.5 * size < (after == 2).sum() < size
    assert (after[shrunk.changes] == BACKGROUND).all()


def test_where_there_is_nothing_a_click_does_nothing(section):
    image, stored, paint, _ = section
    empty = np.zeros_like(stored)
    assert ObjectClicks(image, empty[None]).click(paint, (34, 32), 1) is None
    assert ObjectClicks(image, stored[None]).click(paint, (34, 32), 0) is None
    assert ObjectClicks(image, stored[None]).resize(paint, (34, 32), 1) is None
    without = ObjectClicks(image, None)
    assert without.click(paint, (34, 32), 1) is None
    assert without.resize(paint, (14, 14), 1) is None
    assert without.click(paint, (14, 14), 1).changes.sum() == (paint == 2).sum()

"""Outlines between two sections, against discs whose outlines are known."""

import numpy as np
import pytest

from napari_emda.objects.between import Outlines, between, interpolated
from napari_emda.objects.clicks import BACKGROUND
from tests.objects.test_clicks import disc

CENTRE = (24, 24)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_a_disc_grows_and_drifts_evenly(share):
    first, last = disc((16, 16), 5), disc((32, 28), 11)
    expected = disc((16 + 16 * share, 16 + 12 * share), 5 + 6 * share)
    shape = between(first, last, share)
    assert (shape & expected).sum() / (shape | expected).sum() > 0.9


def test_the_ends_are_the_outlines_themselves():
    rng = np.random.default_rng(0)
    first, last = rng.random((2, 30, 30)) < 0.5
    assert np.array_equal(between(first, last, 0), first)
    assert np.array_equal(between(first, last, 1), last)


def test_the_object_at_a_pixel_or_the_nearest_that_is_not_far():
    paint = (2 * (disc((8, 8), 4) | disc((40, 40), 3))).astype(np.uint8)
    assert np.array_equal(Outlines(paint, 1).near((8, 9)), disc((8, 8), 4))
    assert np.array_equal(Outlines(paint, 1).near((44, 30)), disc((40, 40), 3))
    assert Outlines(paint, 1).near((8, 40)) is None
    assert Outlines(paint, 2).near((8, 8)) is None


def test_an_outline_replaces_what_was_seen_of_the_object_and_nothing_else():
    paint = np.zeros((48, 48), np.uint8)
    paint[20:30, 20:34] = 2  # most of it is in the outline
    paint[0:17, 4:26] = 2  # another object that the outline reaches
    paint[34:40, 34:40] = 3
    shape = disc(CENTRE, 10)
    after = interpolated(paint, shape, 1)
    seen = np.where(after.changes, after.values, paint)
    assert (seen[shape] == 2).all()
    assert (paint[29, 33], shape[29, 33], seen[29, 33]) == (2, False, BACKGROUND)
    assert (seen[0:17, 4:26] == 2).all()
    assert (seen[34:40, 34:40] == 3).all()
    assert (after.values[paint == 0] != BACKGROUND).all()

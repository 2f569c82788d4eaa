"""Classes of stored probabilities, against the definition in exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_emda.data.probabilities import Mask, class_ids, stored_threshold

THRESHOLDS = st.integers(1, 999).map(lambda n: Fraction(n, 1000))


def class_by_definition(shares, threshold):
    """The most probable class, if its share of itself and background reaches the threshold."""
    best = max(shares)
    background = 255 - sum(shares)
    reached = best > 0 and Fraction(best, best + background) >= threshold
    return 1 + shares.index(best) if reached else 0


@st.composite
def stored_shares(draw):
    """Stored probabilities of 1 to 4 foreground classes, with many ties."""
    unit = draw(st.sampled_from([1, 17, 51]))
    cuts = draw(st.lists(st.integers(0, 255 // unit), min_size=1, max_size=4).map(sorted))
    return [unit * (high - low) for low, high in zip([0, *cuts], cuts, strict=False)]


@given(shares=stored_shares(), threshold=THRESHOLDS)
@settings(max_examples=300, deadline=None)
def test_the_most_probable_class_is_compared_with_background_alone(shares, threshold):
    ids = class_ids(np.array(shares, np.uint8)[:, None], float(threshold))
    assert ids.dtype == np.uint8
    assert ids.tolist() == [class_by_definition(shares, threshold)]


@given(shares=stored_shares(), thresholds=st.lists(THRESHOLDS, min_size=2, max_size=2).map(sorted))
@settings(max_examples=100, deadline=None)
def test_a_higher_threshold_only_removes_voxels(shares, thresholds):
    stored = np.array(shares, np.uint8)[:, None]
    low, high = (class_ids(stored, float(threshold))[0] for threshold in thresholds)
    assert high in (0, low)


def test_with_one_foreground_class_every_level_is_compared_with_the_threshold():
    levels = np.arange(256, dtype=np.uint8)[None]
    for thousandths in range(1, 1000):
        reached = np.arange(256) * 1000 >= 255 * thousandths
        assert np.array_equal(class_ids(levels, thousandths / 1000), reached)
        assert stored_threshold(thousandths / 1000) == reached.argmax()


def test_at_one_half_the_most_probable_class_wins_and_foreground_on_a_tie():
    rng = np.random.default_rng(0)
    shares = rng.multinomial(15, [0.3, 0.3, 0.2, 0.2], (4, 40, 30)).astype(np.uint8) * 17
    channels = np.moveaxis(shares, -1, 0)
    # argmax takes the first of equals: background comes last.
    foreground_first = np.concatenate([channels[1:], channels[:1]])
    expected = (foreground_first.argmax(0) + 1) % 4
    assert (np.sort(channels, 0)[-1] == np.sort(channels, 0)[-2]).mean() > 0.1
    assert np.array_equal(class_ids(channels[1:]), expected)


def test_the_prediction_that_was_shown_and_exported_differently():
    stored = np.array([[102], [66]], np.uint8)  # 0.34 background, 0.40, 0.26
    assert class_ids(stored).tolist() == [1]
    assert class_ids(stored, 0.55).tolist() == [0]


@pytest.mark.parametrize("threshold", [1e-12, 0.001])
def test_a_probability_of_zero_is_background_at_any_threshold(threshold):
    assert class_ids(np.zeros((2, 3), np.uint8), threshold).tolist() == [0, 0, 0]
    assert class_ids(np.zeros((1, 3), np.uint8), threshold).tolist() == [0, 0, 0]


def test_a_mask_follows_its_threshold():
    stored = np.full((1, 2, 3, 4), 128, np.uint8)
    mask = Mask(stored)
    assert mask[...].all()
    mask.threshold = 0.51
    assert not mask[1].any()


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_level_that_is_just_the_threshold_reaches_it(percent):
    """By exact fractions: 0.2 of 255 is 51, though 0.2 * 255 is a little more in floating point."""
    lowest = math.ceil(Fraction(percent, 100) * 255)
    assert stored_threshold(percent / 100) == lowest
    ids = class_ids(np.arange(256, dtype=np.uint8)[None], percent / 100)
    assert np.flatnonzero(ids)[0] == lowest


@pytest.mark.parametrize("percent", range(1, 101))
def test_beside_other_classes_too_a_level_that_is_just_the_threshold_reaches_it(percent):
    """0.55 of 220 is 121, though 0.55 * 220 is a little more in floating point."""
    for whole in range(128, 256):  # of the class and of background; the rest is the other class's
        lowest = math.ceil(Fraction(percent, 100) * whole)
        other = 255 - whole
        if other < lowest:
            assert class_ids(np.array([[lowest], [other]], np.uint8), percent / 100) == 1
        if other < lowest - 1:
            assert class_ids(np.array([[lowest - 1], [other]], np.uint8), percent / 100) == 0

"""Calibrated probabilities: the mask follows the threshold, classes never change places."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from napari_emda.data.calibration import Calibrated, Calibration, calibrated
from napari_emda.data.probabilities import against_background, class_ids

# A model that is too sure, one that finds too little, and a mask from very low probabilities on.
CALIBRATIONS = [
    Calibration(1.0, 0.0),
    Calibration(0.6, -0.8, 0.3),
    Calibration(2.5, 1.5, 0.7),
    Calibration(1.0, 4.7, 0.5),
]


def every_pair():
    """All stored probabilities that two foreground classes can have."""
    first, second = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    possible = first + second <= 255
    return np.stack([first[possible], second[possible]]).astype(np.uint8)


def test_the_share_against_the_background_is_the_rule_of_the_mask():
    pairs = every_pair()
    ids, share = against_background(pairs)
    np.testing.assert_array_equal(np.where(share >= 128, ids, 0), class_ids(pairs))
    one = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(against_background(one)[1], one[0])


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_one_class_follows_the_logistic_formula(calibration):
    stored = np.arange(256, dtype=np.uint8)[None]
    fractions = np.clip((np.arange(256) + 0.5) / 256, 0, 1)
    odds = calibration.slope * logit(fractions) + calibration.offset - logit(calibration.threshold)
    values = calibrated(stored, calibration)[0]
    np.testing.assert_allclose(values[1:] / 255, expit(odds)[1:], atol=0.5001 / 255)
    assert values[0] == 0
    mask = class_ids(values[None])
    assert np.flatnonzero(mask)[0] == calibration.first_level


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_several_classes_keep_their_places_and_share_one_rule(calibration):
    pairs = every_pair()
    values = calibrated(pairs, calibration)
    assert values.sum(axis=0, dtype=int).max() <= 255
    ids, share = against_background(pairs)
    expected = np.where(share >= calibration.first_level, ids, 0)
    np.testing.assert_array_equal(class_ids(values), expected)


def test_slices_are_those_of_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    for classes in (1, 3):
        stored = (rng.dirichlet(np.ones(classes + 1), (2, 5, 6))[..., 1:] * 255).astype(np.uint8)
        stored = np.moveaxis(stored, -1, 0)
        lazy = Calibrated(stored, CALIBRATIONS[1])
        whole = np.asarray(lazy)
        assert whole.shape == lazy.shape == stored.shape
        np.testing.assert_array_equal(lazy[:, 1], whole[:, 1])
        np.testing.assert_array_equal(lazy[classes - 1, :, 2:4, 1], whole[classes - 1, :, 2:4, 1])
        np.testing.assert_array_equal(lazy[0], whole[0])


@pytest.mark.parametrize(
    "numbers",
    [
        (0.0, 0.0, 0.5),
        (-1.0, 0.0, 0.5),
        (1.0, 1e9, 0.5),
        (1.0, float("nan"), 0.5),
        (1.0, 0.0, 1.0),
        (float("inf"), 0.0, 0.5),
    ],
)
def test_numbers_out_of_bounds_are_refused(numbers):
    with pytest.raises(ValueError, match="out of bounds"):
        Calibration(*numbers)

"""The decomposition of errors against loops over objects."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label, regionprops

from benchmarks.errors import COVERED, errors_of


def blobs(seed, share=0.3):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((5, 40, 48)), (0, 2, 2))
    return noise > np.quantile(noise, 1 - share)


def covered(objects, mask):
    """Section by section and object by object."""
    kept = np.zeros_like(objects)
    for z, section in enumerate(objects):
        for found in regionprops(label(section, connectivity=2)):
            rows, columns = found.coords.T
            if mask[z, rows, columns].mean() >= COVERED:
                kept[z, rows, columns] = True
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_it_counts_as_a_loop_over_objects_does(seed):
    predicted, true = blobs(seed), blobs(seed + 100)
    found, real = covered(true, predicted), covered(predicted, true)
    errors = errors_of(predicted, true)
    assert 0 < errors.spurious < 1  # so that something is compared
    assert 0 < errors.found < 1
    assert errors.iou == pytest.approx((predicted & true).sum() / (predicted | true).sum())
    assert errors.found == pytest.approx(found.sum() / true.sum())
    assert errors.spurious == pytest.approx((predicted & ~real).sum() / predicted.sum())
    assert errors.outlines == pytest.approx((real & found).sum() / (real | found).sum())
    deleted = predicted.copy()
    deleted[predicted & ~real] = False
    assert errors.without_spurious == pytest.approx((deleted & true).sum() / (deleted | true).sum())


def test_each_kind_of_error_alone():
    true = np.zeros((1, 12, 24), bool)
    true[0, 2:6, 2:6] = true[0, 2:6, 12:16] = True
    assert astuple(errors_of(true, true)) == (1, 1, 0, 1, 1, 1)
    missed = true & (np.arange(24) < 10)
    assert astuple(errors_of(missed, true)) == (0.5, 0.5, 0, 1, 0.5, 0.5)
    spurious = true.copy()
    spurious[0, 8:12, 2:10] = True
    assert astuple(errors_of(spurious, true)) == (0.5, 1, 0.5, 1, 1, 0.5)
    thin = true.copy()
    thin[0, 4:6] = False
    assert astuple(errors_of(thin, true)) == (0.5, 1, 0, 0.5, 0.5, 1)


def test_objects_of_neighbouring_sections_are_not_one():
    true = np.zeros((2, 4, 4), bool)
    true[:, 1:3, 1:3] = True
    first = true.copy()
    first[1] = False
    assert errors_of(first, true).found == 0.5


def test_without_any_area_nothing_is_claimed():
    nothing = np.zeros((1, 4, 4), bool)
    errors = errors_of(nothing, nothing)
    assert np.isnan(errors.found)
    assert np.isnan(errors.iou)

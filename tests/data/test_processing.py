"""Steps of bioimage.io, against their definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from napari_emda.data.box import Box
from napari_emda.data.prepared import Prepared
from napari_emda.data.processing import Step, applied, measured
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid

X = np.random.default_rng(0).normal(3, 2, (3, 7, 5)).astype(np.float32)
LOW, HIGH = np.percentile(X, (2, 97))
C = np.array([1.0, 2.0, 3.0])[:, None, None]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step(name="scale_range", low=2, high=97), (X - LOW) / (HIGH - LOW + 1e-6)),
        (Step(name="zero_mean_unit_variance"), (X - X.mean()) / (X.std() + 1e-6)),
        (
            Step(name="fixed_zero_mean_unit_variance", mean=(1, 2, 3), std=(2, 2, 4)),
            (X - C) / np.array([2, 2, 4])[:, None, None],
        ),
        (Step(name="scale_linear", gain=(2,), offset=(-1,)), 2 * X - 1),
        (Step(name="clip", minimum=2, maximum=4), np.minimum(np.maximum(X, 2), 4)),
        (Step(name="clip", maximum=4), np.minimum(X, 4)),
        (Step(name="binarize", threshold=(3,)), (X > 3).astype(float)),
        (Step(name="sigmoid"), expit(X.astype(float))),
        (Step(name="softmax"), softmax(X.astype(float), axis=0)),
    ],
)
def test_a_step_does_what_it_says(step, expected):
    result = applied(measured([step], X), X)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_a_step_measures_what_the_one_before_it_has_made():
    steps = [Step(name="clip", minimum=2, maximum=4), Step(name="zero_mean_unit_variance")]
    clipped = np.clip(X, 2, 4)
    result = applied(measured(steps, X), X)
    np.testing.assert_allclose(result, (clipped - clipped.mean()) / clipped.std(), atol=1e-4)


@pytest.mark.parametrize("per_volume", [False, True])
def test_a_box_is_prepared_as_its_whole_section_is(per_volume):
    image = np.random.default_rng(1).integers(0, 255, (3, 40, 50)).astype(np.uint8)
    image[1] //= 2
    view = Resampled(Volume("v", image, "target", VoxelGrid((50, 8, 8))), 8)
    steps = (Step(name="zero_mean_unit_variance", per_volume=per_volume),)
    box = Box((1, 5, 8), (3, 20, 30))
    result = Prepared.of(view, steps).read(view, box)
    axes = None if per_volume else (1, 2)
    mean = image.mean(axes, keepdims=True)
    deviation = image.std(axes, keepdims=True)
    expected = np.broadcast_to((image - mean) / deviation, image.shape)[box.slices]
    np.testing.assert_allclose(result, expected, atol=1e-4)

"""The mask on view is the mask that is exported, voxel for voxel."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Labels
from scipy import ndimage

from napari_emda._gui.predict.lazy_layers import MaskOnView
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.export.mask import MaskExporter
from tests.export.exporting import export

SHAPE = (2, 9, 11)
STACK = VoxelGrid((50, 4, 4))


def mask_by_definition(stored, thousandths):
    """In integers: the most probable structure k where p_k / (p_k + p_0) >= threshold."""
    values = stored.astype(np.int64)
    background = 255 - values.sum(0)
    best = values.max(0)
    reached = (best > 0) & (1000 * best >= thousandths * (best + background))
    return np.where(reached, values.argmax(0) + 1, 0)


def random_prediction(seed, classes, parts):
    """Foreground channels of shares that add up to 255; few distinct shares make many ties."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(classes, 0.7), SHAPE)
    counts = random.multinomial(parts, shares) * (255 // parts)
    return np.moveaxis(counts[..., 1:], -1, 0).astype(np.uint8)


def exported(stored, grid=STACK, **settings):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.tif"
        for _ in export(MaskExporter, stored, path, grid, **settings):
            pass
        return tifffile.imread(path)


@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.integers(2, 5),
    parts=st.sampled_from([3, 5, 15, 51, 255]),
    thousandths=st.integers(1, 999),
)
@settings(max_examples=60, deadline=None)
def test_the_mask_on_view_is_the_mask_that_is_exported(seed, classes, parts, thousandths):
    stored = random_prediction(seed, classes, parts)
    expected = mask_by_definition(stored, thousandths)
    layer = Labels(MaskOnView(stored, thousandths / 1000), multiscale=False)
    np.testing.assert_array_equal(np.asarray(layer.data), expected)
    np.testing.assert_array_equal(exported(stored, threshold=thousandths / 1000), expected)


@pytest.mark.parametrize("classes", [2, 4])
def test_in_independent_images_small_objects_go_alike(classes):
    stored = random_prediction(3, classes, 15)
    expected = mask_by_definition(stored, 500)
    for section in expected:
        for k in range(1, classes):
            objects, _ = ndimage.label(section == k)
            sizes = np.bincount(objects.ravel())
            section[(objects > 0) & (sizes[objects] < 4)] = 0
    on_view = np.asarray(MaskOnView(stored, 0.5, smallest=4))
    np.testing.assert_array_equal(on_view, expected)
    fields = replace(STACK, sections_are_independent=True)
    np.testing.assert_array_equal(exported(stored, fields, minimum_size=4), expected)

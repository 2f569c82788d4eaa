"""The object table against scikit-image on the whole volume and against closed forms."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from skimage.measure import regionprops_table

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.objects.table import measure_objects, object_table

SPACING = (50.0, 4.6, 4.6)


def blobs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Objects with gaps in their ids, some at the border, and probabilities."""
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.standard_normal((20, 60, 70)), (1, 4, 4))
    objects = ndimage.label(field > field.std())[0].astype(np.uint32)
    objects[np.isin(objects, [2, 5])] = 0
    return objects * 3, random.integers(0, 256, objects.shape).astype(np.uint8)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("napari_emda.objects.table._BLOCK_VOXELS", 500)


def in_chunks(array: np.ndarray, chunks: tuple[int, int, int] = (3, 16, 16)) -> zarr.Array:
    return zarr.create_array(zarr.storage.MemoryStore(), data=array, chunks=chunks)


def test_measures_are_those_of_scikit_image():
    objects, probability = blobs()
    table = object_table(in_chunks(objects), VoxelGrid(SPACING), in_chunks(probability))
    expected = regionprops_table(
        objects,
        probability / 255,
        spacing=SPACING,
        properties=("label", "num_pixels", "area", "centroid", "bbox", "intensity_mean"),
    )
    names = {
        "id": "label",
        "voxels": "num_pixels",
        "volume (nm^3)": "area",
        "centroid z (nm)": "centroid-0",
        "centroid y (nm)": "centroid-1",
        "centroid x (nm)": "centroid-2",
        "z start (voxel)": "bbox-0",
        "y start (voxel)": "bbox-1",
        "x start (voxel)": "bbox-2",
        "z stop (voxel)": "bbox-3",
        "y stop (voxel)": "bbox-4",
        "x stop (voxel)": "bbox-5",
        "mean probability": "intensity_mean",
    }
    assert len(table["id"]) > 10
    for ours, theirs in names.items():
        np.testing.assert_allclose(table[ours], expected[theirs], err_msg=ours)


def test_solidity_is_that_of_scikit_image():
    objects, _ = blobs(1)
    objects = np.where(
        np.isin(objects, np.flatnonzero(np.bincount(objects.ravel()) > 300)), objects, 0
    )
    expected = regionprops_table(objects, properties=("solidity",))
    np.testing.assert_allclose(
        object_table(in_chunks(objects), VoxelGrid(SPACING))["solidity"], expected["solidity"]
    )


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 3))
)
def test_blocks_do_not_matter(objects):
    whole, cut = (
        object_table(objects, VoxelGrid(SPACING)),
        object_table(in_chunks(objects, (1, 2, 2)), VoxelGrid(SPACING)),
    )
    assert whole.keys() == cut.keys()
    for name, column in whole.items():
        # Surfaces are sums over blocks, in float32.
        np.testing.assert_allclose(column, cut[name], rtol=1e-5, err_msg=name)
        assert np.isfinite(column).all()


def test_a_ball_and_a_box():
    grid = np.mgrid[:30, :30, :30] - 14.0
    objects = np.zeros((30, 30, 90), np.uint32)
    objects[..., :30] = (grid**2).sum(0) <= 12**2
    objects[5:25, 5:25, 40:80] = 7
    table = object_table(in_chunks(objects), VoxelGrid((2.0, 2.0, 2.0)))
    ball, box = (dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True))
    assert ball["volume (nm^3)"] == pytest.approx(4 / 3 * math.pi * 24**3, rel=0.02)
    assert ball["surface (nm^2)"] == pytest.approx(4 * math.pi * 24**2, rel=0.1)
    assert ball["solidity"] > 0.94
    assert [ball[f"centroid {axis} (nm)"] for axis in "zyx"] == pytest.approx([28, 28, 28])
    assert box["id"] == 7
    assert box["volume (nm^3)"] == 40 * 40 * 80
    assert box["surface (nm^2)"] == pytest.approx(2 * (40 * 40 + 40 * 80 + 80 * 40), rel=0.05)
    assert box["solidity"] == 1
    assert [box[f"centroid {axis} (nm)"] for axis in "zyx"] == pytest.approx([29, 29, 119])


def test_memory_does_not_grow_with_an_object_that_spans_the_volume():
    """A lattice of 1 Mvoxel in blocks of 64 000: its mesh alone would take 125 MB."""
    z, y, x = np.ogrid[:16, :256, :256]
    odd = (z % 4 < 2).astype(np.uint8) + (y % 4 < 2) + (x % 4 < 2)
    lattice = in_chunks((odd >= 2).astype(np.uint32), (16, 64, 64))
    del odd
    tracemalloc.start()
    table = object_table(lattice, VoxelGrid(SPACING))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table["id"]) == 1
    assert table["voxels"][0] == np.count_nonzero(lattice[:])
    assert table["solidity"][0] == pytest.approx(0.5, abs=0.02)
    assert peak < 64 * 2**20


def test_no_objects_make_an_empty_table():
    table = object_table(
        np.zeros((2, 3, 4), np.uint32), VoxelGrid(SPACING, "\u00b5m"), np.zeros((2, 3, 4), np.uint8)
    )
    assert {len(column) for column in table.values()} == {0}
    assert "volume (um^3)" in table


def test_progress_never_falls():
    objects, _ = blobs()
    shares = [
        event.done / event.total
        for event in measure_objects(in_chunks(objects), VoxelGrid(SPACING), volume="cell")
    ]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_probabilities_of_another_volume():
    with pytest.raises(DataError, match="give those of the same volume"):
        object_table(
            np.zeros((2, 3, 4), np.uint32), VoxelGrid(SPACING), np.zeros((2, 3, 3), np.uint8)
        )

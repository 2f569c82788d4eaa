"""Pyramids of OME-Zarr, against scikit-image, and as other programs read them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image import Image
from skimage.measure import block_reduce

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.io import pyramid
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.write import save_volume

ISOTROPIC = (8.0, 8.0, 8.0)
THICK = (30.0, 8.0, 8.0)


@pytest.fixture(autouse=True)
def small_levels(monkeypatch):
    """Pyramids of small images, written in several blocks."""
    monkeypatch.setattr(pyramid, "COARSEST", 16)
    monkeypatch.setattr(pyramid, "CHUNK", (4, 16, 16))
    monkeypatch.setattr(pyramid, "BLOCK_VOXELS", 2**13)


def written(path, image, grid, *, channels=1, labels=False):
    """The levels of what was written, and its metadata, which OME-Zarr allows."""
    events = list(save_volume([image] * channels, path, image.dtype, grid, "v", labels=labels))
    done = [event.done / event.total for event in events]
    assert all(a < b for a, b in pairwise(done))
    assert done[-1] == 1
    group = zarr.open_group(path, mode="r")
    (described,) = Image.from_zarr(group).ome_attributes.multiscales
    return [np.asarray(group[level.path][:]) for level in described.datasets], described


def halved(image, step):
    """The mean of cells by scikit-image; at the far ends, the last voxels are repeated."""
    missing = [(0, -n % by) for n, by in zip(image.shape, step, strict=True)]
    mean = block_reduce(np.pad(image, missing, mode="edge").astype(float), step, np.mean)
    return mean if image.dtype.kind == "f" else np.rint(mean)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(12, 56, 61), (1, 64, 33)])
@pytest.mark.parametrize("spacing", [ISOTROPIC, THICK])
def test_levels_are_means_of_the_finer_ones(tmp_path, noise, spacing, shape, dtype):
    image = (noise.random(shape) * 250).astype(dtype)
    levels, described = written(tmp_path / "a.zarr", image, VoxelGrid(spacing))
    assert described.type == "mean"
    np.testing.assert_array_equal(levels[0], image)
    for finer, coarser in pairwise(levels):
        step = tuple(1 if a == b else 2 for a, b in zip(finer.shape, coarser.shape, strict=True))
        np.testing.assert_allclose(coarser, halved(finer, step), rtol=1e-6)


@pytest.mark.parametrize(
    ("spacing", "shapes"),
    [
        (ISOTROPIC, [(8, 64, 64), (4, 32, 32), (2, 16, 16)]),
        # Sections stay apart until pixels are as long as they are.
        (THICK, [(8, 64, 64), (8, 32, 32), (4, 16, 16)]),
        ((8.0, 16.0, 8.0), [(8, 64, 64), (4, 64, 32), (2, 32, 16), (1, 16, 8)]),
    ],
)
def test_voxels_become_cubes(tmp_path, noise, spacing, shapes):
    image = noise.integers(0, 255, (8, 64, 64)).astype(np.uint8)
    levels, _ = written(tmp_path / "a.zarr", image, VoxelGrid(spacing))
    assert [level.shape for level in levels] == shapes


def test_numbers_of_objects_stay_numbers_of_objects(tmp_path, noise):
    ids = noise.integers(0, 2**20, (6, 40, 40)).astype(np.uint32)
    levels, described = written(tmp_path / "a.zarr", ids, VoxelGrid(ISOTROPIC), labels=True)
    assert len(levels) == 3
    for finer, coarser in pairwise(levels):
        np.testing.assert_array_equal(coarser, finer[::2, ::2, ::2])
    assert described.type == "nearest"
    attributes = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["ome"]
    assert attributes["image-label"] == {}
    assert open_labels(tmp_path / "a.zarr").array.dtype == np.uint32


def test_only_labels_are_called_so(tmp_path, noise):
    image = noise.integers(0, 255, (2, 40, 40)).astype(np.uint8)
    written(tmp_path / "a.zarr", image, VoxelGrid(ISOTROPIC))
    assert "image-label" not in zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["ome"]


@pytest.mark.parametrize("spacing", [ISOTROPIC, THICK])
def test_every_level_begins_at_the_same_place(tmp_path, noise, spacing):
    image = noise.integers(0, 255, (8, 64, 64)).astype(np.uint8)
    grid = VoxelGrid(spacing, origin=(100.0, 20.0, -30.0))
    written(tmp_path / "a.zarr", image, grid)
    corner = np.array(grid.origin) - np.array(spacing) / 2
    far = corner + np.array(image.shape) * spacing
    for number in range(3):
        stored = open_image(Path(f"{tmp_path / 'a.zarr'}?level={number}"))
        size = np.array(stored.nanometres)
        begin = np.array(stored.origin) - size / 2
        np.testing.assert_allclose(begin, corner)
        np.testing.assert_allclose(begin + size * stored.array.shape, far)


def test_channels_have_their_own_pyramids(tmp_path, noise):
    image = noise.integers(0, 255, (2, 40, 40)).astype(np.uint8)
    levels, described = written(tmp_path / "a.zarr", image, VoxelGrid(ISOTROPIC), channels=3)
    assert [axis.name for axis in described.axes] == ["c", "z", "y", "x"]
    assert [level.shape for level in levels] == [(3, 2, 40, 40), (3, 1, 20, 20), (3, 1, 10, 10)]
    assert all((level == level[0]).all() for level in levels)


def test_independent_sections_are_never_joined(tmp_path, noise):
    image = noise.integers(0, 255, (3, 40, 40)).astype(np.uint8)
    grid = VoxelGrid(ISOTROPIC, sections_are_independent=True)
    levels, _ = written(tmp_path / "a.zarr", image, grid)
    assert [level.shape for level in levels] == [(3, 40, 40), (3, 20, 20), (3, 10, 10)]


@pytest.mark.parametrize("shape", [(4, 1, 100), (1, 100, 1), (3, 16, 16), (100, 5, 5)])
def test_odd_shapes_have_an_end(tmp_path, shape):
    image = np.full(shape, 7, np.uint8)
    levels, _ = written(tmp_path / "a.zarr", image, VoxelGrid((5.0, 50.0, 1.0)))
    assert max(levels[-1].shape[1:]) <= 16
    assert all((level == 7).all() for level in levels)


def test_an_export_that_is_stopped_leaves_nothing(tmp_path, noise):
    image = noise.integers(0, 255, (8, 64, 64)).astype(np.uint8)
    events = save_volume([image], tmp_path / "a.zarr", np.uint8, VoxelGrid(ISOTROPIC))
    for _ in range(5):
        next(events)
    events.close()
    assert list(tmp_path.iterdir()) == []

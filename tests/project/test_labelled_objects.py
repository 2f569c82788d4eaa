"""Labelled objects as a measure of what is usual: sizes in the unit of those compared with them."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label, regionprops

from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import result_of
from napari_emda.project import labelled_objects as module
from napari_emda.project.labelled_objects import labelled_objects


def volume_of(labels, grid, name="source"):
    classes = int(labels.max()) + 1
    return Volume(name, np.zeros(labels.shape, np.uint8), "source", grid, labels, classes=classes)


def labels():
    rng = np.random.default_rng(0)
    values = np.zeros((8, 60, 70), np.uint8)
    for _ in range(25):
        z, y, x = (int(rng.integers(0, n - 6)) for n in values.shape)
        values[z : z + 3, y : y + 5, x : x + 4] = rng.integers(1, 3)
    return values


def test_sizes_are_those_of_the_whole_objects_in_the_unit_of_the_others(tmp_path):
    values = labels()
    source = volume_of(values, VoxelGrid((50.0, 8.0, 8.0)))
    target = VoxelGrid((0.04, 0.01, 0.01), "µm")
    found = result_of(labelled_objects(tmp_path, [source], 2, target))
    expected = []
    for item in regionprops(label(values == 2, connectivity=1)):
        low, high = item.bbox[:3], item.bbox[3:]
        if min(low) > 0 and all(b < n for b, n in zip(high, values.shape, strict=True)):
            expected.append(item.num_pixels * 0.05 * 0.008 * 0.008)
    np.testing.assert_allclose(sorted(found.sizes), sorted(expected))
    assert len(found.solidity) == len(expected)


def test_only_the_middle_of_a_large_source_is_looked_at(tmp_path, monkeypatch):
    values = labels()
    monkeypatch.setattr(module, "_MOST_VOXELS", 3 * 60 * 70)
    read = []

    class Watched(Volume):
        def read_labels(self, box):
            read.append(box)
            return super().read_labels(box)

    source = volume_of(values, VoxelGrid((50.0, 8.0, 8.0)))
    watched = Watched(**source.__dict__)
    result_of(labelled_objects(tmp_path, [watched], 1, source.grid))
    assert {z for box in read for z in range(box.start[0], box.stop[0])} == {2, 3, 4}


@pytest.mark.parametrize(
    ("grid", "labelled"),
    [
        (VoxelGrid((1.0, 1.0, 1.0), "pixel"), True),
        (VoxelGrid((50.0, 8.0, 8.0), "nm", sections_are_independent=True), True),
        (VoxelGrid((50.0, 8.0, 8.0)), False),
    ],
)
def test_sources_that_cannot_be_compared_are_left_out(tmp_path, grid, labelled):
    source = volume_of(labels(), grid)
    source = source if labelled else source.without_labels()
    other = VoxelGrid((50.0, 8.0, 8.0))
    assert result_of(labelled_objects(tmp_path, [source], 1, other)) is None

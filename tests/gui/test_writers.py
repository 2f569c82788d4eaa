"""Labels layers to TIFF: through napari's own way of handing them over, read back with tifffile."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.layers import Labels

from napari_emda._gui.writers import write_labels
from napari_emda.errors import DataError
from napari_emda.io.read import open_labels


def save(path, layer):
    data, meta, kind = layer.as_layer_data_tuple()
    assert kind == "labels"
    return write_labels(str(path), data, meta)


@pytest.fixture
def labels():
    array = np.zeros((4, 12, 15), np.int32)
    array[1:3, 2:6, 3:9] = 7
    return array


@pytest.mark.parametrize(
    ("scale", "units", "expected", "unit"),
    [
        ((50, 4.6, 4.6), ("nm",) * 3, (50, 4.6, 4.6), "nm"),
        ((0.05, 0.0046, 0.0046), ("um",) * 3, (50, 4.6, 4.6), "nm"),
        ((0.05, 4.6, 4.6), ("um", "nm", "nm"), (50, 4.6, 4.6), "nm"),
        ((6, 1, 1), None, (6, 1, 1), None),
        ((1, 1, 1), None, None, None),
    ],
)
def test_voxel_size_and_unit_are_kept(tmp_path, labels, scale, units, expected, unit):
    path = tmp_path / "a.tif"
    assert save(path, Labels(labels, scale=scale, units=units)) == [str(path)]
    np.testing.assert_array_equal(tifffile.imread(path), labels)
    stored = open_labels(path)
    assert (stored.spacing, stored.unit) == (expected, unit)


@pytest.mark.parametrize(
    ("high", "dtype"), [(255, np.uint8), (256, np.uint16), (65_536, np.uint32)]
)
def test_the_smallest_type_that_holds_the_labels_is_written(tmp_path, labels, high, dtype):
    labels[0, 0, 0] = high
    save(tmp_path / "a.tif", Labels(labels))
    written = tifffile.imread(tmp_path / "a.tif")
    assert written.dtype == dtype
    np.testing.assert_array_equal(written, labels)


def test_other_kinds_of_labels(tmp_path, labels):
    cases = {
        "flat": (Labels(labels[1], scale=(4, 5), units=("nm", "nm")), labels[1]),
        "leading": (Labels(labels[None]), labels),
        "lazy": (Labels(da.from_array(labels, chunks=5)), labels),
        "pyramid": (Labels([labels, labels[:, ::2, ::2]], multiscale=True), labels),
    }
    for name, (layer, expected) in cases.items():
        save(tmp_path / f"{name}.tif", layer)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{name}.tif"), expected)
    assert open_labels(tmp_path / "flat.tif").spacing[1:] == (4, 5)


def test_labels_that_no_tiff_holds_are_refused(tmp_path, labels):
    with pytest.raises(DataError, match="4 axes"):
        save(tmp_path / "a.tif", Labels(np.stack([labels, labels])))
    for value in (-1, 2**32):
        with pytest.raises(DataError, match="renumber them"):
            write_labels(str(tmp_path / "a.tif"), np.full((2, 3, 4), value, np.int64), {})
    assert not list(tmp_path.iterdir())

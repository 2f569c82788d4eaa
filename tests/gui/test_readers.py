"""Layers that *File > Open* makes of files that napari does not read itself."""

from __future__ import annotations

import h5py
import mrcfile
import nrrd
import numpy as np
import pytest
from napari.layers import Layer
from napari.layers._source import layer_source

from napari_emda._gui.common.layer_images import images_of
from napari_emda._gui.common.layer_volumes import path_of, sizes_of, spacing_of
from napari_emda._gui.common.volume_mark import opened_from
from napari_emda._gui.readers import get_reader
from napari_emda.io.read import open_image

VOLUME = np.random.default_rng(0).integers(0, 250, (5, 33, 41), dtype=np.uint8)


def opened(path):
    """The layers that napari makes of a file."""
    with layer_source(path=str(path)):
        return [Layer.create(*data) for data in get_reader(str(path))(str(path))]


@pytest.fixture
def cremi(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in {"raw": VOLUME, "ids": VOLUME.astype(np.uint64)}.items():
            file[f"volumes/{name}"] = values
            file[f"volumes/{name}"].attrs["resolution"] = (40, 4, 4)
        file["volumes/ids"].attrs["offset"] = (80, 12, 12)
    return tmp_path / "a.h5"


def test_every_image_of_a_file_is_a_layer_at_its_place(cremi):
    ids, raw = opened(cremi)
    assert (type(ids).__name__, type(raw).__name__) == ("Labels", "Image")
    assert (ids.name, raw.name) == ("a_ids", "a_raw")
    np.testing.assert_array_equal(np.asarray(raw.data), VOLUME)
    assert spacing_of(raw) == spacing_of(ids) == (40, 4, 4)
    np.testing.assert_allclose(ids.translate, (80, 12, 12))


def test_a_project_is_told_which_image_of_the_file_it_is(cremi):
    ids, raw = opened(cremi)
    path = path_of(raw)
    np.testing.assert_array_equal(open_image(path).array[:], VOLUME)
    assert path.name == "raw"
    assert opened_from([ids, raw], path, type(raw)) is raw
    # A copy in memory that was changed is the file no longer.
    changed = type(raw)(VOLUME + 1, metadata=dict(raw.metadata))
    assert path_of(changed) is None


def test_channels_are_layers(tmp_path):
    values = np.stack([VOLUME, VOLUME + 1])
    nrrd.write(str(tmp_path / "a.nrrd"), values, {"encoding": "raw"}, index_order="C")
    first, second = opened(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(np.asarray(second.data), VOLUME + 1)
    assert (first.name, second.name) == ("a_channel0", "a_channel1")
    many = np.zeros((9, 5, 33, 41), np.uint8)
    nrrd.write(str(tmp_path / "b.nrrd"), many, {"encoding": "raw"}, index_order="C")
    (only,) = opened(tmp_path / "b.nrrd")
    assert only.name == "b_channel0"
    assert images_of(only).question.axes == {"c": 9}


def test_a_voxel_size_that_is_not_known_is_not_made_up(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(VOLUME.astype(np.int16))
    (layer,) = opened(tmp_path / "a.mrc")
    assert sizes_of(layer) == (None, None, None)
    assert path_of(layer) == tmp_path / "a.mrc"
    assert get_reader([str(tmp_path / "a.mrc")] * 2) is None

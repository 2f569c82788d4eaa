"""HDF5 files as h5py writes them, whole, damaged and lying."""

from __future__ import annotations

import json
import zlib

import h5py
import numpy as np
import pytest

from napari_emda.io.read import open_image, open_labels
from tests.io.opening import DTYPES, SIZES, append, refused, same


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (2, 16, 16)},
        {"chunks": (2, 16, 16), "compression": "gzip"},
        {"chunks": (2, 16, 16), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (2, 16, 16), "compression": "lzf", "shuffle": True},
    ],
    ids=["contiguous", "chunks", "gzip", "all filters", "lzf"],
)
@pytest.mark.parametrize("dtype", [*DTYPES, ">u2", ">i2"])
def test_hdf5(tmp_path, volume, options, dtype):
    values = volume.astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=values, **options)
    same(tmp_path / "a.h5", values)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_chunks_of_hdf5_to_which_nothing_was_written(tmp_path, compression):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        raw = file.create_dataset(
            "raw", (5, 33, 41), np.uint8, chunks=(1, 16, 16), compression=compression, fillvalue=7
        )
        raw[2] = 1
    expected = np.full((5, 33, 41), 7, np.uint8)
    expected[2] = 1
    same(tmp_path / "a.h5", expected)


def test_voxel_sizes_of_hdf5(tmp_path, volume):
    attributes = {
        "cremi": ({"resolution": SIZES}, SIZES),
        "fiji": ({"element_size_um": [size / 1000 for size in SIZES]}, SIZES),
        "gunpowder": ({"voxel_size": SIZES, "units": ["nm", "nm", "nm"]}, SIZES),
        "one_unit": ({"resolution": [0.05, 0.0045, 0.004], "units": "um"}, SIZES),
        "seconds": ({"resolution": SIZES, "units": ["s", "nm", "nm"]}, None),
        "two": ({"resolution": SIZES[:2]}, None),
        "text": ({"resolution": "50"}, None),
        "zero": ({"resolution": (0, 0, 0)}, None),
        "bomb": ({"resolution": np.ones(8000)}, None),
    }
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, (values, _) in attributes.items():
            file[name] = volume
            file[name].attrs.update(values)
    for name, (_, sizes) in attributes.items():
        same(tmp_path / f"a.h5:/{name}", volume, sizes)


def test_the_position_of_cremi(tmp_path, volume):
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        labels = file.create_dataset("volumes/labels/neuron_ids", data=volume.astype(np.uint64))
        labels.attrs.update({"resolution": (40, 4, 4), "offset": (1480, 3644, 3644)})
    stored = same(tmp_path / "a.hdf", volume.astype(np.uint64), (40, 4, 4))
    assert stored.origin == (1480, 3644, 3644)


@pytest.mark.parametrize("axes", ["zyx", "zyxc", "tzyxc", "xyz", "yxz", "czyx", "yx"])
def test_axes_of_ilastik(tmp_path, volume, axes):
    expected = volume[:1] if axes == "yx" else volume
    shape = dict(zip("zyx", volume.shape, strict=True))
    spatial = [axis for axis in axes if axis in "zyx"]
    values = (expected if len(spatial) == 3 else expected[0]).transpose(
        ["zyx"[-len(spatial) :].index(axis) for axis in spatial]
    )
    values = values.reshape([shape.get(axis, 1) for axis in axes])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exported_data"] = values
        tags = {"axes": [{"key": axis, "typeFlags": 2, "resolution": 0} for axis in axes]}
        file["exported_data"].attrs["axistags"] = json.dumps(tags)
    same(tmp_path / "a.h5", expected)


def test_channels_of_ilastik_are_chosen(tmp_path, volume):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["p"] = np.stack([volume, volume + 1], axis=-1)
        file["p"].attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in "zyxc"]})
    text = refused(tmp_path / "a.h5")
    assert text == (
        "a.h5 has 4 axes (z 5, y 33, x 41, channel 2), but a volume has z, y and x: choose one "
        "channel by its number from 0 on, as in 'a.h5?channel=0'."
    )
    same(tmp_path / "a.h5?channel=1", volume + 1)
    same(tmp_path / "a.h5:/p?channel=0", volume)


def test_images_of_bigdataviewer(tmp_path, volume):
    deep = volume.astype(np.uint16) * 257
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t00000/s00/0/cells"] = deep.view(np.int16)
        file["t00000/s00/1/cells"] = deep[:, ::2, ::2].view(np.int16)
        file["s00/resolutions"] = np.ones((2, 3))
        file["s00/subdivisions"] = np.ones((2, 3), np.int32)
        file["s00/resolutions"][1] = (2, 2, 1)
    same(tmp_path / "a.h5", deep)
    same(tmp_path / "a.h5:/t00000/s00/0/cells", deep)
    size = "<voxelSize><unit>{}</unit><size>{}</size></voxelSize>"
    setup = f"<ViewSetup><id>{{}}</id>{size}</ViewSetup>"
    for text, sizes in {
        setup.format(0, "\u00b5m", "0.004 0.0045 0.05"): SIZES,
        setup.format(1, "nm", "1 1 1") + setup.format(0, "nm", "4.0 4.5 50.0"): SIZES,
        setup.format(0, "nm", "4 4"): None,
        setup.format(0, "pixel", "4 4 4"): None,
        setup.format(3, "nm", "4 4 4"): None,
        "<ViewSetup>": None,
    }.items():
        (tmp_path / "a.xml").write_text(f"<SpimData>{text}</SpimData>", encoding="utf-8")
        same(tmp_path / "a.h5", deep, sizes)
        if sizes is not None:
            second = open_image(tmp_path / "a.h5:/t00000/s00/1/cells")
            assert second.spacing == pytest.approx((50, 9, 8))


def test_several_images_in_hdf5_are_a_question(tmp_path, volume):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = volume
        file["volumes/labels/ids"] = volume
        file["table"] = np.zeros((9, 3))
        file["again"] = h5py.SoftLink("/volumes/raw")
        file["volumes/loop"] = file["volumes"]
    assert refused(tmp_path / "a.h5") == (
        "a.h5 holds 2 images (volumes/labels/ids and volumes/raw): choose one of them, such as "
        "'a.h5:/volumes/labels/ids'."
    )
    same(tmp_path / "a.h5:/again", volume)
    same(tmp_path / "a.h5:/volumes/labels", volume)
    text = refused(tmp_path / "a.h5:/volumes/none")
    assert "has no image at 'volumes/none': choose one of volumes/labels/ids or volumes/raw" in text
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["table"] = np.zeros(3)
    assert "holds no image" in refused(tmp_path / "b.h5")


def test_hdf5_leads_to_no_other_file(tmp_path, volume):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["raw"] = volume
    volume.tofile(tmp_path / "secret")
    layout = h5py.VirtualLayout(volume.shape, np.uint8)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "raw", volume.shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("other.h5", "raw")
        file.create_virtual_dataset("virtual", layout)
        external = [(str(tmp_path / "secret"), 0, volume.size)]
        file.create_dataset("external", volume.shape, np.uint8, external=external)
    assert "has no image at 'link'" in refused(tmp_path / "a.h5:/link")
    for name in ("virtual", "external"):
        assert "has its voxels in other files" in refused(tmp_path / f"a.h5:/{name}")


def test_a_chunk_of_hdf5_is_not_unfolded_beyond_its_size(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, content in {
            "bomb": zlib.compress(bytes(2**24)),
            "few": zlib.compress(bytes(9)),
            "large": bytes(2**20),
            "torn": zlib.compress(bytes(256))[:-6],
        }.items():
            data = file.create_dataset(
                name, (1, 16, 16), np.uint8, chunks=(1, 16, 16), compression="gzip"
            )
            data.id.write_direct_chunk((0, 0, 0), content)
    assert "damaged at section 0" in refused(tmp_path / "a.h5:/bomb")
    assert "holds 9 bytes instead of 256" in refused(tmp_path / "a.h5:/few")
    assert "a chunk of 1048576 bytes should hold 256" in refused(tmp_path / "a.h5:/large")
    assert "damaged at section 0" in refused(tmp_path / "a.h5:/torn")


@pytest.mark.parametrize("locking", [None, False])
def test_hdf5_that_another_part_of_the_program_has_open(tmp_path, volume, locking):
    append(tmp_path / "a.h5", raw=volume)
    with h5py.File(tmp_path / "a.h5", "r", locking=locking):
        same(tmp_path / "a.h5", volume)


def test_labels_in_hdf5_are_whole_numbers(tmp_path, volume):
    append(tmp_path / "a.h5", labels=volume.astype(np.float32), mask=volume > 100)
    np.testing.assert_array_equal(open_labels(tmp_path / "a.h5:/labels").array[:], volume)
    np.testing.assert_array_equal(open_labels(tmp_path / "a.h5:/mask").array[:], volume > 100)

"""Files as the formats' own libraries write them, whole, damaged and lying."""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib

import h5py
import mrcfile
import nibabel
import nrrd
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr

from napari_emda.errors import DataError
from napari_emda.io.identity import image_identity
from napari_emda.io.location import Part, located
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.reader import volume_name
from tests.io.test_read import write_multiscale

SIZES = (50.0, 4.5, 4.0)
REGION = (slice(1, 4), slice(30, 3, -2), slice(5, 9))
DTYPES = [np.uint8, np.int16, np.uint16, np.float32]


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (5, 33, 41), dtype=np.uint8)


def same(path, expected, sizes=None):
    """Whether a file holds these voxels, as a whole and in part, and states these sizes in nm."""
    stored = open_image(path)
    assert stored.array.shape == expected.shape
    assert stored.array.dtype == expected.dtype
    np.testing.assert_array_equal(stored.array[:], expected)
    np.testing.assert_array_equal(stored.array[REGION], expected[REGION])
    assert stored.nanometres == (None if sizes is None else pytest.approx(sizes))
    return stored


def refused(path, reader=open_image):
    with pytest.raises(DataError) as error:
        np.asarray(reader(path).array[:])
    return str(error.value)


def append(path, **datasets):
    with h5py.File(path, "a") as file:
        for name, values in datasets.items():
            file[name] = values


# ---------------------------------------------------------------- HDF5


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
    same(tmp_path / "a.h5", deep)
    same(tmp_path / "a.h5:/t00000/s00/0/cells", deep)


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


# ---------------------------------------------------------------- MRC


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float32, np.float16])
@pytest.mark.parametrize("extended", [0, 4096])
def test_mrc(tmp_path, volume, dtype, extended):
    values = (volume // 2).astype(dtype)
    with mrcfile.new(tmp_path / "a.rec") as file:
        file.set_extended_header(np.zeros(extended, "V1"))
        file.set_data(values)
        # Angstrom, x first.
        file.voxel_size = tuple(10 * size for size in reversed(SIZES))
    same(tmp_path / "a.rec", values, SIZES)


def test_bytes_of_imod_have_no_sign(tmp_path, volume):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(volume.view(np.int8))
    same(tmp_path / "a.mrc", volume.view(np.int8))
    header = bytearray((tmp_path / "a.mrc").read_bytes())
    header[152:156] = (1146047817).to_bytes(4, "little")
    for flags, expected in ((0, volume), (1, volume.view(np.int8))):
        header[156:160] = flags.to_bytes(4, "little")
        (tmp_path / "a.mrc").write_bytes(header)
        same(tmp_path / "a.mrc", expected)


def test_mrc_of_another_order_of_bytes_and_without_marks(tmp_path, volume):
    values = volume.astype(np.int16)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(values)
        file.voxel_size = 40.0
        header = file.header.copy()
    header["map"] = b""
    header["machst"] = 0
    swapped = header.astype(header.dtype.newbyteorder(">"))
    content = swapped.tobytes() + values.astype(">i2").tobytes()
    (tmp_path / "b.mrc").write_bytes(content)
    same(tmp_path / "b.mrc", values.astype(">i2"), (4.0, 4.0, 4.0))


def test_an_mrc_without_voxel_size_says_so(tmp_path, volume):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(volume.astype(np.int16))
        file.voxel_size = 1.0
    stored = same(tmp_path / "a.mrc", volume.astype(np.int16))
    assert stored.remark.startswith("1 \u00c5")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("nz", 6, "is cut short"),
        ("nx", -1, "cannot be read as MRC"),
        ("nsymbt", 2**30, "is cut short"),
        ("nsymbt", -5, "cannot be read as MRC"),
        ("mode", 101, "cannot be read as MRC"),
        ("mode", 4, "complex64 values|cut short"),
        ("maps", 9, "cannot be read as MRC"),
    ],
)
def test_an_mrc_that_lies(tmp_path, volume, field, value, message):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(volume.astype(np.int16))
        header = file.header.copy()
    content = (tmp_path / "a.mrc").read_bytes()
    header[field] = value
    (tmp_path / "a.mrc").write_bytes(header.tobytes() + content[1024:])
    with pytest.raises(DataError, match=message):
        open_image(tmp_path / "a.mrc")


def test_mrc_of_other_axes_or_several_volumes(tmp_path, volume):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(volume.astype(np.int16))
        file.header.mapc, file.header.maps = 3, 1
    assert "stores its axes in the order (3, 2, 1)" in refused(tmp_path / "a.mrc")
    with mrcfile.new(tmp_path / "b.mrc") as file:
        file.set_data(np.stack([volume, volume]).astype(np.int16))
    assert "holds several volumes of 5 sections" in refused(tmp_path / "b.mrc")


# ---------------------------------------------------------------- NRRD


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("dtype", [*DTYPES, ">u2", np.uint32, np.int8, np.float64])
def test_nrrd(tmp_path, volume, encoding, dtype):
    values = volume.astype(dtype)
    # In the file, sizes begin with x.
    header = {"encoding": encoding, "spacings": SIZES[::-1], "units": ["nm"] * 3}
    nrrd.write(str(tmp_path / "a.nrrd"), values, header, index_order="C")
    same(tmp_path / "a.nrrd", values, SIZES)


def test_nrrd_of_slicer(tmp_path, volume):
    directions = np.diag([-0.004, -0.0045, 0.05])
    header = {"space": "left-posterior-superior", "space directions": directions}
    header |= {"space units": ["um"] * 3, "encoding": "gzip"}
    nrrd.write(str(tmp_path / "a.nrrd"), volume, header, index_order="C")
    same(tmp_path / "a.nrrd", volume, SIZES)
    del header["space units"]
    nrrd.write(str(tmp_path / "a.nrrd"), volume, header, index_order="C")
    assert same(tmp_path / "a.nrrd", volume).unit is None


def test_channels_of_nrrd(tmp_path, volume):
    both = np.stack([volume, volume + 1])
    nrrd.write(str(tmp_path / "a.nrrd"), both, {"encoding": "raw"}, index_order="C")
    assert "as in 'a.nrrd?channel=0'" in refused(tmp_path / "a.nrrd")
    same(tmp_path / "a.nrrd?channel=1", volume + 1)
    kinds = {"kinds": ["vector", "domain", "domain", "domain"], "encoding": "raw"}
    values = np.moveaxis(both, 0, -1)
    nrrd.write(str(tmp_path / "b.nrrd"), values, kinds, index_order="C")
    assert "stores several values for each voxel" in refused(tmp_path / "b.nrrd")


def test_a_header_of_nrrd_beside_its_voxels(tmp_path, volume):
    nrrd.write(str(tmp_path / "a.nhdr"), volume, {"encoding": "raw"}, index_order="C")
    same(tmp_path / "a.nhdr", volume)
    text = (tmp_path / "a.nhdr").read_text()
    (tmp_path / "a.raw").unlink()
    assert "has its voxels in 'a.raw': put this file back" in refused(tmp_path / "a.nhdr")
    for name in ("../a.raw", "/etc/passwd", "s%03d.raw 0 9 1", "LIST"):
        (tmp_path / "a.nhdr").write_text(text.replace("a.raw", name))
        assert "is not one file beside it" in refused(tmp_path / "a.nhdr")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sizes: 41 33 5", "sizes: 41 33 6", "is cut short"),
        ("sizes: 41 33 5", "sizes: 41 33", "cannot be read"),
        ("sizes: 41 33 5", "sizes: 41 33 -5", "cannot be read"),
        ("encoding: raw", "encoding: bzip2", "the encoding bzip2, and raw and gzip can be read"),
        ("encoding: raw", "nothing: raw", "cannot be read"),
        ("type: uint8", "type: block", "cannot be read"),
        ("type: uint8", "type: ", "cannot be read"),
        ("dimension: 3", "dimension: 3\ndimension: 3", "cannot be read"),
        ("NRRD", "PNRD", "cannot be read"),
    ],
)
def test_an_nrrd_that_lies(tmp_path, volume, old, new, message):
    nrrd.write(str(tmp_path / "a.nrrd"), volume, {"encoding": "raw"}, index_order="C")
    content = (tmp_path / "a.nrrd").read_bytes()
    assert old.encode() in content
    (tmp_path / "a.nrrd").write_bytes(content.replace(old.encode(), new.encode(), 1))
    assert message in refused(tmp_path / "a.nrrd")


# ---------------------------------------------------------------- NIfTI


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nifti(tmp_path, volume, suffix, kind, dtype):
    values = volume.astype(dtype)
    image = kind(values.T, np.diag([0.004, 0.0045, 0.05, 1]))
    image.header.set_xyzt_units("micron")
    image.to_filename(tmp_path / f"a{suffix}")
    same(tmp_path / f"a{suffix}", values, SIZES)


def test_nifti_of_a_big_endian_machine_and_with_an_extension(tmp_path, volume):
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 100))
    image = nibabel.Nifti1Image(volume.T.astype(">i2"), np.eye(4), header)
    image.to_filename(tmp_path / "a.nii")
    same(tmp_path / "a.nii", volume.astype(">i2"))


def test_scaled_numbers_of_nifti(tmp_path, volume):
    image = nibabel.Nifti1Image(volume.T, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    image.to_filename(tmp_path / "a.nii")
    # What nibabel itself makes of the file.
    expected = np.asarray(nibabel.load(tmp_path / "a.nii").get_fdata()).T.astype(np.float32)
    assert expected.min() < 0
    same(tmp_path / "a.nii", expected)


def test_times_of_nifti(tmp_path, volume):
    both = np.stack([volume, volume + 1])
    nibabel.Nifti1Image(both.T, np.eye(4)).to_filename(tmp_path / "a.nii")
    assert "as in 'a.nii?time=0'" in refused(tmp_path / "a.nii")
    same(tmp_path / "a.nii?time=1", volume + 1)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    assert "unpack it with gunzip" in refused(tmp_path / "a.nii.gz?time=1")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dim", [3, 41, 33, 9, 1, 1, 1, 1]),
        ("dim", [3, 41, 33, -5, 1, 1, 1, 1]),
        ("dim", [9, 41, 33, 5, 1, 1, 1, 1]),
        ("vox_offset", -9),
        ("vox_offset", np.nan),
        ("datatype", 999),
        ("magic", b"ni1"),
        ("xyzt_units", 7),
    ],
)
def test_a_nifti_that_lies(tmp_path, volume, field, value):
    nibabel.Nifti1Image(volume.T, np.eye(4)).to_filename(tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    header = nibabel.Nifti1Header(content[:348])
    header.structarr[field] = value
    (tmp_path / "a.nii").write_bytes(header.binaryblock + content[348:])
    assert refused(tmp_path / "a.nii").startswith("a.nii ")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_what_is_packed_as_a_whole_has_a_limit(tmp_path, volume, name, monkeypatch):
    nibabel.Nifti1Image(volume.T, np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    nrrd.write(str(tmp_path / "a.nrrd"), volume, {"encoding": "gzip"}, index_order="C")
    # The file unpacks to less than its header says.
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    assert refused(tmp_path / name).startswith(name)
    (tmp_path / name).write_bytes(content)
    monkeypatch.setattr("napari_emda.io.packed_voxels.LARGEST_PACKED", 1000)
    assert "is compressed as a whole and unpacks to" in refused(tmp_path / name)


# ---------------------------------------------------------------- NPY


@pytest.mark.parametrize("dtype", [*DTYPES, ">u2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path, volume, dtype, order):
    values = np.asarray(volume.astype(dtype), order=order)
    np.save(tmp_path / "a.npy", values)
    same(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", values[0])
    np.testing.assert_array_equal(open_image(tmp_path / "b.npy").array[:], values[:1])


@pytest.mark.parametrize("axis", [0, 1])
def test_further_axes_of_npy(tmp_path, volume, axis):
    np.save(tmp_path / "a.npy", np.stack([volume, volume + 1], axis))
    assert "position of axis0 by its number" in refused(tmp_path / "a.npy")
    same(tmp_path / f"a.npy?axis{axis}=1", volume + 1)
    np.save(tmp_path / "b.npy", volume[..., None])
    same(tmp_path / "b.npy", volume)


def test_npy_runs_nothing_and_is_bounded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    assert "cannot be read as NPY" in refused(tmp_path / "a.npy")
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9, 99999, 99999)}\n"
    magic = b"\x93NUMPY\x01\x00"
    (tmp_path / "b.npy").write_bytes(magic + len(text).to_bytes(2, "little") + text)
    assert "is cut short" in refused(tmp_path / "b.npy")
    colours = np.zeros((20, 20, 3), np.uint8)
    np.save(tmp_path / "c.npy", colours)
    assert "colour image" in refused(tmp_path / "c.npy")


# ---------------------------------------------------------------- OME-Zarr


@pytest.mark.parametrize("axes", ["zyx", "xyz", "yxz", "czyx", "tczyx"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_axes_of_ome_zarr(tmp_path, volume, axes, version):
    spatial = [axis for axis in axes if axis in "zyx"]
    values = volume.transpose(["zyx".index(axis) for axis in spatial])
    shape = dict(zip("zyx", volume.shape, strict=True))
    values = values.reshape([shape.get(axis, 1) for axis in axes])
    scale = [dict(zip("zyx", SIZES, strict=True)).get(axis, 1.0) for axis in axes]
    write_multiscale(tmp_path / "a.zarr", [values], axes, [scale], version)
    same(tmp_path / "a.zarr", volume, SIZES)


def test_levels_and_channels_of_ome_zarr(tmp_path, volume):
    both = np.stack([volume, volume + 1])
    levels = [both, both[:, :, ::2, ::2]]
    scales = [[1.0, *SIZES], [1.0, 50.0, 9.0, 8.0]]
    write_multiscale(tmp_path / "a.zarr", levels, "czyx", scales)
    same(tmp_path / "a.zarr?channel=1", volume + 1, SIZES)
    stored = open_image(tmp_path / "a.zarr?channel=1&level=1")
    np.testing.assert_array_equal(stored.array[:], levels[1][1])
    assert stored.spacing == (50.0, 9.0, 8.0)
    assert "has the levels 0 to 1, and 2 is none" in refused(tmp_path / "a.zarr?channel=0&level=2")
    assert "has the channels 0 to 1, and 2 is none" in refused(tmp_path / "a.zarr?channel=2")
    assert "no 'scene' to choose: use ?channel=0, ?level=0" in refused(
        tmp_path / "a.zarr?channel=0&scene=0"
    )


def test_ome_zarr_of_version_3_names_its_axes_only(tmp_path, volume):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=volume[None])
    image = {"version": "0.3", "axes": list("czyx"), "datasets": [{"path": "0"}]}
    group.attrs["multiscales"] = [image]
    same(tmp_path / "a.zarr", volume)
    group.attrs["multiscales"] = [{**image, "datasets": [{}]}]
    assert refused(tmp_path / "a.zarr").startswith("a.zarr ")


def pack(folder, to, inside="", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(to, "w", compression) as file:
        for entry in sorted(folder.rglob("*")):
            if entry.is_file():
                file.write(entry, f"{inside}{entry.relative_to(folder).as_posix()}")


@pytest.mark.parametrize("inside", ["", "brain.zarr/"])
@pytest.mark.parametrize("name", ["a.ozx", "a.zarr.zip", "a.ome.zarr.zip"])
def test_ome_zarr_in_a_zip_file(tmp_path, volume, inside, name):
    write_multiscale(tmp_path / "a.zarr", [volume], "zyx", [[*SIZES]])
    pack(tmp_path / "a.zarr", tmp_path / name, inside, zipfile.ZIP_DEFLATED)
    same(tmp_path / name, volume, SIZES)
    assert volume_name(tmp_path / name) == "a"
    np.testing.assert_array_equal(open_image(tmp_path / f"{name}:/0").array[:], volume)


def test_several_images_in_a_zip_file(tmp_path, volume):
    for number in (0, 1):
        write_multiscale(tmp_path / f"s/{number}", [volume + number], "zyx", [[*SIZES]])
    zarr.open_group(tmp_path / "s", mode="a")
    pack(tmp_path / "s", tmp_path / "s.ozx")
    text = refused(tmp_path / "s.ozx")
    assert "holds 2 images (0 and 1): choose one of them, such as s.ozx:/0" in text
    same(tmp_path / "s.ozx:/1", volume + 1, SIZES)


def test_an_entry_of_a_zip_file_that_unpacks_to_too_much(tmp_path, volume, monkeypatch):
    zarr.save_array(tmp_path / "a", volume, zarr_format=2)
    (tmp_path / "a" / ".zattrs").write_text('{"a": "' + " " * 10**6 + '"}')
    pack(tmp_path / "a", tmp_path / "a.zarr.zip", "", zipfile.ZIP_DEFLATED)
    monkeypatch.setattr("napari_emda.io.checked_zip.LARGEST_JSON", 10**5)
    text = refused(tmp_path / "a.zarr.zip")
    assert "holds '.zattrs' of 1000009 bytes, which cannot be right" in text


# ---------------------------------------------------------------- N5, Neuroglancer


def n5(folder, volume, **attributes):
    """An N5 array; its attributes that the format does not define are those of programs."""
    metadata = {"dataType": volume.dtype.name, "dimensions": volume.shape[::-1]}
    metadata |= {"blockSize": [16] * volume.ndim, "compression": {"type": "gzip"}, **attributes}
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": str(folder)}}
    tensorstore.open({**spec, "metadata": metadata}, create=True).result()[...] = volume.T


@pytest.mark.parametrize("dtype", DTYPES)
def test_n5(tmp_path, volume, dtype):
    n5(tmp_path / "a.n5" / "raw", volume.astype(dtype), resolution=[4, 4.5, 50])
    same(tmp_path / "a.n5" / "raw", volume.astype(dtype), SIZES)
    # The only array of its folder.
    same(tmp_path / "a.n5", volume.astype(dtype), SIZES)


@pytest.mark.parametrize(
    ("attributes", "sizes"),
    [
        ({}, None),
        ({"pixelResolution": {"unit": "um", "dimensions": [0.004, 0.0045, 0.05]}}, SIZES),
        ({"pixelResolution": [4, 4.5, 50], "unit": "nm"}, SIZES),
        ({"pixelResolution": [4, 4.5, 50], "unit": "s"}, None),
        ({"transform": 3}, None),
    ],
)
def test_voxel_sizes_of_n5(tmp_path, volume, attributes, sizes):
    n5(tmp_path / "a", volume, **attributes)
    stored = open_image(tmp_path / "a")
    assert stored.nanometres == (None if sizes is None else pytest.approx(sizes))


def test_a_pyramid_of_cosem(tmp_path, volume):
    transform = {"axes": ["z", "y", "x"], "units": ["nm"] * 3, "scale": SIZES}
    n5(tmp_path / "a" / "s0", volume, transform={**transform, "translate": [100, 20, 10]})
    n5(tmp_path / "a" / "s1", volume[:, ::2, ::2], transform={**transform, "scale": [50, 9, 8]})
    stored = same(tmp_path / "a" / "s0", volume, SIZES)
    assert stored.origin == (100, 20, 10)
    (tmp_path / "a" / "attributes.json").write_text('{"n5": "2.5.0"}')
    same(tmp_path / "a", volume, SIZES)
    second = open_image(tmp_path / "a?level=1")
    np.testing.assert_array_equal(second.array[:], volume[:, ::2, ::2])
    assert second.spacing == (50, 9, 8)
    assert "a has no level 2" in refused(tmp_path / "a?level=2")


def test_a_pyramid_of_bigdataviewer(tmp_path, volume):
    path = tmp_path / "a.n5" / "setup0" / "timepoint0"
    n5(path / "s0", volume)
    n5(path / "s1", volume[:, ::2, ::2], downsamplingFactors=[2, 2, 1])
    (path / "attributes.json").write_text(json.dumps({"resolution": SIZES[::-1]}))
    same(tmp_path / "a.n5", volume, SIZES)
    assert open_image(tmp_path / "a.n5" / "setup0" / "timepoint0?level=1").spacing == (50, 9, 8)


def test_several_images_in_n5_and_channels(tmp_path, volume):
    n5(tmp_path / "a.n5" / "em" / "raw", volume)
    n5(tmp_path / "a.n5" / "em" / "two", np.stack([volume, volume + 1]))
    text = refused(tmp_path / "a.n5")
    assert "holds 2 images (em/raw and em/two): choose one of them, such as a.n5/em/raw" in text
    assert "as in 'two?channel=0'" in refused(tmp_path / "a.n5" / "em" / "two")
    same(tmp_path / "a.n5" / "em" / "two?channel=1", volume + 1)
    (tmp_path / "b.n5").mkdir()
    assert "is an N5 folder without an image" in refused(tmp_path / "b.n5")


def test_n5_that_lies(tmp_path, volume):
    n5(tmp_path / "a", volume)
    block = tmp_path / "a" / "0" / "0" / "0"
    content = block.read_bytes()
    for damaged in (content[:20], b"", content[:16] + gzip.compress(bytes(2**22))):
        block.write_bytes(damaged)
        assert refused(tmp_path / "a").startswith("a is damaged at section 0")
    attributes = json.loads((tmp_path / "a" / "attributes.json").read_text())
    for wrong in (
        {"dimensions": [9]},
        {"dimensions": [-1, 2, 3]},
        {"dataType": "text"},
        {"blockSize": [2**20] * 3},
        {"compression": {"type": "none of these"}},
    ):
        (tmp_path / "a" / "attributes.json").write_text(json.dumps({**attributes, **wrong}))
        assert refused(tmp_path / "a").startswith("a ")


def precomputed(folder, volume, key=0, kind="image", **scale):
    values = np.moveaxis(volume, 0, -1) if volume.ndim == 4 else volume[..., None]
    values = values.transpose(2, 1, 0, 3)
    info = {"data_type": volume.dtype.name, "num_channels": values.shape[-1], "type": kind}
    scale = {"key": f"s{key}", "size": values.shape[:3], "encoding": "raw", **scale}
    spec = {"driver": "neuroglancer_precomputed", "multiscale_metadata": info}
    spec |= {"kvstore": {"driver": "file", "path": str(folder)}, "scale_metadata": scale}
    spec["scale_metadata"].setdefault("chunk_size", [16, 16, 2])
    tensorstore.open(spec, create=True).result()[...] = values


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_precomputed(tmp_path, volume, dtype):
    values = volume.astype(dtype)
    precomputed(tmp_path / "a", values, resolution=[4, 4.5, 50], voxel_offset=[10, 20, 30])
    precomputed(tmp_path / "a", values[:, ::2, ::2], 1, resolution=[8, 9, 50])
    stored = same(tmp_path / "a", values, SIZES)
    assert stored.origin == (1500, 90, 40)
    second = open_image(tmp_path / "a?level=1")
    np.testing.assert_array_equal(second.array[:], values[:, ::2, ::2])
    assert second.spacing == (50, 9, 8)
    assert "has the levels 0 to 1, and 2 is none" in refused(tmp_path / "a?level=2")


def test_a_segmentation_of_neuroglancer(tmp_path, volume):
    ids = volume.astype(np.uint64) + 2**40
    options = {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8] * 3}
    precomputed(tmp_path / "a", ids, kind="segmentation", resolution=[4, 4.5, 50], **options)
    np.testing.assert_array_equal(open_labels(tmp_path / "a").array[:], ids)
    (tmp_path / "a" / "info").write_text('{"scales": [3]}')
    assert refused(tmp_path / "a").startswith("a cannot be read as Neuroglancer precomputed")
    (tmp_path / "a" / "info").write_text('{"scales": [' + " " * 2**20 + "]}")
    assert "far too large for a description" in refused(tmp_path / "a")


def test_channels_of_neuroglancer(tmp_path, volume):
    precomputed(tmp_path / "a", np.stack([volume, volume + 1]), resolution=[4, 4.5, 50])
    assert "as in 'a?channel=0'" in refused(tmp_path / "a")
    same(tmp_path / "a?channel=1", volume + 1, SIZES)


# ---------------------------------------------------------------- TIFF


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes", ["TZCYX", "TCZYX", "ZCYX", "CZYX", "TZYX"])
def test_channels_and_times_of_tiff(tmp_path, compression, axes):
    sizes = {"T": 2 if "T" in axes else 1, "Z": 4, "C": 3 if "C" in axes else 1}
    full = np.arange(2 * 4 * 3 * 6 * 7, dtype=np.uint16).reshape(2, 4, 3, 6, 7)
    full = full[: sizes["T"], :, : sizes["C"]]
    left = [axis for axis in "TZCYX" if axis in axes]
    missing = tuple(number for number, axis in enumerate("TZCYX") if axis not in axes)
    values = np.squeeze(full, missing).transpose([left.index(axis) for axis in axes])
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, values, metadata={"axes": axes}, compression=compression)
    text = refused(path)
    assert ("time=0" in text, "channel=0" in text) == ("T" in axes, "C" in axes)
    channel = sizes["C"] - 1
    time = sizes["T"] - 1
    choice = "&".join([f"time={time}"] * ("T" in axes) + [f"channel={channel}"] * ("C" in axes))
    stored = open_image(tmp_path / f"a.ome.tif?{choice}")
    expected = full[time, :, channel]
    np.testing.assert_array_equal(stored.array[:], expected)
    np.testing.assert_array_equal(stored.array[3:0:-2, 2:5, 1:], expected[3:0:-2, 2:5, 1:])


def test_a_channel_of_few_and_a_scene(tmp_path, volume):
    tifffile.imwrite(tmp_path / "c.tif", volume[:2], imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(open_image(tmp_path / "c.tif?channel=1").array[:], volume[1:2])
    with tifffile.TiffWriter(tmp_path / "s.ome.tif", ome=True) as file:
        for number, unit in enumerate(("nm", "um")):
            metadata = {"axes": "ZYX", "PhysicalSizeX": 4.0, "PhysicalSizeY": 4.5}
            metadata |= {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"} | {"PhysicalSizeZ": 50}
            file.write(volume + number, photometric="minisblack", metadata=metadata)
    assert "as in 's.ome.tif?scene=0'" in refused(tmp_path / "s.ome.tif")
    same(tmp_path / "s.ome.tif?scene=0", volume, SIZES)
    same(tmp_path / "s.ome.tif?scene=1", volume + 1, tuple(1000 * size for size in SIZES))
    assert "has the scenes 0 to 1, and 2 is none" in refused(tmp_path / "s.ome.tif?scene=2")
    assert "has no 'level' to choose" in refused(tmp_path / "s.ome.tif?scene=1&level=0")


# ---------------------------------------------------------------- parts


def test_names_that_look_like_parts_are_files(tmp_path, volume):
    tifffile.imwrite(tmp_path / "a?channel=1", volume)
    assert located(tmp_path / "a?channel=1").part == Part()
    (tmp_path / "a:b").mkdir()
    np.save(tmp_path / "a:b" / "c.npy", volume)
    same(tmp_path / "a:b" / "c.npy", volume)
    np.save(tmp_path / "a:b" / "d.npy", np.stack([volume, volume]))
    same(tmp_path / "a:b" / "d.npy?axis0=1", volume)
    missing = tmp_path / "missing.h5:/raw"
    assert refused(missing).startswith(f"{missing} does not exist")
    assert "chooses 'channel' twice" in refused(tmp_path / "x.npy?channel=1&c=2")


def test_volumes_are_named_after_their_part(tmp_path, volume):
    append(tmp_path / "sample.h5", **{"volumes/raw": volume})
    assert volume_name(tmp_path / "sample.h5:/volumes/raw") == "sample_raw"
    np.save(tmp_path / "a.npy", volume)
    assert volume_name(tmp_path / "a.npy?channel=1&time=2") == "a_channel1_time2"


def test_parts_of_one_file_have_identities_of_their_own(tmp_path, volume):
    append(tmp_path / "a.h5", raw=volume, other=volume)
    whole = image_identity(tmp_path / "a.h5")
    raw = image_identity(tmp_path / "a.h5:/raw")
    assert raw == {**whole, "part": ":/raw"}
    assert raw != image_identity(tmp_path / "a.h5:/other")
    append(tmp_path / "a.h5", more=volume)
    assert raw["hash"] != image_identity(tmp_path / "a.h5:/raw")["hash"]

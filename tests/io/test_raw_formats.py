"""MRC, NRRD, NIfTI and NPY as their libraries write them, whole, damaged and lying."""

from __future__ import annotations

import gzip

import mrcfile
import nibabel
import nrrd
import numpy as np
import pytest

from napari_emda.errors import DataError
from napari_emda.io.read import open_image
from tests.io.opening import DTYPES, SIZES, refused, same

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

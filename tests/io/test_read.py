"""Files are read and written as other libraries write and read them."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from napari_emda.data.lazy import AxisView, SectionStack
from napari_emda.data.units import nanometres
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.io.raw_voxels import RawVoxels
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.reader import volume_name
from napari_emda.io.tiff import write_tiff
from napari_emda.io.units import calibrated

REAL = Path(__file__).parents[3] / "shared" / "data"
VNC = (50.0, 4.6, 4.6)


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 33, 41), dtype=np.uint8)


def write_multiscale(path, arrays, axes, scales, version="0.5", unit="nanometer", extra=None):
    """Write OME-Zarr by hand, as the specification describes it."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    for level, array in enumerate(arrays):
        group.create_array(str(level), data=array, chunks=array.shape)
    axis_types = {"t": "time", "c": "channel"}
    multiscale = {
        "axes": [
            {
                "name": axis,
                "type": axis_types.get(axis, "space"),
                **({"unit": unit} if unit and axis in "zyx" else {}),
            }
            for axis in axes
        ],
        "datasets": [
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
            for level, scale in enumerate(scales)
        ],
        **(extra or {}),
    }
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    else:
        group.attrs["multiscales"] = [{"version": "0.4", **multiscale}]


# ---------------------------------------------------------------- reading where it is sliced

INDEX = st.one_of(
    st.integers(-3, 2),
    st.builds(
        slice,
        st.none() | st.integers(-5, 5),
        st.none() | st.integers(-5, 5),
        st.sampled_from([1, 2, -1, -2]),
    ),
)


@given(st.lists(INDEX, max_size=3).map(tuple), st.booleans())
@settings(max_examples=200)
def test_slicing_is_that_of_numpy(index, ellipsis):
    array = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    index = (..., *index) if ellipsis else index
    stored = zarr.create_array({}, data=array[None])
    for lazy in (AxisView(stored, 1), SectionStack(lambda z: array[z], array.shape, array.dtype)):
        np.testing.assert_array_equal(lazy[index], array[index])


@given(INDEX)
def test_slicing_a_single_section_is_that_of_numpy(index):
    array = np.arange(20).reshape(4, 5)
    try:
        expected = array[None][index]
    except IndexError:
        with pytest.raises(IndexError):
            AxisView(array, None)[index]
    else:
        np.testing.assert_array_equal(AxisView(array, None)[index], expected)


def test_wrong_indices_are_refused():
    lazy = AxisView(np.zeros((2, 3, 4)), 0)
    for index in (2, -3, (0, 0, 0, 0), (..., ...)):
        with pytest.raises(IndexError):
            lazy[index]


def test_a_stack_keeps_no_more_sections_than_its_bytes_allow():
    decoded = []

    def read(z):
        decoded.append(z)
        return np.full((4, 4), z, np.uint8)

    stack = SectionStack(read, (3, 4, 4), np.uint8, cache_bytes=32)
    for z in (0, 1, 0, 1, 2, 1, 0):
        assert (stack[z] == z).all()
    assert decoded == [0, 1, 2, 0]


# ---------------------------------------------------------------- TIFF


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.uint32, np.float32]),
        st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)),
    ),
    st.tuples(*[st.floats(0.1, 5000).map(lambda v: round(v, 3))] * 3),
)
@settings(max_examples=60, deadline=None)
def test_tiff_round_trip(tmp_path_factory, array, spacing):
    path = tmp_path_factory.mktemp("tiff") / "out.tif"
    write_tiff(path, iter(array), array.shape, array.dtype, VoxelGrid(spacing))
    np.testing.assert_array_equal(tifffile.imread(path).squeeze(), array.squeeze())
    stored = open_image(path)
    assert stored.array.shape == array.shape
    np.testing.assert_array_equal(np.asarray(stored.array), array)
    assert stored.unit == "nm"
    np.testing.assert_allclose(stored.spacing, spacing, rtol=1e-6)


def test_fiji_finds_the_voxel_size_of_a_mask(tmp_path, volume):
    write_tiff(tmp_path / "mask.tif", volume, volume.shape, np.uint8, VoxelGrid(VNC))
    with tifffile.TiffFile(tmp_path / "mask.tif") as file:
        assert file.is_imagej
        assert file.imagej_metadata["slices"] == 7
        assert file.imagej_metadata["spacing"] == 50
        assert file.imagej_metadata["unit"] == "nm"
        for name in ("XResolution", "YResolution"):
            pixels, length = file.pages[0].tags[name].value
            assert length / pixels == pytest.approx(4.6)
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_objects_of_32_bit_become_ome_with_sizes(tmp_path):
    array = np.arange(24, dtype=np.uint32).reshape(2, 3, 4) + 70_000
    write_tiff(tmp_path / "objects.tif", array, array.shape, array.dtype, VoxelGrid(VNC))
    with tifffile.TiffFile(tmp_path / "objects.tif") as file:
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [pixels[f"PhysicalSize{axis}"] for axis in "ZYX"] == list(VNC)
    assert {pixels[f"PhysicalSize{axis}Unit"] for axis in "ZYX"} == {"nm"}
    assert open_labels(tmp_path / "objects.tif").spacing == VNC


def test_big_volumes_become_bigtiff(tmp_path, monkeypatch, volume):
    monkeypatch.setattr("napari_emda.io.tiff.CLASSIC_LIMIT", 100)
    write_tiff(tmp_path / "big.tif", volume, volume.shape, np.uint8, VoxelGrid(VNC))
    with tifffile.TiffFile(tmp_path / "big.tif") as file:
        assert file.is_bigtiff
        assert file.is_ome
    assert open_image(tmp_path / "big.tif").spacing == VNC


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32])
@pytest.mark.parametrize(
    ("spacing", "unit"), [(None, None), (VNC, None), (VNC, "\u00b5m"), ((1.0, 1.0, 1.0), "nm")]
)
def test_an_unknown_voxel_size_stays_unknown(tmp_path, volume, dtype, spacing, unit):
    grid = None if spacing is None else VoxelGrid(spacing, unit or "pixel")
    write_tiff(tmp_path / "a.tif", volume, volume.shape, dtype, grid)
    stored = open_image(tmp_path / "a.tif")
    assert stored.unit == ("nm" if unit else None)
    factor = 1000 if unit == "\u00b5m" else 1
    assert stored.spacing == (
        None if spacing is None else tuple(pytest.approx(s * factor) for s in spacing)
    )


def test_sections_do_not_pile_up_before_they_are_compressed(tmp_path, monkeypatch, noise):
    """Noise takes far longer to compress than to copy: without a limit all 32 MiB would wait."""
    monkeypatch.setattr("napari_emda.io.tiff._WAITING", 2**21)
    section = noise.integers(0, 256, (1024, 1024), dtype=np.uint8)
    tracemalloc.start()
    write_tiff(tmp_path / "v.tif", (section.copy() for _ in range(32)), (32, 1024, 1024), np.uint8)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 * section.nbytes


@pytest.mark.parametrize("fault", [ValueError, "few", "many", "shape"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, volume, fault):
    def sections():
        yield volume[0]
        if fault is ValueError:
            raise ValueError
        if fault == "shape":
            yield volume[1][:-1]
        if fault == "many":
            yield from [volume[0]] * 9

    path = tmp_path / "out.tif"
    path.write_bytes(b"older")
    with pytest.raises(ValueError if fault is ValueError else DataError):
        write_tiff(path, sections(), volume.shape, volume.dtype)
    assert [p.name for p in tmp_path.iterdir()] == ["out.tif"]
    assert path.read_bytes() == b"older"


def test_writing_refuses_other_types_and_folders(tmp_path, volume):
    with pytest.raises(DataError, match="float64: choose one of"):
        write_tiff(tmp_path / "a.tif", volume, volume.shape, np.float64)
    with pytest.raises(DataError, match="choose another folder"):
        write_tiff(tmp_path / "missing" / "a.tif", volume, volume.shape, np.uint8)


def test_written_files_have_the_mode_of_any_new_file(tmp_path, volume):
    write_tiff(tmp_path / "a.tif", volume, volume.shape, np.uint8)
    (tmp_path / "b").touch()
    assert (tmp_path / "a.tif").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("in_one_go", [0, 2**14], ids=["row by row", "in one go"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_uncompressed_tiff_is_read_where_it_is_sliced(tmp_path, byteorder, in_one_go, monkeypatch):
    monkeypatch.setattr("napari_emda.io.raw_voxels._IN_ONE_GO", in_one_go)
    array = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)
    metadata = {"axes": "ZYX", "spacing": 0.05, "unit": "micron"}
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, array, imagej=True, metadata=metadata, resolution=(200, 200), byteorder=byteorder
    )
    stored = open_image(path)
    assert isinstance(stored.array, RawVoxels)
    for key in (
        ...,
        (1, 5, 7),
        (slice(None), slice(3, 11), slice(25, 40)),
        (slice(2, None, -1), slice(1, 20, 3), slice(29, 2, -4)),
        (slice(0, 0), 4),
    ):
        np.testing.assert_array_equal(stored.array[key], array[key])
    assert (stored.spacing, stored.unit) == ((50, 5, 5), "nm")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib", "tile": (16, 16)},
        {"imagej": True, "metadata": {"axes": "TYX"}},
        {"imagej": True, "metadata": {"axes": "CYX"}, "compression": "zlib"},
        {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    ],
)
def test_stacks_open_however_they_are_stored(tmp_path, volume, options):
    tifffile.imwrite(tmp_path / "a.tif", volume, **options)
    stored = open_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(stored.array), volume)
    np.testing.assert_array_equal(stored.array[2:5, 10:20, 30:], volume[2:5, 10:20, 30:])
    assert stored.spacing is None


def test_pages_appended_one_by_one_are_a_stack(tmp_path, volume):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for section in volume:
            writer.write(section, metadata=None, contiguous=False)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.tif").array), volume)


def test_the_finest_level_of_a_pyramid_is_taken(tmp_path, volume):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(volume, subifds=1, metadata={"axes": "ZYX"}, tile=(16, 16), compression="zlib")
        writer.write(volume[:, ::2, ::2], subfiletype=1, tile=(16, 16), compression="zlib")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.ome.tif").array), volume)


def test_ome_sizes_default_to_micrometres(tmp_path, volume):
    metadata = {
        "axes": "ZYX",
        "PhysicalSizeX": 0.005,
        "PhysicalSizeY": 0.005,
        "PhysicalSizeZ": 0.05,
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", volume, ome=True, metadata=metadata)
    stored = open_image(tmp_path / "a.ome.tif")
    assert (stored.spacing, stored.unit) == ((50, 5, 5), "nm")


def test_one_bit_labels_open_as_booleans(tmp_path):
    array = np.zeros((3, 10, 12), bool)
    array[1, 3:5] = True
    tifffile.imwrite(tmp_path / "a.tif", array)
    np.testing.assert_array_equal(np.asarray(open_labels(tmp_path / "a.tif").array), array)


@pytest.mark.parametrize("kind", ["imagej", "imagej raw", "shaped", "shaped raw", "pages", "ome"])
@pytest.mark.parametrize("share", [0.97, 0.5, 0.05, 0.002])
def test_a_truncated_tiff_is_named_as_such(tmp_path, volume, kind, share):
    path = tmp_path / "a.tif"
    compression = None if "raw" in kind else "zlib"
    if kind == "pages":
        with tifffile.TiffWriter(path) as writer:
            for section in volume:
                writer.write(section, metadata=None, contiguous=False, compression=compression)
    else:
        flags = {"imagej": "imagej" in kind, "ome": kind == "ome"}
        tifffile.imwrite(path, volume, metadata={"axes": "ZYX"}, compression=compression, **flags)
    whole = path.read_bytes()
    open_image(path)
    path.write_bytes(whole[: int(len(whole) * share)])
    if kind == "ome" and share == 0.97:  # only the description at the end is lost
        np.testing.assert_array_equal(np.asarray(open_image(path).array), volume)
        return
    with pytest.raises(DataError, match=r"a\.tif .*: (save or )?copy it again\.$"):
        open_image(path)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((8, 9, 3), {"photometric": "rgb"}, "colour image: convert it to grey values"),
        ((5, 8, 9, 3), {"photometric": "rgb", "compression": "zlib"}, "convert it to grey values"),
        (
            (2, 3, 8, 9),
            {"imagej": True, "metadata": {"axes": "TZYX"}},
            r"4 axes \(time 2, z 3, y 8, x 9\).* as in 'a\.tif\?time=0'",
        ),
        (
            (2, 8, 9),
            {"imagej": True, "metadata": {"axes": "CYX"}},
            r"2 channels.* as in 'a\.tif\?channel=0', or, if they are 2 sections",
        ),
    ],
)
def test_a_tiff_that_is_no_volume_is_refused(tmp_path, shape, options, message):
    colours = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colours, **options)
    with pytest.raises(DataError, match=message):
        open_image(tmp_path / "a.tif")


def test_pages_of_different_shape_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((8, 9), np.uint8), metadata=None)
        writer.write(np.zeros((8, 10), np.uint8), metadata=None)
    with pytest.raises(DataError, match="sections of different shape"):
        open_image(tmp_path / "a.tif")


def test_probabilities_are_no_labels_and_complex_images_are_refused(tmp_path, volume):
    tifffile.imwrite(tmp_path / "a.tif", volume.astype(np.float32))
    np.testing.assert_array_equal(open_labels(tmp_path / "a.tif").array[:], volume)
    tifffile.imwrite(tmp_path / "b.tif", volume.astype(np.float32) / 300)
    open_image(tmp_path / "b.tif")
    with pytest.raises(DataError, match=r"'b\.tif' holds decimal numbers, as probabilities are"):
        open_labels(tmp_path / "b.tif").array[:]
    tifffile.imwrite(tmp_path / "c.tif", volume.astype(np.complex64))
    with pytest.raises(DataError, match="complex64"):
        open_image(tmp_path / "c.tif")


# ---------------------------------------------------------------- zarr


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["tczyx", "czyx", "zyx", "cyx", "yx"])
def test_ome_zarr_opens_at_its_finest_level(tmp_path, volume, version, axes):
    array = volume if "z" in axes else volume[3]
    full = array.reshape([1] * (len(axes) - array.ndim) + list(array.shape))
    scale = [{"z": 0.05, "y": 0.0046, "x": 0.0046}.get(a, 1.0) for a in axes]
    coarse = [s * 2 if a in "yx" else s for a, s in zip(axes, scale, strict=True)]
    write_multiscale(
        tmp_path / "a.zarr",
        [full, full[..., ::2, ::2]],
        axes,
        [scale, coarse],
        version,
        unit="micrometer",
    )
    stored = open_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(np.asarray(stored.array), array.reshape(-1, *array.shape[-2:]))
    np.testing.assert_array_equal(
        stored.array[0, 5:9, 4], array.reshape(-1, *array.shape[-2:])[0, 5:9, 4]
    )
    assert (stored.spacing, stored.unit) == ((VNC, "nm") if "z" in axes else (None, None))


def test_scale_of_the_whole_pyramid_counts(tmp_path, volume):
    extra = {"coordinateTransformations": [{"type": "scale", "scale": [50.0, 4.6, 4.6]}]}
    write_multiscale(tmp_path / "a.zarr", [volume], "zyx", [[1.0, 1.0, 1.0]], extra=extra)
    assert open_image(tmp_path / "a.zarr").spacing == VNC


def test_ome_zarr_without_unit_has_none(tmp_path, volume):
    write_multiscale(tmp_path / "a.zarr", [volume], "zyx", [[50.0, 4.6, 4.6]], unit=None)
    stored = open_image(tmp_path / "a.zarr")
    assert (stored.spacing, stored.unit) == (VNC, None)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_root_of_bioformats2raw_is_its_image(tmp_path, volume, version):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3 if version == "0.5" else 2)
    layout = {"bioformats2raw.layout": 3}
    root.attrs.update({"ome": {"version": "0.5", **layout}} if version == "0.5" else layout)
    root.create_group("OME", attributes={"series": ["0"]})
    write_multiscale(tmp_path / "a.zarr" / "0", [volume], "zyx", [VNC], version)
    stored = open_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(np.asarray(stored.array), volume)
    assert stored.nanometres == VNC
    for name in ("1", "10"):
        write_multiscale(tmp_path / "a.zarr" / name, [volume], "zyx", [VNC], version)
    with pytest.raises(DataError) as error:
        open_image(tmp_path / "a.zarr")
    assert str(error.value) == (
        "a.zarr holds 3 images (0, 1 and 10): choose one of them, such as a.zarr/0."
    )


def test_a_group_of_labels_is_the_labels_in_it(tmp_path, volume):
    write_multiscale(tmp_path / "a.zarr", [volume], "zyx", [VNC])
    labels = zarr.open_group(tmp_path / "a.zarr" / "labels", mode="w")
    labels.attrs["ome"] = {"version": "0.5", "labels": ["cells"]}
    write_multiscale(tmp_path / "a.zarr" / "labels" / "cells", [volume // 2], "zyx", [VNC])
    np.testing.assert_array_equal(
        np.asarray(open_labels(tmp_path / "a.zarr" / "labels").array), volume // 2
    )
    write_multiscale(tmp_path / "a.zarr" / "labels" / "er", [volume // 3], "zyx", [VNC])
    with pytest.raises(DataError, match=r"labels holds 2 labels \(cells and er\): choose one"):
        open_labels(tmp_path / "a.zarr" / "labels")


def test_a_plate_is_named_as_such(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "B/03"}]}}
    with pytest.raises(DataError, match=r"plate of wells: .* such as a\.zarr/B/03/0"):
        open_image(tmp_path / "a.zarr")


def test_the_place_of_an_ome_zarr_is_kept(tmp_path, volume):
    """A level is scaled and shifted first, the whole pyramid afterwards."""
    level = {
        "path": "0",
        "coordinateTransformations": [
            {"type": "scale", "scale": [0.025, 0.0023, 0.0023]},
            {"type": "translation", "translation": [0.1, 0.2, 0.3]},
        ],
    }
    whole = [
        {"type": "scale", "scale": [2, 2, 2]},
        {"type": "translation", "translation": [1, 0, -1]},
    ]
    extra = {"datasets": [level], "coordinateTransformations": whole}
    write_multiscale(tmp_path / "a.zarr", [volume], "zyx", [VNC], unit="micrometer", extra=extra)
    stored = open_image(tmp_path / "a.zarr")
    assert stored.nanometres == pytest.approx(VNC)
    assert stored.origin == pytest.approx((1200, 400, -400))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_zarr_arrays_open(tmp_path, volume, zarr_format):
    zarr.create_array(
        tmp_path / "a", data=volume[None], chunks=(1, 2, 16, 16), zarr_format=zarr_format
    )
    stored = open_labels(tmp_path / "a")
    np.testing.assert_array_equal(np.asarray(stored.array), volume)
    assert stored.spacing is None
    zarr.create_array(tmp_path / "b", data=volume[0], zarr_format=zarr_format)
    assert open_image(tmp_path / "b").array.shape == (1, 33, 41)


def test_zarr_that_is_no_volume_is_refused(tmp_path, volume):
    zarr.create_array(tmp_path / "4d.zarr", data=np.stack([volume, volume]))
    zarr.create_array(tmp_path / "1d.zarr", data=np.arange(5))
    zarr.create_array(tmp_path / "rgb.zarr", data=np.zeros((20, 20, 3), np.uint8))
    group = zarr.open_group(tmp_path / "group.zarr", mode="w")
    group.create_array("raw", data=volume)
    write_multiscale(
        tmp_path / "channels.zarr", [np.stack([volume, volume])], "czyx", [[1.0, 50.0, 4.6, 4.6]]
    )
    write_multiscale(tmp_path / "axes.zarr", [volume], "yx", [[1.0, 1.0]])
    write_multiscale(tmp_path / "invalid.zarr", [volume], "zyx", [[1.0, 1.0]])
    (tmp_path / "empty.zarr").mkdir()
    messages = {
        "4d": r"position of axis0 .* as in '4d\.zarr\?axis0=0'",
        "1d": "1 axis",
        "rgb": "convert it to grey values",
        "group": r"choose an array in it \(raw\)",
        "channels": r"choose one channel by its number .* 'channels\.zarr\?channel=0'",
        "axes": "2 axes, which its data do not have",
        "invalid": "not OME-Zarr",
        "empty": "cannot be read as zarr",
    }
    for name, message in messages.items():
        with pytest.raises(DataError, match=message):
            open_image(tmp_path / f"{name}.zarr")


# ---------------------------------------------------------------- folders and pictures


def test_sections_come_in_natural_order(tmp_path, volume):
    for z, section in enumerate(np.concatenate([volume, volume])):
        Image.fromarray(section).save(tmp_path / f"s{z}.png")
    (tmp_path / "notes.txt").write_text("not a section")
    (tmp_path / "._s0.png").write_text("what macOS leaves behind")
    stored = open_image(tmp_path)
    np.testing.assert_array_equal(np.asarray(stored.array), np.concatenate([volume, volume]))
    np.testing.assert_array_equal(stored.array[3, 1:5], volume[3, 1:5])


def test_tiff_and_png_sections_of_16_bit(tmp_path):
    array = np.arange(3 * 40, dtype=np.uint16).reshape(3, 5, 8) * 400
    tifffile.imwrite(tmp_path / "0.tif", array[0], compression="zlib")
    tifffile.imwrite(tmp_path / "1.TIFF", array[1])
    Image.fromarray(array[2]).save(tmp_path / "2.png")
    stored = open_labels(tmp_path)
    assert stored.array.dtype == np.uint16
    np.testing.assert_array_equal(np.asarray(stored.array), array)


@pytest.mark.parametrize("high", [255, 1])
def test_one_bit_sections_get_the_values_of_eight_bit_neighbours(tmp_path, high):
    mask = np.zeros((4, 6, 8), bool)
    mask[:, 2:4, 1:5] = True
    for z, section in enumerate(mask):
        # In the VNC data some of the masks are 1-bit, and "> 127" silently erases them.
        Image.fromarray(section if z in (1, 3) else section.astype(np.uint8) * high).save(
            tmp_path / f"{z}.png"
        )
    stored = open_labels(tmp_path)
    assert stored.array.dtype == np.uint8
    np.testing.assert_array_equal(np.asarray(stored.array), mask * np.uint8(high))


def test_folders_of_one_bit_sections_stay_boolean(tmp_path):
    mask = np.eye(5, dtype=bool)
    Image.fromarray(mask).save(tmp_path / "0.png")
    np.testing.assert_array_equal(np.asarray(open_labels(tmp_path).array), mask[None])


def test_a_single_picture_is_one_section(tmp_path, volume):
    Image.fromarray(volume[0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.png").array), volume[:1])
    Image.fromarray(volume[0]).save(tmp_path / "a.jpg")
    assert open_image(tmp_path / "a.jpg").array.shape == (1, 33, 41)


def test_folders_and_pictures_that_are_no_volume_are_refused(tmp_path, volume):
    def folder(name, **images):
        (tmp_path / name).mkdir()
        for stem, image in images.items():
            Image.fromarray(image).save(tmp_path / name / f"{stem}.png")
        return tmp_path / name

    cases = {
        folder("empty"): "holds no sections",
        folder("shapes", a=volume[0], b=volume[0, :-1]): "sections of one shape",
        folder(
            "types", a=volume[0], b=volume[0].astype(np.uint16)
        ): r"mixes sections of uint16 \(such as b\.png\) and uint8 \(such as a\.png\)",
        folder(
            "colour", a=np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        ): r"a\.png is a colour im",
    }
    cut = folder("cut", a=volume[0])
    (cut / "a.png").write_bytes((cut / "a.png").read_bytes()[:600])
    (tmp_path / "none.png").write_bytes(b"no picture")
    stack = folder("stack")
    tifffile.imwrite(stack / "a.tif", volume)
    cases |= {tmp_path / "none.png": "cannot be read", stack: "holds 7 sections"}
    for path, message in cases.items():
        with pytest.raises(DataError, match=message):
            open_image(path)
    with pytest.raises(DataError, match="damaged or cut short"):
        open_image(cut).array[0]


def test_missing_and_unknown_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_image(tmp_path / "nothing.tif")
    for name in ("a.doc", "a"):
        (tmp_path / name).write_bytes(b"?")
        with pytest.raises(
            DataError,
            match=r"choose TIFF, .*HDF5, .* or a folder of sections",
        ):
            open_image(tmp_path / name)
    (tmp_path / "a.tif").write_bytes(b"no TIFF at all")
    with pytest.raises(DataError, match="not a TIFF"):
        open_image(tmp_path / "a.tif")
    (tmp_path / "b.tif").touch()
    with pytest.raises(DataError, match="not a TIFF"):
        open_image(tmp_path / "b.tif")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2024.05.12_brain.tif", "2024.05.12_brain"),
        ("m.ome.tif", "m"),
        ("m.OME.TIFF", "m"),
        ("m.ome.zarr", "m"),
        ("m.zarr", "m"),
        ("a b.c.tiff", "a b.c"),
        ("section.png", "section"),
        ("Schnitte (Nr. 1)", "Schnitte (Nr. 1)"),
    ],
)
def test_only_endings_of_formats_are_cut_off_a_name(name, expected):
    assert volume_name(Path(name)) == expected


@pytest.mark.parametrize(
    "address",
    ["ftp://example.org/a.zarr", "file://bucket/a.zarr", "https://a::file:///etc", "FTP://a/b"],
)
def test_addresses_of_other_kinds_are_named_as_such(address):
    with pytest.raises(DataError) as error:
        open_image(Path(address))
    shown = str(Path(address)).replace(":/", "://", 1).replace("FTP", "ftp")
    assert str(error.value) == (
        f"'{shown}' is an address that cannot be opened: use https://, http://, s3:// or gs://, or "
        "download the image."
    )


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("WEBKNOSSOS", "datasource-properties.json", '{"dataLayers": []}'),
    ],
)
def test_folders_of_other_formats_are_named_as_such(tmp_path, name, file, content):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / file).write_text(content)
    with pytest.raises(DataError, match=f"a is (a|an) {name} folder.*: convert it to OME-Zarr"):
        open_image(tmp_path / "a")


def test_a_file_named_ome_is_written_as_ome(tmp_path, volume):
    grid = VoxelGrid((50.0, 4.6, 5.0))
    for name in ("m.ome.tif", "m.OME.TIFF"):
        write_tiff(tmp_path / name, iter(volume), volume.shape, volume.dtype, grid)
        with tifffile.TiffFile(tmp_path / name) as file:
            assert file.is_ome
            assert not file.is_imagej
            pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        sizes = [(pixels[f"PhysicalSize{a}"], pixels[f"PhysicalSize{a}Unit"]) for a in "ZYX"]
        assert sizes == [(50, "nm"), (4.6, "nm"), (5, "nm")]
        stored = open_image(tmp_path / name)
        assert stored.nanometres == (50, 4.6, 5)
        np.testing.assert_array_equal(np.asarray(stored.array), volume)


# ---------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("nm", 1),
        ("Nanometers", 1),
        ("micron", 1e3),
        ("microns", 1e3),
        ("um", 1e3),
        ("\u00b5m", 1e3),
        ("\u03bcm", 1e3),
        ("\\u00B5m", 1e3),
        ("micrometre", 1e3),
        ("mm", 1e6),
        ("inch", 2.54e7),
        ("\u00c5", 0.1),
        ("angstrom", 0.1),
        ("\u212b", 0.1),
        ("\\u00C5", 0.1),
        ("\u00e5ngstr\u00f6m", 0.1),
        ('"nm"', 1),
        ("pixel", None),
        ("sec", None),
        ("", None),
        (None, None),
    ],
)
def test_units_of_length(unit, factor):
    assert nanometres(unit) == factor


def test_units_agree_with_pint():
    pint = pytest.importorskip("pint")
    registry = pint.UnitRegistry()
    for unit in ("pm", "angstrom", "nm", "um", "mm", "cm", "inch", "m", "micrometer", "nanometer"):
        assert nanometres(unit) == pytest.approx(registry(unit).to("nm").magnitude), unit


def test_a_spacing_needs_a_size_and_a_unit_for_every_axis():
    assert calibrated((0.05, 5.0, 5.0), ("um", "nm", "nm"))[:2] == ((50, 5, 5), "nm")
    assert calibrated((50.0, 5.0, 5.0), ("pixel", "nm", "nm")) == (None, None, (None, 5, 5), "")
    for bad in (0.0, -1.0, float("nan"), float("inf"), 1e30, None):
        spacing, unit, sizes, remark = calibrated((bad, 5.0, 5.0), ("nm",) * 3)
        assert (spacing, unit, sizes) == (None, None, (None, 5, 5))
        assert remark == ("" if bad is None else f"{bad:g} nm along z")


# ---------------------------------------------------------------- real data

HAVE_REAL = pytest.mark.skipif(
    not REAL.is_dir(), reason="the real volumes (../shared/data) are not on this machine"
)


@HAVE_REAL
@pytest.mark.parametrize(
    "name", ["vnc/image.tif", "lucchi/image_every4.tif", "medulla/image_10nm.tif"]
)
def test_real_volumes_read_as_tifffile_reads_them(name):
    if not (REAL / name).exists():
        pytest.skip(f"{name} is not among the real volumes of this machine")
    stored = open_image(REAL / name)
    expected = tifffile.imread(REAL / name)
    # Hashes, because a failing comparison of such arrays would print them.
    checksum = hashlib.sha256(np.ascontiguousarray(stored.array)).digest()
    assert checksum == hashlib.sha256(np.ascontiguousarray(expected)).digest()
    np.testing.assert_array_equal(
        stored.array[3:5, 100:164, 90:154], expected[3:5, 100:164, 90:154]
    )
    assert stored.spacing is None


@HAVE_REAL
def test_real_masks_are_labels():
    labels = open_labels(REAL / "vnc" / "mitochondria.tif").array
    assert np.asarray(labels).mean() == pytest.approx(0.0539, abs=1e-3)

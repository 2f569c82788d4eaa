"""OME-Zarr, N5 and precomputed volumes, whole, damaged and lying."""

from __future__ import annotations

import gzip
import json
import zipfile

import numpy as np
import pytest
import tensorstore
import zarr
from numcodecs import Zstd

from napari_emda.io.read import open_image, open_labels
from napari_emda.io.reader import volume_name
from tests.io.opening import DTYPES, SIZES, refused, same
from tests.io.test_read import write_multiscale

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


def test_a_chunk_in_a_zip_file_is_not_unfolded_beyond_its_size(tmp_path, volume):
    zarr.create_array(tmp_path / "a", data=volume, chunks=(5, 16, 16), zarr_format=3)
    # Half of the chunks are not written, as where an image is empty.
    for file in (tmp_path / "a" / "c").rglob("1"):
        if file.is_file():
            file.unlink()
    expected = np.asarray(open_image(tmp_path / "a").array[:])
    pack(tmp_path / "a", tmp_path / "a.ozx")
    np.testing.assert_array_equal(open_image(tmp_path / "a.ozx").array[:], expected)
    assert (expected == 0).any()
    for content in (Zstd().encode(bytes(2**24)), bytes(2**20), b"torn"):
        (tmp_path / "a" / "c" / "0" / "0" / "0").write_bytes(content)
        pack(tmp_path / "a", tmp_path / "b.ozx", "", zipfile.ZIP_DEFLATED)
        assert refused(tmp_path / "b.ozx").startswith("b.ozx is damaged at section 0 (")


def test_an_entry_of_a_zip_file_that_unpacks_to_too_much(tmp_path, volume, monkeypatch):
    zarr.save_array(tmp_path / "a", volume, zarr_format=2)
    (tmp_path / "a" / ".zattrs").write_text('{"a": "' + " " * 10**6 + '"}')
    pack(tmp_path / "a", tmp_path / "a.zarr.zip", "", zipfile.ZIP_DEFLATED)
    monkeypatch.setattr("napari_emda.io.checked_zip.LARGEST_JSON", 10**5)
    text = refused(tmp_path / "a.zarr.zip")
    assert "holds '.zattrs' of 1000009 bytes, which cannot be right" in text


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("axes", ["zyx", "xyz", "cxyz", "planes y x"])
def test_names_of_the_axes_of_plain_zarr(tmp_path, volume, axes, zarr_format):
    names = axes.split() if " " in axes else list(axes)
    spatial = ["z" if name == "planes" else name for name in names if name != "c"]
    values = volume.transpose(["zyx".index(axis) for axis in spatial])
    values = np.stack([values + 1, values]) if "c" in names else values
    options = {"dimension_names": names} if zarr_format == 3 else {}
    array = zarr.create_array(tmp_path / "a", data=values, zarr_format=zarr_format, **options)
    if zarr_format == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = names
    if "c" in names:
        assert "as in 'a?channel=0'" in refused(tmp_path / "a")
    same(tmp_path / ("a?channel=1" if "c" in names else "a"), volume)


@pytest.mark.parametrize("names", [["a", "b", "c"], ["y", "y", "x"], [None, "y", "x"], None])
def test_names_that_say_nothing_are_passed_over(tmp_path, volume, names):
    zarr.create_array(tmp_path / "a", data=volume, dimension_names=names)
    same(tmp_path / "a", volume)


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

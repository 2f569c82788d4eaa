"""Every format that images are written in, read back by the format's own library."""

from __future__ import annotations

from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.io import pyramid
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.reader import volume_name
from napari_emda.io.write import check_destination, save_volume
from napari_emda.io.writer import all_writers, writer_of
from napari_emda.io.writers import ome_zarr

GRIDS = {
    "anisotropic": VoxelGrid((50.0, 8.0, 4.6), origin=(100.0, 80.0, 46.0)),
    "micrometres": VoxelGrid((0.05, 0.008, 0.004), "\u00b5m"),
    "independent": VoxelGrid((8.0, 8.0, 4.0), sections_are_independent=True),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Small images in several blocks and levels."""
    monkeypatch.setattr(pyramid, "COARSEST", 24)
    monkeypatch.setattr(pyramid, "CHUNK", (4, 16, 16))
    monkeypatch.setattr(pyramid, "BLOCK_VOXELS", 2**10)
    monkeypatch.setattr(ome_zarr, "SHARDED_CHUNK", (2, 8, 8))


def ome_tiff(path):
    with tifffile.TiffFile(path) as file:
        pixels = ElementTree.fromstring(file.ome_metadata).find(".//{*}Pixels")
        assert len(file.series) == 1
        values = file.asarray()
    factor = {"nm": 1, "\u00b5m": 1000}[pixels.get("PhysicalSizeXUnit")]
    sizes = [float(pixels.get(f"PhysicalSize{axis}", "nan")) * factor for axis in "ZYX"]
    first = pixels.find("{*}Plane")
    origin = [0.0 if first is None else float(first.get(f"Position{a}")) for a in "ZYX"]
    names = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    return values, sizes, origin, names


def hdf5(path):
    with h5py.File(path, "r") as file:
        (image,) = file.values()
        assert "".join(dimension.label for dimension in image.dims) == "czyx"[-image.ndim :]
        micrometres = image.attrs["element_size_um"]
        np.testing.assert_allclose(micrometres * 1000, image.attrs["resolution"])
        names = list(image.attrs.get("channel_names", []))
        return image[:], image.attrs["resolution"], image.attrs["offset"], names


def precomputed(path):
    store = {"driver": "file", "path": str(path)}
    spec = {"driver": "neuroglancer_precomputed", "kvstore": store, "scale_index": 0}
    array = tensorstore.open(spec, read=True).result()
    scale = array.spec().to_json()["scale_metadata"]
    values = array.read().result().T
    sizes = np.array(scale["resolution"][::-1], float)
    origin = sizes * scale["voxel_offset"][::-1]
    return values[0] if len(values) == 1 else values, sizes, origin, []


def sharded(path):
    store = {"driver": "file", "path": str(path / "0")}
    array = tensorstore.open({"driver": "zarr3", "kvstore": store}, read=True).result()
    assert array.chunk_layout.write_chunk.shape[-1] > array.chunk_layout.read_chunk.shape[-1]
    stored = open_image(path) if array.ndim == 3 else None
    sizes = stored.nanometres if stored and stored.nanometres else None
    return array.read().result(), sizes, stored.origin if stored else None, []


LIBRARIES = {
    ".ome.tif": ome_tiff,
    ".h5": hdf5,
    ".precomputed": precomputed,
    ".sharded.zarr": sharded,
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
@pytest.mark.parametrize("suffix", LIBRARIES)
def test_an_image_comes_back_with_its_place(tmp_path, noise, suffix, dtype, grid):
    image = (noise.random((5, 33, 41)) * 250).astype(dtype)
    path = tmp_path / f"a{suffix}"
    done = [event.done / event.total for event in save_volume([image], path, dtype, grid, "v")]
    assert done == sorted(done) and done[-1] == 1 and len(done) > 1
    values, sizes, origin, _ = LIBRARIES[suffix](path)
    assert values.dtype == dtype
    np.testing.assert_array_equal(values, image)
    in_nm = grid.in_nanometres()
    axes = slice(1 if grid.sections_are_independent else 0, None)
    if sizes is not None:
        np.testing.assert_allclose(sizes[axes], in_nm.spacing[axes])
        np.testing.assert_allclose(origin, in_nm.origin)
    # As this package reads it, from any part.
    stored = open_image(path)
    np.testing.assert_array_equal(stored.array[1:4, 5:30:3, -7:], image[1:4, 5:30:3, -7:])
    assert stored.sizes[axes] == pytest.approx(in_nm.spacing[axes])


@pytest.mark.parametrize("suffix", LIBRARIES)
def test_channels_come_back_in_order_and_with_their_names(tmp_path, noise, suffix):
    channels = list((noise.random((3, 5, 33, 41)) * 250).astype(np.uint8))
    path = tmp_path / f"a{suffix}"
    names = ["mitochondria", "ER & membranes", "µ"]
    list(save_volume(channels, path, np.uint8, GRIDS["anisotropic"], names=names))
    values, _, _, stored_names = LIBRARIES[suffix](path)
    np.testing.assert_array_equal(values, channels)
    assert stored_names in ([], names)
    at = open_image(f"{path}?channel=1").array
    np.testing.assert_array_equal(at[:], channels[1])


@pytest.mark.parametrize("suffix", [".precomputed", ".sharded.zarr"])
def test_labels_stay_numbers_in_all_levels(tmp_path, noise, suffix):
    ids = noise.integers(0, 2**20, (6, 40, 56)).astype(np.uint32)
    path = tmp_path / f"a{suffix}"
    list(save_volume([ids], path, np.uint32, VoxelGrid((8.0, 8.0, 8.0)), labels=True))
    levels = [open_labels(f"{path}?level={level}").array[:] for level in range(3)]
    for level, values in enumerate(levels):
        step = 2**level
        np.testing.assert_array_equal(values, ids[::step, ::step, ::step])


def test_neuroglancer_is_told_what_are_segments(tmp_path, noise):
    mask = noise.integers(0, 2, (4, 20, 20)).astype(np.uint8)
    grid = VoxelGrid((8.0, 8.0, 8.0))
    for labels, kind, dtype in ((True, "segmentation", "uint32"), (False, "image", "uint8")):
        path = tmp_path / f"{kind}.precomputed"
        list(save_volume([mask], path, np.uint8, grid, labels=labels))
        store = {"driver": "file", "path": f"{path}/"}
        spec = {"driver": "neuroglancer_precomputed", "kvstore": store}
        array = tensorstore.open(spec, read=True).result()
        described = array.spec().to_json()["multiscale_metadata"]
        assert (described["type"], array.dtype.name) == (kind, dtype)
        np.testing.assert_array_equal(array.read().result()[..., 0].T, mask)


def test_shards_are_fewer_files_than_chunks(tmp_path, noise):
    image = noise.integers(0, 255, (8, 64, 64)).astype(np.uint8)
    for name in ("a.zarr", "a.sharded.zarr"):
        list(save_volume([image], tmp_path / name, np.uint8, VoxelGrid((8.0, 8.0, 8.0))))
    files = {
        name: len(list((tmp_path / name).rglob("c/*/*/*"))) for name in ("a.zarr", "a.sharded.zarr")
    }
    assert files["a.sharded.zarr"] < files["a.zarr"]
    array = zarr.open_array(tmp_path / "a.sharded.zarr" / "0")
    assert array.shards == (8, 32, 32) and array.chunks == (2, 8, 8)


@pytest.mark.parametrize(
    ("suffix", "grid", "sentence"),
    [
        (
            ".tif",
            GRIDS["anisotropic"],
            "A TIFF does not state that its first voxel lies at 100, 80",
        ),
        (".tif", GRIDS["micrometres"], ""),
        (".ome.tif", GRIDS["anisotropic"], ""),
        (".precomputed", GRIDS["anisotropic"], ""),
        (".precomputed", GRIDS["independent"], "shows the independent sections 8 nm apart"),
        (".precomputed", VoxelGrid((1.0, 1.0, 1.0), "pixel"), "takes the voxel size for nm"),
        (".precomputed", VoxelGrid((8.0,) * 3, origin=(4.0, 0, 0)), "rounded to whole voxels"),
        (".h5", GRIDS["anisotropic"], ""),
        (".sharded.zarr", GRIDS["anisotropic"], ""),
    ],
)
def test_what_is_lost_is_said(tmp_path, suffix, grid, sentence):
    lost = writer_of(tmp_path / f"a{suffix}").lost(grid)
    assert (sentence in lost) if sentence else not lost


def test_a_voxel_size_in_pixels_is_not_made_up(tmp_path):
    image = np.zeros((2, 8, 8), np.uint8)
    list(save_volume([image], tmp_path / "a.h5", np.uint8, VoxelGrid((5.0, 1.0, 1.0), "pixel")))
    stored = open_image(tmp_path / "a.h5")
    assert stored.sizes == (None, None, None)


@pytest.mark.parametrize("writer", all_writers(), ids=lambda writer: writer.name)
def test_the_longest_ending_counts(tmp_path, writer):
    for suffix in writer.suffixes:
        path = tmp_path / f"mask.v2{suffix}"
        assert writer_of(path) is writer
        assert writer_of(path.with_name(path.name.upper())) is writer
        assert volume_name(path) == "mask.v2"


@pytest.mark.parametrize("suffix", [".h5", ".precomputed"])
def test_a_missing_library_is_named(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("napari_emda.io.writer.find_spec", lambda library: None)
    image = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(DataError, match=r"install it with pip install 'napari-emda\[formats\]'"):
        list(save_volume([image], tmp_path / f"a{suffix}", np.uint8, VoxelGrid((8.0,) * 3)))


@pytest.mark.parametrize("suffix", [".h5", ".precomputed", ".sharded.zarr", ".zarr"])
def test_a_folder_of_the_user_is_never_replaced(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="so it is not overwritten"):
        check_destination(path, (suffix,), overwrite=True)

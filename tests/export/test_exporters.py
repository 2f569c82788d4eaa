"""Exports, read back by libraries other than those that wrote them, or at least not by our code."""

from __future__ import annotations

import csv
import tracemalloc
from functools import partial
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import trimesh
import zarr
from ome_zarr_models.v05 import Image
from scipy import ndimage
from skimage.measure import label, regionprops

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, SettingsError
from napari_emda.events import Saved, TileDone
from napari_emda.io.read import open_labels
from tests.export.exporting import export

SPACING = (50.0, 4.6, 4.6)
export_mask = partial(export, "mask")
export_objects = partial(export, "objects")
export_probabilities = partial(export, "probabilities")
export_table = partial(export, "table")


@pytest.fixture
def probabilities():
    """One foreground class: smooth blobs, stored in chunks of one section."""
    field = ndimage.gaussian_filter(
        np.random.default_rng(0).standard_normal((9, 70, 90)), (1, 4, 4)
    )
    stored = np.clip(128 + 100 * (field / field.std() - 0.8), 0, 255).astype(np.uint8)[None]
    return zarr.create_array(zarr.storage.MemoryStore(), data=stored, chunks=(1, 1, 32, 32))


@pytest.fixture
def two_classes():
    stored = np.random.default_rng(1).dirichlet((1, 1, 1), (4, 20, 30)) * 255
    return np.moveaxis(stored, -1, 0)[1:].astype(np.uint8)


def saved(events, path):
    """Run an export; check that its progress never falls and that it ends with the path."""
    *tiles, last = events
    assert last == Saved(path=str(path))
    assert all(isinstance(tile, TileDone) for tile in tiles)
    shares = [tile.done / tile.total for tile in tiles]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path


def imagej_calibration(path):
    """Voxel size and unit as ImageJ takes them from the tags."""
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        metadata = file.imagej_metadata
    sides = []
    for name in ("YResolution", "XResolution"):
        pixels, length = tags[name].value
        sides.append(length / pixels)
    return (metadata["spacing"], *sides), metadata["unit"]


def ome_calibration(path):
    with tifffile.TiffFile(path) as file:
        pixels = ElementTree.fromstring(file.ome_metadata).find(".//{*}Pixels")
    sizes = tuple(float(pixels.get(f"PhysicalSize{axis}")) for axis in "ZYX")
    return sizes, pixels.get("PhysicalSizeZUnit")


def test_mask_as_tiff(tmp_path, probabilities):
    path = saved(
        export_mask(probabilities, tmp_path / "mask.tif", VoxelGrid(SPACING), volume="cell"),
        tmp_path / "mask.tif",
    )
    mask = tifffile.imread(path)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, probabilities[0] >= 128)
    spacing, unit = imagej_calibration(path)
    assert spacing == pytest.approx(SPACING, rel=1e-6)
    assert unit == "nm"
    stored = open_labels(path)
    assert stored.spacing == pytest.approx(SPACING, rel=1e-6)


def test_mask_as_ome_zarr(tmp_path, probabilities):
    path = saved(
        export_mask(probabilities, tmp_path / "mask.zarr", VoxelGrid(SPACING), threshold=0.7),
        tmp_path / "mask.zarr",
    )
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["0"][...], probabilities[0] >= 0.7 * 255)
    image = Image.from_zarr(group).ome_attributes.multiscales[0]
    assert [axis.name for axis in image.axes] == ["z", "y", "x"]
    assert {axis.unit for axis in image.axes} == {"nanometer"}
    assert image.datasets[0].coordinateTransformations[0].scale == list(SPACING)
    stored = open_labels(path)
    assert (stored.spacing, stored.unit) == (SPACING, "nm")


def test_small_objects_leave_the_mask(tmp_path, probabilities):
    path = saved(
        export_mask(probabilities, tmp_path / "m.tif", VoxelGrid(SPACING), minimum_size=400),
        tmp_path / "m.tif",
    )
    objects = label(probabilities[0] >= 128, connectivity=1)
    large = [region.label for region in regionprops(objects) if region.area >= 400]
    assert 0 < len(large) < objects.max()
    np.testing.assert_array_equal(tifffile.imread(path), np.isin(objects, large))


def most_probable(foreground):
    """Class ids; background comes last, since a structure that is as probable wins."""
    background = 255 - foreground.sum(0, keepdims=True, dtype=int)
    return (np.concatenate([foreground, background]).argmax(0) + 1) % (len(foreground) + 1)


def test_mask_of_several_classes(tmp_path, two_classes):
    expected = most_probable(two_classes)
    path = saved(
        export_mask(two_classes, tmp_path / "a.tif", VoxelGrid(SPACING)), tmp_path / "a.tif"
    )
    np.testing.assert_array_equal(tifffile.imread(path), expected)


def test_small_objects_of_several_classes(tmp_path, two_classes):
    path = saved(
        export_mask(two_classes, tmp_path / "a.zarr", VoxelGrid(SPACING), minimum_size=5),
        tmp_path / "a.zarr",
    )
    mask = zarr.open_array(path / "0")[...]
    for k in (1, 2):
        regions = regionprops(label(most_probable(two_classes) == k, connectivity=1))
        assert (mask == k).sum() == sum(region.area for region in regions if region.area >= 5) > 0


def test_objects_open_in_fiji(tmp_path, probabilities):
    """uint16 in ImageJ's own format."""
    path = saved(
        export_objects(probabilities, tmp_path / "o.tif", VoxelGrid(SPACING)), tmp_path / "o.tif"
    )
    objects = tifffile.imread(path)
    expected = label(probabilities[0] >= 128, connectivity=1)
    assert objects.dtype == np.uint16
    assert objects.max() == expected.max() > 5
    # As many pairs of ids as objects (and background): the two differ in their numbering only.
    pairs = np.unique(np.stack([objects, expected]).reshape(2, -1), axis=1).T
    assert len(pairs) == expected.max() + 1
    assert imagej_calibration(path)[1] == "nm"


def test_many_objects_are_ome_tiff(tmp_path):
    board = np.zeros((1, 2, 400, 400), np.uint8)
    board[0, 0, ::2, ::2] = board[0, 1, 1::2, 1::2] = 255
    path = saved(
        export_objects(board, tmp_path / "o.tif", VoxelGrid((1.0, 2.0, 3.0), "\u00b5m")),
        tmp_path / "o.tif",
    )
    objects = tifffile.imread(path)
    assert objects.dtype == np.uint32
    assert objects.max() == 80_000
    assert ome_calibration(path) == ((1, 2, 3), "\u00b5m")


def test_objects_as_ome_zarr(tmp_path, probabilities):
    path = saved(
        export_objects(probabilities, tmp_path / "o.zarr", VoxelGrid(SPACING), minimum_size=50),
        tmp_path / "o.zarr",
    )
    objects = zarr.open_array(path / "0")
    assert objects.dtype == np.uint32
    assert np.bincount(objects[...].ravel()).min() >= 50


def test_probabilities(tmp_path, probabilities, two_classes):
    path = saved(
        export_probabilities(probabilities, tmp_path / "p.tif", VoxelGrid(SPACING)),
        tmp_path / "p.tif",
    )
    np.testing.assert_array_equal(tifffile.imread(path), probabilities[0])
    path.unlink()
    path = saved(
        export_probabilities(two_classes, tmp_path / "p.zarr", VoxelGrid(SPACING, "\u00b5m")),
        tmp_path / "p.zarr",
    )
    group = zarr.open_group(path)
    np.testing.assert_array_equal(group["0"][...], two_classes)
    image = Image.from_zarr(group).ome_attributes.multiscales[0]
    assert [(axis.name, axis.unit) for axis in image.axes] == [
        ("c", None),
        *((n, "micrometer") for n in "zyx"),
    ]
    assert image.datasets[0].coordinateTransformations[0].scale == [1, *SPACING]
    path = tmp_path / "one.tif"
    list(export_probabilities(two_classes, path, VoxelGrid(SPACING), chosen="class 2"))
    np.testing.assert_array_equal(tifffile.imread(path), two_classes[1])


def test_table(tmp_path, probabilities):
    path = saved(
        export_table(probabilities, tmp_path / "t.csv", VoxelGrid(SPACING), minimum_size=9),
        tmp_path / "t.csv",
    )
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [
        region
        for region in regionprops(
            label(probabilities[0] >= 128, connectivity=1), probabilities[0] / 255, spacing=SPACING
        )
        if region.num_pixels >= 9
    ]
    assert sorted(float(row["volume (nm^3)"]) for row in rows) == pytest.approx(
        sorted(r.area for r in expected)
    )
    assert sorted(float(row["mean probability"]) for row in rows) == pytest.approx(
        sorted(float(r.intensity_mean) for r in expected)
    )
    assert sorted(float(row["centroid x (nm)"]) for row in rows) == pytest.approx(
        sorted(r.centroid[2] for r in expected)
    )
    assert [int(row["id"]) for row in rows] == list(range(1, len(expected) + 1))
    assert {row["class"] for row in rows} == {"class 1"}


@pytest.mark.parametrize("suffix", [".ply", ".stl", ".obj"])
def test_meshes(tmp_path, probabilities, suffix):
    """All formats hold the surfaces of the same objects, in nm."""
    path = tmp_path / f"a{suffix}"
    grid = VoxelGrid((0.05, 0.008, 0.008), "µm")
    saved(export("meshes", probabilities, path, grid, minimum_size=9), path)
    objects = label(probabilities[0] >= 128, connectivity=1)
    large = [r for r in regionprops(objects, spacing=(50, 8, 8)) if r.num_pixels >= 9]
    mesh = trimesh.load(path, process=suffix == ".stl")
    parts = [mesh] if isinstance(mesh, trimesh.Trimesh) else list(mesh.geometry.values())
    low = np.min([part.bounds[0] for part in parts], axis=0)
    high = np.max([part.bounds[1] for part in parts], axis=0)
    corners = np.array([r.bbox for r in large])
    np.testing.assert_allclose(low[::-1], (corners[:, :3].min(0) - 0.5) * (50, 8, 8), rtol=1e-5)
    np.testing.assert_allclose(high[::-1], (corners[:, 3:].max(0) - 0.5) * (50, 8, 8), rtol=1e-5)
    if suffix == ".obj":
        assert path.read_text().count("\no object ") == len(large)
    if suffix == ".ply":
        ids = mesh.metadata["_ply_raw"]["vertex"]["data"]["object"]
        assert sorted(np.unique(ids)) == list(range(1, len(large) + 1))


def test_independent_images_have_no_meshes(tmp_path, probabilities):
    grid = VoxelGrid(SPACING, sections_are_independent=True)
    with pytest.raises(DataError, match="have no surface: export objects or a table"):
        list(export("meshes", probabilities, tmp_path / "a.ply", grid))
    nothing = np.zeros_like(probabilities)
    with pytest.raises(DataError, match="There are no objects in 'cell'"):
        list(export("meshes", nothing, tmp_path / "a.ply", VoxelGrid(SPACING)))
    assert not list(tmp_path.iterdir())


EXPORTS = {
    "mask.tif": export_mask,
    "mask.zarr": export_mask,
    "objects.tif": export_objects,
    "table.csv": export_table,
    "probabilities.zarr": export_probabilities,
    "probabilities.tif": export_probabilities,
    "mask.ome.tif": export_mask,
    "mask.h5": export_mask,
    "mask.sharded.zarr": export_mask,
}


@pytest.mark.parametrize("name", EXPORTS)
def test_an_existing_file_is_replaced_only_when_asked(tmp_path, probabilities, name):
    path = tmp_path / name
    list(EXPORTS[name](probabilities, path, VoxelGrid(SPACING)))
    with pytest.raises(
        DataError, match="exists already: choose another name, or allow to replace it"
    ):
        next(EXPORTS[name](probabilities, path, VoxelGrid(SPACING)))
    saved(EXPORTS[name](probabilities, path, VoxelGrid(SPACING), overwrite=True), path)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("napari_emda.io.pyramid.block_shape", lambda *_: (4, 32, 32))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", EXPORTS)
def test_a_stopped_export_leaves_nothing(tmp_path, probabilities, name):
    events = EXPORTS[name](probabilities, tmp_path / name, VoxelGrid(SPACING))
    next(events)
    events.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_blocks")
def test_a_stopped_export_leaves_the_older_file(tmp_path, probabilities):
    for name in ("mask.tif", "mask.zarr"):
        path = tmp_path / name
        list(export_mask(probabilities, path, VoxelGrid(SPACING)))
        before = open_labels(path).array[...]
        events = export_mask(probabilities, path, VoxelGrid(SPACING), threshold=0.9, overwrite=True)
        next(events)
        events.close()
        np.testing.assert_array_equal(open_labels(path).array[...], before)


def test_a_folder_that_is_no_zarr_image_is_never_replaced(tmp_path, probabilities):
    precious = tmp_path / "holiday.zarr"
    precious.mkdir()
    (precious / "photo.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="is a folder and not an image in OME-Zarr"):
        next(export_mask(probabilities, precious, VoxelGrid(SPACING), overwrite=True))
    assert (precious / "photo.jpg").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mask.png", r"the name must end in \.tif, \.tiff, \.zarr, \.h5, "),
        ("none/mask.tif", "does not exist: create it"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused(tmp_path, probabilities, name, message):
    with pytest.raises(DataError, match=message):
        next(export_mask(probabilities, tmp_path / name, VoxelGrid(SPACING)))
    assert list(tmp_path.iterdir()) == []


def test_bad_choices_change_nothing(tmp_path, probabilities, two_classes):
    path = tmp_path / "m.tif"
    with pytest.raises(SettingsError, match="threshold"):
        export_mask(probabilities, path, VoxelGrid(SPACING), threshold=1.5)
    for name in ("objects", "table", "probabilities"):
        with pytest.raises(SettingsError, match=r"no class 'clas 3'. Did you mean 'class [12]'\?"):
            export(name, two_classes, path, VoxelGrid(SPACING), chosen="clas 3")
    with pytest.raises(SettingsError, match="'mask' takes all classes at once: choose no class"):
        export_mask(two_classes, path, VoxelGrid(SPACING), chosen="class 1")
    for name in ("objects", "table"):
        with pytest.raises(
            SettingsError, match="takes one class, and there are 2: choose the class class 1 or"
        ):
            export(name, two_classes, path, VoxelGrid(SPACING))
    with pytest.raises(
        DataError, match="A TIFF takes the probability of one class, and there are 2"
    ):
        next(export_probabilities(two_classes, path, VoxelGrid(SPACING)))
    assert list(tmp_path.iterdir()) == []


def test_objects_and_table_of_the_class_that_is_chosen(tmp_path, two_classes):
    ids = most_probable(two_classes)
    for k in (1, 2):
        expected = label(ids == k, connectivity=1)
        chosen = {"chosen": f"class {k}"}
        list(export_objects(two_classes, tmp_path / f"{k}.tif", VoxelGrid(SPACING), **chosen))
        objects = tifffile.imread(tmp_path / f"{k}.tif")
        np.testing.assert_array_equal(objects > 0, expected > 0)
        assert objects.max() == expected.max()
        list(export_table(two_classes, tmp_path / f"{k}.csv", VoxelGrid(SPACING), **chosen))
        with (tmp_path / f"{k}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        sizes = np.bincount(objects.ravel())[1:]
        assert [float(row["volume (nm^3)"]) for row in rows] == pytest.approx(
            list(sizes * np.prod(SPACING))
        )


def test_a_full_disk_is_one_sentence(tmp_path, probabilities, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tifffile.TiffWriter.write", full)
    with pytest.raises(
        DataError, match=r"cannot be written \(No space left on device\): make room"
    ):
        list(export_mask(probabilities, tmp_path / "m.tif", VoxelGrid(SPACING)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*EXPORTS, "filtered.tif"])
def test_memory_does_not_grow_with_the_volume(tmp_path, name, monkeypatch):
    """Of 32 more sections memory holds at most 8, which may be on their way into the file.

    Blocks are made small, so that both volumes have many of them.
    """
    for module in ("napari_emda.objects.components", "napari_emda.io.pyramid"):
        monkeypatch.setattr(f"{module}.block_shape", lambda array, voxels=0: (8, 128, 128))
    monkeypatch.setattr("napari_emda.objects.table._BLOCK_VOXELS", 2**16)
    monkeypatch.setattr("napari_emda.io.tiff._WAITING", 1)
    # With levels of a pyramid.
    monkeypatch.setattr("napari_emda.io.pyramid.COARSEST", 64)
    export = EXPORTS.get(name, export_mask)
    choices = {"minimum_size": 100} if name == "filtered.tif" else {}

    def peak(sections: int, prefix: str) -> int:
        section = np.zeros((1, 1, 256, 256), np.uint8)
        section[0, 0, 20:45, 20:100] = 200
        stored = zarr.create_array(
            tmp_path / f"{prefix}.store",
            shape=(1, sections, 256, 256),
            chunks=section.shape,
            dtype="u1",
        )
        for z in range(0, sections, 2):
            stored[:, z] = section[:, 0]
        tracemalloc.start()
        # Without this, the number of chunks that are decoded at a time depends on the moment.
        with zarr.config.set({"async.concurrency": 1}):
            for _ in export(stored, tmp_path / f"{prefix}{name}", VoxelGrid(SPACING), **choices):
                pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2, "warm")  # what is imported and cached once
    voxel_bytes = 4 if "objects" in name else 1
    assert peak(48, "large") - peak(16, "small") < 8 * 256 * 256 * voxel_bytes

"""Meshes in Neuroglancer's volumes, parsed by the specification of the format."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy import ndimage
from skimage.measure import regionprops

from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.export.base import Result, exporters
from napari_emda.io.read import open_labels
from tests.export.exporting import export

SPACING = (50.0, 4.6, 4.6)


@pytest.fixture
def probabilities():
    """One class: smooth blobs, some of which the border cuts."""
    noise = np.random.default_rng(0).standard_normal((9, 70, 90))
    field = ndimage.gaussian_filter(noise, (1, 4, 4))
    return np.where(field > 0.8 * field.std(), np.uint8(255), np.uint8(0))[None]


def test_precomputed_objects_have_meshes(tmp_path, probabilities):
    """Surfaces in the place of the voxels, as the specification of Neuroglancer puts both."""
    path = tmp_path / "a.precomputed"
    grid = VoxelGrid((0.05, 0.008, 0.004), "µm", origin=(0.1, 0.016, 0.04))
    list(export("objects", probabilities, path, grid, minimum_size=9))
    info = json.loads((path / "info").read_text())
    assert json.loads((path / info["mesh"] / "info").read_text()) == {
        "@type": "neuroglancer_legacy_mesh"
    }
    (scale,) = info["scales"]
    ids = np.asarray(open_labels(path).array)
    regions = regionprops(ids)
    assert len(list((path / "mesh").iterdir())) == 1 + 2 * len(regions) > 9
    for region in regions:
        manifest = json.loads((path / "mesh" / f"{region.label}:0").read_text())
        (fragment,) = manifest["fragments"]
        content = (path / "mesh" / fragment).read_bytes()
        (count,) = struct.unpack("<I", content[:4])
        corners = np.frombuffer(content, "<f4", 3 * count, 4).reshape(-1, 3)
        triangles = np.frombuffer(content, "<u4", offset=4 + 12 * count).reshape(-1, 3)
        # Half a voxel around the centres of the outermost voxels is the edge of these voxels.
        low, high = np.array(region.bbox).reshape(2, 3)[:, ::-1] + scale["voxel_offset"]
        np.testing.assert_allclose(corners.min(0), low * scale["resolution"], rtol=1e-5)
        np.testing.assert_allclose(corners.max(0), high * scale["resolution"], rtol=1e-5)
        mesh = trimesh.Trimesh(corners, triangles, process=False)
        assert mesh.is_watertight
        # Positive from outside, and smaller than the voxels, whose corners are cut off.
        assert 0.4 < mesh.volume / (region.num_pixels * np.prod(scale["resolution"])) < 1
    assert scale["voxel_offset"] == [10, 2, 2]


def test_precomputed_objects_without_meshes(tmp_path, probabilities, monkeypatch):
    path = tmp_path / "a.precomputed"
    for grid, choice in (
        (VoxelGrid(SPACING), {"meshes": False}),
        (VoxelGrid(SPACING, sections_are_independent=True), {}),
    ):
        list(export("objects", probabilities, path, grid, overwrite=True, **choice))
        assert "mesh" not in json.loads((path / "info").read_text())
        assert not (path / "mesh").exists()
    monkeypatch.setattr("napari_emda.export.objects._MOST_MESHES", 2)
    exporter = exporters["objects"](exporters["objects"].Settings())
    volume = Volume("cell", probabilities[0], "target", VoxelGrid(SPACING))
    result = Result("001", Path("none"), volume, ("some",), (1,), probabilities)
    list(exporter.export(result, path, overwrite=True))
    assert "at most 2 objects, and there are" in exporter.lost(result, path)
    assert not (path / "mesh").exists()

"""Meshes of objects: closed, of the right volume, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy import ndimage

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import result_of
from napari_emda.objects.mesh import find_meshes


def meshes(objects, spacing=(1, 1, 1)):
    found = result_of(find_meshes(objects, VoxelGrid(spacing)))
    return {
        object_id: trimesh.Trimesh(mesh.corners, mesh.triangles, process=False)
        for object_id, mesh in found.items()
    }


def blobs(seed=0):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((20, 40, 30)), 3)
    return ndimage.label(field > field.std() / 2)[0].astype(np.uint32)


def test_a_ball_has_its_volume_and_place():
    z, y, x = np.indices((40, 40, 60))
    ball = (z - 20) ** 2 + (y - 18) ** 2 + (x - 30) ** 2 < 15**2
    (mesh,) = meshes(7 * ball.astype(np.uint32), (4, 2, 1)).values()
    assert mesh.is_watertight
    # Positive only if the triangles are seen counterclockwise from outside.
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 15**3 * 8, rel=0.02)
    np.testing.assert_allclose(mesh.center_mass, (30, 36, 80), atol=0.05)


@pytest.mark.parametrize("block", [(20, 40, 30), (7, 40, 30), (3, 5, 8)])
def test_meshes_are_closed_over_blocks_and_borders(block, monkeypatch):
    objects = blobs()
    assert objects[0].any() and objects.max() >= 3
    monkeypatch.setattr("napari_emda.objects.mesh.block_shape", lambda array, voxels: block)
    found = meshes(objects, (50, 8, 8))
    sizes = np.bincount(objects.ravel())
    assert list(found) == list(range(1, len(sizes)))
    for object_id, mesh in found.items():
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        # Corners of voxels are cut off: of large objects less.
        expected = sizes[object_id] * 50 * 8 * 8
        assert 0.8 * expected <= mesh.volume <= expected or sizes[object_id] < 200
        assert mesh.volume > 0


def test_touching_objects_have_surfaces_of_their_own():
    objects = np.zeros((10, 10, 20), np.uint32)
    objects[2:8, 2:8, 2:10] = 3
    objects[2:8, 2:8, 10:18] = 9
    found = meshes(objects)
    assert list(found) == [3, 9]
    assert found[3].bounds[1][0] == found[9].bounds[0][0] == 9.5

"""The surfaces of objects as triangles, put together from the blocks that they lie in."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from napari_emda.data.array import Array
from napari_emda.data.blocks import block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone
from napari_emda.objects.masks import objects_in

# Blocks are read whole, and cut into one mask per object: 8 MiB each at most.
_BLOCK_VOXELS = 2**23
# Corners of triangles lie half-way between voxels, or in the middle of a cube of eight. They are
# compared in whole parts of a voxel, so that blocks are joined without gaps.
_PARTS = 1024


@dataclass(frozen=True)
class Mesh:
    """A closed surface.

    Attributes:
        corners: n x 3, x, y and z, in the unit of the grid, from the centre of the first voxel.
        triangles: m x 3, indices of corners, counterclockwise from outside.
    """

    corners: NDArray[np.float32]
    triangles: NDArray[np.int64]


def find_meshes(
    objects: Array, grid: VoxelGrid, volume: str = ""
) -> Generator[TileDone, None, dict[int, Mesh]]:
    """The surface of each object, half-way between its voxels and those around, by marching cubes.

    Surfaces are closed where the border of the volume cuts an object. Memory is bounded by a block
    and the triangles.

    Args:
        objects: (Z, Y, X) integer ids, 0 being background; read lazily.
        grid: of the voxels.
        volume: name for the events.

    Yields:
        An event per block.

    Returns:
        The meshes by id, in ascending order.
    """
    parts: dict[int, list[_Part]] = {}
    boxes = blocks(Box.whole(objects.shape), block_shape(objects, _BLOCK_VOXELS))
    for done, box in enumerate(boxes, start=1):
        for object_id, mask in objects_in(objects, box):
            part = _part(mask.values, mask.start)
            if part is not None:
                parts.setdefault(object_id, []).append(part)
        yield TileDone(volume=volume, box=box.bounds, done=done, total=len(boxes))
    return {object_id: _joined(parts[object_id], grid) for object_id in sorted(parts)}


_Part = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Corners (z, y, x) in parts of a voxel, and triangles."""


def _part(mask: NDArray[np.bool_], start: tuple[int, int, int]) -> _Part | None:
    """The surface in a box; None if there is none."""
    if mask.all() or not mask.any():
        return None
    corners, triangles, _, _ = marching_cubes(mask.astype(np.float32), 0.5)
    return np.rint((corners + start) * _PARTS).astype(np.int64), triangles.astype(np.int64)


def _joined(parts: list[_Part], grid: VoxelGrid) -> Mesh:
    """The surface of an object from its parts, with each corner once."""
    counts = np.cumsum([0, *(len(corners) for corners, _ in parts)])
    corners = np.concatenate([corners for corners, _ in parts])
    shifted = [triangles + first for (_, triangles), first in zip(parts, counts, strict=False)]
    distinct, number = np.unique(corners, axis=0, return_inverse=True)
    triangles = number.reshape(-1)[np.concatenate(shifted)]
    positions = distinct / _PARTS * np.asarray(grid.spacing)
    # scikit-image's triangles are clockwise from outside in (z, y, x). In (x, y, z), a reflection,
    # they are counterclockwise.
    return Mesh(positions[:, ::-1].astype(np.float32), triangles)

"""The annotations that follow from a decision on an object: every decision is a label."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import edt
import numpy as np
from numpy.typing import NDArray

from napari_emda.data.blocks import block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.objects.edited import EditedObjects

Labels = Iterator[tuple[Box, NDArray[np.uint8]]]
"""Boxes, and the annotations in them: 0 = none, k = class k - 1."""

# Width of the rim around an object that is annotated with it, in pixels: wide enough for the edge
# as a network sees it, and narrower than the gaps to most neighbours.
_RIM = 4
_BLOCK_VOXELS = 2**21
_BACKGROUND = 1


def rim(grid: VoxelGrid) -> tuple[int, int, int]:
    """Voxels along z, y, x that a rim may reach: none across sections that are far apart."""
    reach = _RIM * grid.pixel_size
    z, y, x = (int(reach // side) for side in grid.spacing)
    return (0 if grid.sections_are_independent else z), y, x


def box_with_rim(objects: EditedObjects, object_id: int, grid: VoxelGrid) -> Box:
    """Where annotations of an object may lie."""
    return _grown(objects.box(object_id), rim(grid)).clip(objects.shape)


def of_good(
    objects: EditedObjects,
    object_id: int,
    class_id: int,
    grid: VoxelGrid,
    predicted: Callable[[Box], NDArray[np.uint8]],
) -> Labels:
    """An object that is right: its class inside, and background in a rim around it.

    In the rim, only voxels count that are predicted as background: other objects there were not
    decided on.

    Args:
        objects: with the object.
        object_id: of the object.
        class_id: of its class.
        grid: of the voxels.
        predicted: class ids in a box.
    """
    whole = box_with_rim(objects, object_id, grid)
    for box, inside, objects_there in _around(objects, whole, grid):
        mask = objects_there == object_id
        if not mask.any():
            continue
        values = np.zeros(box.shape, np.uint8)
        near = _distances(mask, grid)[inside] <= _RIM
        near &= (objects_there[inside] == 0) & (predicted(box) == 0)
        values[near] = _BACKGROUND
        values[mask[inside]] = class_id + 1
        yield box, values


def of_deleted(objects: EditedObjects, object_id: int) -> Labels:
    """An object that is none: background. Before it is deleted."""
    for box, mask in objects.masks(object_id):
        if mask.any():
            yield box, np.where(mask, _BACKGROUND, 0).astype(np.uint8)


def of_split(
    objects: EditedObjects,
    ids: tuple[int, int],
    class_id: int,
    grid: VoxelGrid,
    *,
    gap: bool = True,
) -> Labels:
    """Two objects that were one: background where they meet, their class on both sides of it.

    Args:
        objects: after the split.
        ids: of the larger and the smaller part.
        class_id: of their class.
        grid: of the voxels.
        gap: whether there is background where they meet; otherwise that is left open.
    """
    larger, smaller = ids
    # The seam reaches one voxel into the larger part, and the rim lies around it.
    whole = _grown(objects.box(smaller), _one_more(grid)).clip(objects.shape)
    for box, inside, objects_there in _around(objects, whole, grid):
        parts = (objects_there == larger, objects_there == smaller)
        if not (parts[0].any() and parts[1].any()):
            continue
        seam = np.zeros(objects_there.shape, bool)
        for axis in range(3):
            if axis == 0 and grid.sections_are_independent:
                continue
            low = _cut(axis, slice(None, -1))
            high = _cut(axis, slice(1, None))
            meets = (parts[0][low] & parts[1][high]) | (parts[1][low] & parts[0][high])
            seam[low] |= meets
            seam[high] |= meets
        if not seam.any():
            continue
        values = np.zeros(box.shape, np.uint8)
        near = _distances(seam, grid)[inside] <= _RIM
        values[near & (parts[0] | parts[1])[inside]] = class_id + 1
        values[seam[inside]] = _BACKGROUND if gap else 0
        yield box, values


def _around(
    objects: EditedObjects, whole: Box, grid: VoxelGrid
) -> Iterator[tuple[Box, tuple[slice, ...], NDArray[np.uint32]]]:
    """Blocks of a box, where each lies in its surroundings, and the ids in these."""
    for box in blocks(whole, block_shape(objects, _BLOCK_VOXELS)):
        wide = _grown(box, _one_more(grid)).clip(objects.shape)
        inside = box.moved(tuple(-a for a in wide.start)).slices  # type: ignore[arg-type]
        yield box, inside, objects[wide.slices]


def _one_more(grid: VoxelGrid) -> tuple[int, int, int]:
    """The reach of a rim around voxels at which parts meet; none into other images."""
    z, y, x = rim(grid)
    return (0 if grid.sections_are_independent else z + 1), y + 1, x + 1


def _distances(mask: NDArray[np.bool_], grid: VoxelGrid) -> NDArray[np.float32]:
    """Distance of each voxel to a mask that is not empty, in pixels."""
    if not grid.sections_are_independent:
        sides = tuple(side / grid.pixel_size for side in grid.spacing)
        outside = np.ascontiguousarray(~mask)
        return np.asarray(edt.edt(outside, anisotropy=sides, parallel=1), np.float32)
    sides = tuple(side / grid.pixel_size for side in grid.spacing[1:])
    far = np.full(mask.shape, np.inf, np.float32)
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        far[z] = edt.edt(np.ascontiguousarray(~mask[z]), anisotropy=sides, parallel=1)
    return far


def _cut(axis: int, part: slice) -> tuple[slice, ...]:
    return tuple(part if other == axis else slice(None) for other in range(3))


def _grown(box: Box, by: tuple[int, ...]) -> Box:
    start = tuple(a - d for a, d in zip(box.start, by, strict=True))
    stop = tuple(b + d for b, d in zip(box.stop, by, strict=True))
    return Box(start, stop)  # type: ignore[arg-type]

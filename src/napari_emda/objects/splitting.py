"""Splitting an object in two, where a person has clicked into each part."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.probabilities import CERTAIN
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.objects.basins import PARTS, lowered
from napari_emda.objects.edited import EditedObjects
from napari_emda.objects.edits import MOST_PART_VOXELS, Part

# Voxels of the box of an object that is split: a mask, heights, order and labels take about 40
# bytes each, 2.5 GiB in all.
MOST_VOXELS = 2**26


def split(
    objects: EditedObjects,
    object_id: int,
    seeds: Sequence[Sequence[int]],
    grid: VoxelGrid,
    probability: Array | None = None,
    maps: Array | None = None,
) -> Part:
    """Find the part of an object that belongs to one of two seeds: a watershed from them.

    The object is flooded along its heights, from the highest down. The height of a voxel is its
    distance to the border of the object, times its probability: the parts meet at the narrowest
    or least certain place between the seeds. Of a model that predicts contours, its border and its
    contours count, too. Seeds on the slopes of one top have no such place
    between them; every voxel then belongs to the seed that is fewer voxels away inside the object.

    Args:
        objects: with the object.
        object_id: of the object.
        seeds: two voxels (z, y, x) of it.
        grid: of the voxels.
        probability: stored probability (uint8) of the object's class, (Z, Y, X), read lazily.
        maps: contours and distances of the model, (2, Z, Y, X) uint8; None if it predicts none.

    Returns:
        The smaller of the two parts.

    Raises:
        DataError: there is no such object, a seed lies outside of it, or it is too large.
    """
    objects.check(object_id)
    _check_seeds(objects, object_id, seeds)
    box = _with_rim(objects.box(object_id)).clip(objects.shape)
    if box.size > MOST_VOXELS:
        raise DataError(
            f"Object {object_id} spans a box of {box.size} voxels, and up to {MOST_VOXELS} can be "
            "split by clicks: separate all objects with a higher neck, or redraw a patch."
        )
    mask = objects[box.slices] == object_id
    spacing = PARTS * np.asarray(grid.spacing) / grid.pixel_size
    # The rim shows where the object ends; where the volume ends, the object may go on.
    heights = edt.edt(np.ascontiguousarray(mask), anisotropy=tuple(spacing), parallel=1)
    if maps is not None:
        heights = lowered(heights, maps, box)
    if probability is not None:
        heights = heights * (np.asarray(probability[box.slices]) / np.float32(CERTAIN))
    places = [tuple(np.subtract(seed, box.start).tolist()) for seed in seeds]
    labels = _flooded(heights, mask, places)
    sizes = np.bincount(labels.ravel(), minlength=3)
    smaller = 1 if sizes[1] < sizes[2] else 2
    chosen = labels == smaller
    extent = ndimage.find_objects(chosen.astype(np.uint8))[0]
    if np.prod([part.stop - part.start for part in extent]) > MOST_PART_VOXELS:
        raise DataError(
            f"Both parts of object {object_id} are too large to be split by clicks (a box of more "
            f"than {MOST_PART_VOXELS} voxels): separate all objects with a higher neck."
        )
    return Part.of(chosen, box.start)


def _check_seeds(objects: EditedObjects, object_id: int, seeds: Sequence[Sequence[int]]) -> None:
    if len(seeds) != 2 or tuple(seeds[0]) == tuple(seeds[1]):
        raise DataError("A split needs two different seeds: choose a voxel in each part.")
    for seed in seeds:
        where = "z {}, y {}, x {}".format(*seed)
        inside = all(0 <= i < n for i, n in zip(seed, objects.shape, strict=True))
        found = int(objects.at(np.array([seed]))[0]) if inside else 0
        if found != object_id:
            place = f"in object {found}" if found else "in the background"
            place = place if inside else "outside of the volume"
            raise DataError(
                f"The seed at {where} lies {place}: choose a voxel of object {object_id}."
            )


def _with_rim(box: Box) -> Box:
    z0, y0, x0 = (a - 1 for a in box.start)
    z1, y1, x1 = (b + 1 for b in box.stop)
    return Box((z0, y0, x0), (z1, y1, x1))


def _flooded(
    heights: NDArray[np.float32],
    mask: NDArray[np.bool_],
    seeds: Sequence[tuple[int, ...]],
) -> NDArray[np.int32]:
    """1 and 2 where the object belongs to the first and the second seed, 0 around it."""
    paths = [_climbed(heights, mask, seed) for seed in seeds]
    markers = np.zeros(mask.shape, np.int32)
    same_top = paths[0][-1] == paths[1][-1]
    for number, (path, seed) in enumerate(zip(paths, seeds, strict=True), start=1):
        for voxel in [seed] if same_top else path:
            markers[voxel] = number
    flooded = np.zeros_like(heights) if same_top else -heights
    labels: NDArray[np.int32] = watershed(flooded, markers, mask=mask)
    # Objects that were merged need not touch: what no flood has reached goes to the nearest part.
    left = mask & (labels == 0)
    if left.any():
        nearest = ndimage.distance_transform_edt(
            labels == 0, return_distances=False, return_indices=True
        )
        labels[left] = labels[tuple(nearest[:, left])]
    return labels


def _climbed(
    heights: NDArray[np.float32], mask: NDArray[np.bool_], seed: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """The voxels from a seed up the steepest way to a top, both included.

    Flooding from the seed alone would begin on a slope, and the other flood could take the top.
    """
    path = [seed]
    while True:
        here = path[-1]
        steps = itertools.product((-1, 0, 1), repeat=3)
        around = (tuple(a + b for a, b in zip(here, step, strict=True)) for step in steps)
        inside = [voxel for voxel in around if _is_in(mask, voxel)]
        best = max(inside, key=lambda voxel: heights[voxel])
        if heights[best] <= heights[here]:
            return path
        path.append(best)


def _is_in(mask: NDArray[np.bool_], voxel: tuple[int, ...]) -> bool:
    return all(0 <= i < n for i, n in zip(voxel, mask.shape, strict=True)) and bool(mask[voxel])

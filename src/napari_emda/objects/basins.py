"""Basins of the distance to the border of objects: what belongs to one bulge of an object.

The distance of a voxel to the border of its object is seen as a height, and every voxel points to
the neighbour to which the height rises most steeply. The pointers end at the tops, and all voxels
that end at one top are its basin: the watershed by topographic distance (Meyer 1994, Topographic
distance and watershed lines). Two basins that adjoin meet at a pass, the highest of the lower ends
of the pairs of neighbours that belong to one each.

Pointers and passes depend on the neighbourhood of a voxel alone, so that basins can be found block
by block, and joined over the blocks' faces, with exactly the same result for any blocks.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import edt
import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.probabilities import CERTAIN
from napari_emda.errors import DataError
from napari_emda.objects.borders import FARTHEST

# Sides of a voxel are rounded to whole parts of the shortest one. Squares of distances are then
# whole numbers, which float32 holds exactly up to 2^24, so that the blocks around a voxel do not
# change the last digit of its height. A sixteenth is finer than voxel sizes are measured.
PARTS = 16
"""Heights of the shortest side of a voxel."""
HALF_PIXEL = PARTS / 2
"""Half of the shortest side of a voxel, as heights count."""
# Heights end here, in shortest sides: it bounds how far around a block voxels are read. Objects
# are still split at necks that are less than twice as wide.
HIGHEST = 64
# Voxels around a block, in shortest sides, that are read at first; more if it is too few.
FIRST_REACH = 8
# By so much heights are less where a contour is certain. Not to 0, so that they still rise on both
# sides of the border in the middle of it.
_LOWERED = 0.75
# Those of the neighbours that share faces which come later in the order of voxels.
_ADJACENT = [(0, 0, 1), (0, 1, 0), (1, 0, 0)]


@dataclass(frozen=True)
class Steps:
    """Sides of a voxel along z, y, x in whole parts of the shortest one; 0 for z if apart.

    Attributes:
        sides: of voxels.
    """

    sides: tuple[int, int, int]

    @classmethod
    def of(cls, spacing: tuple[float, float, float], sections_are_independent: bool) -> Steps:
        """Those of a voxel size.

        Raises:
            DataError: a side is more than `HIGHEST` times as long as another.
        """
        shortest = min(spacing[1:] if sections_are_independent else spacing)
        z, y, x = (round(PARTS * side / shortest) for side in spacing)
        if sections_are_independent:
            z = 0
        if max(z, y, x) > PARTS * HIGHEST:
            raise DataError(
                f"Objects of voxels of {' x '.join(f'{side:g}' for side in spacing)} cannot be "
                f"separated: a side may be up to {HIGHEST} times as long as another."
            )
        return cls((z, y, x))

    def voxels(self, distance: int) -> tuple[int, int, int]:
        """Voxels along each axis that hold a distance, given in shortest sides."""
        z, y, x = (-(-PARTS * distance // side) if side else 0 for side in self.sides)
        return z, y, x

    def offsets(self) -> list[tuple[tuple[int, int, int], float]]:
        """Neighbours of a voxel, and how far away they are."""
        z, y, x = self.sides
        return [
            ((dz, dy, dx), math.hypot(dz * z, dy * y, dx * x))
            for dz, dy, dx in itertools.product((-1, 0, 1), repeat=3)
            if any((dz, dy, dx)) and (dz == 0 or z)
        ]

    def adjacent(self) -> list[tuple[int, int, int]]:
        """Neighbours that share a face with a voxel and come later."""
        return [offset for offset in _ADJACENT if offset[0] == 0 or self.sides[0]]


def heights(
    objects: Array, box: Box, steps: Steps, reach: int = FIRST_REACH
) -> tuple[NDArray[np.uint32], NDArray[np.float32], int]:
    """Ids and heights of the voxels of a box of a volume.

    Args:
        objects: (Z, Y, X) ids of objects, 0 being background; read lazily.
        box: inside the volume.
        steps: of its voxels.
        reach: how far around the box voxels are read at first, in shortest sides; further if that
            is too near, so that the result does not depend on it.

    Returns:
        Ids and heights, both shaped as the box, and the reach that was needed. A height is the
        distance to the nearest voxel of another id, in parts of the shortest side, up to `HIGHEST`
        sides; 0 in the background. What lies outside the volume belongs to any object.
    """
    while True:
        around = _grown(box, steps.voxels(reach)).clip(objects.shape)
        ids = np.ascontiguousarray(objects[around.slices])
        inside = box.moved(tuple(-a for a in around.start)).slices  # type: ignore[arg-type]
        values = _squares(ids, steps)[inside]
        np.minimum(values, float(PARTS * HIGHEST) ** 2, out=values)
        np.sqrt(values, out=values)
        if reach >= HIGHEST or _are_exact(values, box, around, objects.shape, steps):
            return ids[inside], values, reach
        # With more voxels, heights can only fall: this is far enough.
        reach = min(HIGHEST, math.ceil(values.max() / PARTS))


def lowered(values: NDArray[np.float32], maps: Array, box: Box) -> NDArray[np.float32]:
    """Heights of a box that know where a network sees the border of an object.

    The border is that of the mask or one that the network predicts, whichever is nearer, and
    heights are less where a contour is probable. What a voxel gets depends on itself alone, so that
    blocks make no difference.

    Args:
        values: heights of the box, see `heights`; 0 in the background.
        maps: (2, Z, Y, X) uint8, contours and distances; read lazily.
        box: inside the volume.
    """
    contours, distances = np.asarray(maps[(slice(None), *box.slices)]).astype(np.float32)
    # A voxel is half a side nearer to the border than to the next voxel; so are distances.
    learnt = distances * np.float32(PARTS * FARTHEST / CERTAIN)
    nearer = np.minimum(np.maximum(values - np.float32(HALF_PIXEL), 0), learnt)
    share = np.float32(1) - contours * np.float32(_LOWERED / CERTAIN)
    result: NDArray[np.float32] = np.where(
        values > 0, nearer * share + np.float32(HALF_PIXEL), np.float32(0)
    )
    return result


def _squares(ids: NDArray[np.uint32], steps: Steps) -> NDArray[np.float32]:
    if not ids.any():
        return np.zeros(ids.shape, np.float32)
    if not steps.sides[0]:
        sections = [edt.edtsq(section, anisotropy=steps.sides[1:], parallel=1) for section in ids]
        return np.stack(sections)
    return np.asarray(edt.edtsq(ids, anisotropy=steps.sides, parallel=1))


def _are_exact(
    values: NDArray[np.float32], box: Box, around: Box, shape: tuple[int, ...], steps: Steps
) -> bool:
    """Whether no voxel outside of the box that was read can be nearer than those in it."""
    for axis, side in enumerate(steps.sides):
        if not side:
            continue
        highest = np.max(values, axis=tuple({0, 1, 2} - {axis}), initial=0)
        position = np.arange(box.start[axis], box.stop[axis])
        if around.start[axis] > 0 and (highest > (position - around.start[axis] + 1) * side).any():
            return False
        beyond = around.stop[axis] - position
        if around.stop[axis] < shape[axis] and (highest > beyond * side).any():
            return False
    return True


def _grown(box: Box, by: tuple[int, int, int]) -> Box:
    start = tuple(a - d for a, d in zip(box.start, by, strict=True))
    stop = tuple(b + d for b, d in zip(box.stop, by, strict=True))
    return Box(start, stop)  # type: ignore[arg-type]


def pointers(
    ids: NDArray[np.uint32], values: NDArray[np.float32], voxels: NDArray[np.int64], steps: Steps
) -> NDArray[np.int64]:
    """The neighbour to which each voxel points: the one up the steepest slope, in its own object.

    On level ground it is the last neighbour of the same height, so that no pointers run in circles.

    Args:
        ids: (Z, Y, X) of objects.
        values: their heights.
        voxels: flat indices of the voxels, none of them on the border of the arrays.
        steps: of the voxels.

    Returns:
        Flat indices; a top points to itself.
    """
    _, rows, columns = ids.shape
    flat = ids.ravel()
    height = values.ravel()
    object_ids = flat[voxels]
    base = height[voxels]
    targets = voxels.copy()
    steepest = np.zeros(len(voxels), np.float32)
    for (dz, dy, dx), length in steps.offsets():
        others = voxels + ((dz * rows + dy) * columns + dx)
        slope = (height[others] - base) / np.float32(length)
        uphill = slope > steepest
        if (dz, dy, dx) > (0, 0, 0):
            # Steeper slopes replace it, whichever comes first.
            uphill |= (slope == 0) & (steepest == 0)
        uphill &= flat[others] == object_ids
        np.copyto(targets, others, where=uphill)
        np.copyto(steepest, slope, where=uphill)
    return targets


def tops(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Follow pointers to their ends.

    Args:
        targets: for each of n voxels, the number (0 ... n - 1) of that to which it points.
    """
    # Each round doubles the length of the pointers.
    while True:
        further = targets[targets]
        if np.array_equal(further, targets):
            return targets
        targets = further


def passes(
    ids: NDArray[np.uint32],
    values: NDArray[np.float32],
    basins: NDArray[np.uint32],
    voxels: NDArray[np.int64],
    steps: Steps,
) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """The passes between basins of one object that share faces of voxels.

    Args:
        ids: (Z, Y, X) of objects.
        values: their heights.
        basins: ids of basins; 0 where there is none, or none yet.
        voxels: flat indices of the voxels, none of them on the border of the arrays.
        steps: of the voxels.

    Returns:
        Pairs of basins, each once, the lower id in the upper 32 bits; and the heights of their
        passes.
    """
    _, rows, columns = ids.shape
    flat = ids.ravel()
    height = values.ravel()
    basin = basins.ravel()
    keys = [np.empty(0, np.uint64)]
    levels = [np.empty(0, np.float32)]
    for dz, dy, dx in steps.adjacent():
        others = voxels + ((dz * rows + dy) * columns + dx)
        meets = (basin[voxels] != basin[others]) & (flat[voxels] == flat[others])
        meets &= (basin[voxels] > 0) & (basin[others] > 0)
        a = voxels[meets]
        b = others[meets]
        low = np.minimum(basin[a], basin[b]).astype(np.uint64)
        keys.append(low << np.uint64(32) | np.maximum(basin[a], basin[b]))
        levels.append(np.minimum(height[a], height[b]))
    return highest_by_pair(np.concatenate(keys), np.concatenate(levels))


def highest_by_pair(
    keys: NDArray[np.uint64], levels: NDArray[np.float32]
) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Each pair once, with its highest level."""
    order = np.argsort(keys, kind="stable")
    pairs, first = np.unique(keys[order], return_index=True)
    if not len(pairs):
        return pairs, levels
    return pairs, np.maximum.reduceat(levels[order], first)

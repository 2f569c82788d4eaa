"""Where objects are near to each other, and what the model sees between them."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.block_runner import IN_TURN, BlockRunner
from napari_emda.data.blocks import block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.data.lazy import Lazy3D
from napari_emda.data.probabilities import CERTAIN
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone
from napari_emda.objects.by_block import each_block

# Voxels between two objects across which they count as touching: what a missing section, or an
# edge that the model has drawn through an object, leaves between its parts.
_GAP = 2
_BLOCK_VOXELS = 2**21

# Keys of pairs (the lower id in the upper 32 bits), areas, and areas times probability.
_Sums = tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64]]
# Ids, and areas.
_Faces = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class Contacts:
    """Pairs of objects that touch, or are a gap of `_GAP` voxels apart.

    Attributes:
        pairs: their ids, n x 2, the lower one first.
        area: along which they face each other, in the squared unit of the grid.
        probability: mean of the lowest probability between them, 0 to 1.
        surface: area of the faces of all voxels of an object, by id; without those at the border
            of the volume.
    """

    pairs: NDArray[np.int64]
    area: NDArray[np.float64]
    probability: NDArray[np.float64]
    surface: NDArray[np.float64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Area of each contact as a share of the surface of the object that has less of it."""
        smaller = np.minimum(*self.surface[self.pairs].T) if len(self.pairs) else self.area
        return self.area / np.maximum(smaller, np.finfo(float).tiny)


class InsideContours(Lazy3D):
    """The probability of a class where there is no contour, uint8 (z, y, x).

    Args:
        probability: stored probability of the class, read lazily.
        maps: contours and distances of the model, (2, z, y, x) uint8, read lazily.
    """

    def __init__(self, probability: Array, maps: Array) -> None:
        z, y, x = probability.shape
        super().__init__((z, y, x), np.uint8)
        self._probability = probability
        self._maps = maps

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        contours = np.asarray(self._maps[0, z, y, x])
        return np.minimum(np.asarray(self._probability[z, y, x]), CERTAIN - contours)


def find_contacts(
    objects: Array,
    count: int,
    grid: VoxelGrid,
    probability: Array,
    volume: str = "",
    runner: BlockRunner = IN_TURN,
) -> Generator[TileDone, None, Contacts]:
    """Find the contacts of objects; memory is bounded by a block and the number of contacts.

    Args:
        objects: (Z, Y, X) ids up to ``count``, 0 being background; read lazily.
        count: the highest id.
        grid: of the voxels.
        probability: (Z, Y, X) stored probability (uint8) of the objects' class.
        volume: name for the events.
        runner: carries out the work on the blocks.

    Yields:
        An event per block.
    """
    surface = np.zeros(count + 1)
    parts = [_no_sums()]

    def add(found: tuple[_Sums, _Faces]) -> None:
        pairs, (ids, areas) = found
        surface[ids] += areas
        # Most blocks have the pairs of blocks before: memory is bounded by the pairs.
        parts[:] = [_summed([*parts, pairs])]

    boxes = blocks(Box.whole(objects.shape), block_shape(objects, _BLOCK_VOXELS))
    work = _FindContacts(objects, grid, probability)
    yield from each_block(runner, work, [(box,) for box in boxes], add, volume)
    keys, areas, seen = _summed(parts)
    pairs = np.stack([keys >> np.uint64(32), keys & np.uint64(2**32 - 1)], axis=1).astype(np.int64)
    return Contacts(pairs, areas, seen / np.maximum(areas, np.finfo(float).tiny), surface)


def _no_sums() -> _Sums:
    return np.empty(0, np.uint64), np.empty(0), np.empty(0)


@dataclass(frozen=True)
class _FindContacts:
    """Finds the contacts in a block, and the areas of all faces of its voxels by object."""

    objects: Array
    grid: VoxelGrid
    probability: Array

    def __call__(self, box: Box) -> tuple[_Sums, _Faces]:
        wide = _with_gap(box, self.grid).clip(self.objects.shape)
        ids = np.asarray(self.objects[wide.slices])
        pairs = [_no_sums()]
        faces = [(np.empty(0, np.int64), np.empty(0))]
        if ids.any():
            stored = np.asarray(self.probability[wide.slices])
            for axis in range(3):
                if axis == 0 and self.grid.sections_are_independent:
                    continue
                area = math.prod(self.grid.spacing) / self.grid.spacing[axis]
                faces += _faces(_moved(ids, box, axis, 1), area)
                for gap in range(_GAP + 1):
                    pairs.append(_facing(ids, stored, box, axis, gap, area))
        owners, areas = map(np.concatenate, zip(*faces, strict=True))
        objects, index = np.unique(owners, return_inverse=True)
        sums = np.bincount(index, areas, len(objects)).astype(np.float64)
        return _summed(pairs), (objects, sums)


def _with_gap(box: Box, grid: VoxelGrid) -> Box:
    z, y, x = box.stop
    beyond = _GAP + 1
    z = z if grid.sections_are_independent else z + beyond
    return Box(box.start, (z, y + beyond, x + beyond))


def _moved(values: NDArray[Any], box: Box, axis: int, by: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The voxels of a block that have a neighbour so far away along an axis, and those."""
    shape = list(box.shape)
    length = min(shape[axis], values.shape[axis] - by)
    shape[axis] = max(0, length)
    first = values[tuple(map(slice, shape))]
    start = [by if other == axis else 0 for other in range(3)]
    stop = [low + side for low, side in zip(start, shape, strict=True)]
    return first, values[tuple(map(slice, start, stop))]


def _faces(neighbours: tuple[NDArray[Any], NDArray[Any]], area: float) -> Iterator[_Faces]:
    """Faces between different objects, for those on the one side and on the other."""
    first, second = neighbours
    differs = first != second
    for side in (first, second):
        ids, counts = np.unique(side[differs], return_counts=True)
        yield ids.astype(np.int64), counts.astype(np.float64) * area


def _facing(
    ids: NDArray[np.uint32],
    stored: NDArray[np.uint8],
    box: Box,
    axis: int,
    gap: int,
    area: float,
) -> _Sums:
    """Pairs with a gap of this width between them: keys, areas, areas times probability."""
    first, second = _moved(ids, box, axis, gap + 1)
    faces = (first > 0) & (second > 0) & (first != second)
    for by in range(1, gap + 1):
        between = _moved(ids, box, axis, by)[1]
        faces &= between[tuple(map(slice, faces.shape))] == 0
    if not faces.any():
        return np.empty(0, np.uint64), np.empty(0), np.empty(0)
    lowest = np.full(np.count_nonzero(faces), CERTAIN, np.uint8)
    for by in range(gap + 2):
        values = _moved(stored, box, axis, by)[1][tuple(map(slice, faces.shape))]
        np.minimum(lowest, values[faces], out=lowest)
    a = first[faces].astype(np.uint64)
    b = second[faces].astype(np.uint64)
    keys = np.minimum(a, b) << np.uint64(32) | np.maximum(a, b)
    return keys, np.full(len(keys), area), area * lowest.astype(float) / CERTAIN


def _summed(
    parts: list[_Sums],
) -> _Sums:
    """Each pair once, with its sums."""
    keys, areas, seen = (np.concatenate(column) for column in zip(*parts, strict=True))
    pairs, index = np.unique(keys, return_inverse=True)
    area_sums, seen_sums = (
        np.bincount(index, values, len(pairs)).astype(np.float64) for values in (areas, seen)
    )
    return pairs, area_sums, seen_sums

"""Touching objects, separated at their necks block by block.

Connected voxels are seen as one or several bulges (`napari_emda.objects.basins`). Neighbouring
bulges belong together if the neck between them is wide in comparison with the narrower one.

The result does not depend on the blocks: what a block contributes depends on its voxels and their
surroundings alone, and the bulges of all blocks are joined in an order given by their heights and
positions.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_emda.data.array import Array, WritableArray
from napari_emda.data.block_runner import IN_TURN, BlockRunner
from napari_emda.data.blocks import blocks, chunk_shape
from napari_emda.data.box import Box
from napari_emda.data.edges import padded
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.events import TileDone, stage
from napari_emda.objects import basins
from napari_emda.objects.basins import Steps
from napari_emda.objects.bulges import Bulges
from napari_emda.objects.by_block import Numbering, Renumber, each_block, lower_face, nothing
from napari_emda.objects.components import MOST_OBJECTS, find_objects_in, ids_in
from napari_emda.settings.objects import SeparationSettings

# Nearly cubes, unlike the blocks of other work: the surroundings that are read with a block have
# less volume. 4 Mvoxel, 100 MiB with all that is computed for them.
_BLOCK = (64, 256, 256)

_Passes = tuple[NDArray[np.uint64], NDArray[np.float32]]
"""Pairs of bulges and the heights of their passes, see `napari_emda.objects.basins.passes`."""


def separate(
    objects: Array,
    out: WritableArray,
    grid: VoxelGrid,
    *,
    neck: float,
    minimum_size: int = 0,
    maps: Array | None = None,
    volume: str = "",
    parts: WritableArray | None = None,
    runner: BlockRunner = IN_TURN,
) -> Generator[TileDone, None, int]:
    """Separate connected objects at their necks, and at contours if there are maps of them.

    Memory is bounded by a block and the number of bulges.

    Args:
        objects: (Z, Y, X) ids of connected objects, 0 being background; read lazily.
        out: (Z, Y, X) uint32, all 0; ids are consecutive from 1. It is complete after the last
            event.
        grid: of the voxels.
        neck: objects are separated where the neck is narrower than this share of the narrower
            bulge, above 0 and at most 1.
        minimum_size: in voxels; a part that is smaller stays with its neighbour.
        maps: contours and distances that a network predicts, (2, Z, Y, X) uint8, read lazily
            (`napari_emda.project.stored_prediction`); None to measure distances in the objects.
        volume: name for the events.
        parts: as ``out``; takes the bulges of the blocks. By default ``out`` does, which a runner
            that repeats calls cannot use.
        runner: carries out the work on the blocks.

    Yields:
        An event per block, in three passes.

    Returns:
        The number of objects.

    Raises:
        DataError: voxels are too long, or there are more bulges than uint32 can number.
    """
    parts = out if parts is None else parts
    steps = Steps.of(grid.spacing, grid.sections_are_independent)
    block = _block_shape(objects)
    boxes = blocks(Box.whole(objects.shape), block)
    numbers = Numbering.of(parts, block)
    bulges = Bulges()
    found: list[int] = []

    def add(more: _Found) -> None:
        count = len(more.heights)
        if numbers.count + count > MOST_OBJECTS:
            raise DataError(
                f"There are more than {MOST_OBJECTS} parts of objects: choose a higher threshold."
            )
        bulges.add(more.heights, more.positions, more.sizes)
        bulges.add_passes(*more.passes_after(numbers.count))
        numbers.add(boxes[len(found)], count)
        found.append(count)

    def join(links: NDArray[np.uint32], passes: _Passes) -> None:
        bulges.link(*links)
        bulges.add_passes(*passes)

    items = [(box,) for box in boxes]
    find = _FindBulges(objects, maps, parts, steps)
    yield from each_block(runner, find, items, add, volume, 0, 3)
    meet = _FindMeeting(objects, maps, numbers, steps)
    yield from each_block(runner, meet, items, lambda both: join(*both), volume, 1, 3)
    ids = bulges.joined(neck, minimum_size)
    renumber = numbers.renumbered(boxes, found, ids)
    yield from each_block(runner, Renumber(parts, out), renumber, nothing, volume, 2, 3)
    return int(ids.max())


def find_separate_objects_in(
    folder: Path,
    probabilities: Array,
    settings: SeparationSettings,
    grid: VoxelGrid,
    class_id: int = 1,
    volume: str = "",
    maps: Array | None = None,
    runner: BlockRunner = IN_TURN,
) -> Generator[TileDone, None, tuple[zarr.Array[Any], int]]:
    """Number the objects of a class, and separate those that touch if the settings say so.

    Args:
        folder: takes the ids as a zarr array, ``<class_id>.zarr``.
        probabilities: see `find_objects`.
        settings: what counts as foreground and as an object.
        grid: of the voxels.
        class_id: the class whose objects are found, from 1.
        volume: name for the events.
        maps: contours and distances, see `separate`; None if the model predicts none.
        runner: carries out the work on the blocks.

    Returns:
        The ids, (z, y, x) uint32, and the number of objects.
    """
    independent = grid.sections_are_independent
    if not settings.separate:
        return (
            yield from find_objects_in(
                folder, probabilities, settings, class_id, volume, independent, runner
            )
        )
    before = folder / "connected"
    search = find_objects_in(before, probabilities, settings, class_id, volume, independent, runner)
    connected, _ = yield from stage(search, 0, 2)
    objects = ids_in(folder / f"{class_id}.zarr", connected.shape)
    parts = ids_in(folder / "bulges", connected.shape) if runner.may_repeat else None
    separation = separate(
        connected,
        objects,
        grid,
        neck=settings.separate,
        minimum_size=settings.minimum_size,
        maps=maps,
        volume=volume,
        parts=parts,
        runner=runner,
    )
    count = yield from stage(separation, 1, 2)
    shutil.rmtree(before)
    if parts is not None:
        shutil.rmtree(folder / "bulges")
    return objects, count


def _block_shape(objects: Array) -> tuple[int, int, int]:
    """About `_BLOCK`, in whole chunks."""
    z, y, x = (
        max(1, min(side // chunk * chunk or chunk, n))
        for side, chunk, n in zip(_BLOCK, chunk_shape(objects), objects.shape, strict=True)
    )
    return z, y, x


@dataclass
class _Heights:
    """Heights of objects around a place, see `napari_emda.objects.basins.heights`.

    Attributes:
        objects: of a whole volume.
        maps: contours and distances, see `separate`.
        steps: of the voxels.
        reach: how far voxels are read at first. Objects of a volume are of one kind: what one place
            needs, others need, too.
    """

    objects: Array
    maps: Array | None
    steps: Steps
    reach: int = basins.FIRST_REACH

    def read(self, box: Box) -> tuple[Box, NDArray[np.uint32], NDArray[np.float32]]:
        """The part of a box that lies in the volume, and ids and heights in the whole box.

        Outside of the volume both are 0.
        """
        inside = box.clip(self.objects.shape)
        ids, heights, reach = basins.heights(self.objects, inside, self.steps, self.reach)
        self.reach = max(self.reach, reach)
        if self.maps is not None:
            heights = basins.lowered(heights, self.maps, inside)
        return (
            inside,
            np.ascontiguousarray(padded(ids, inside, box, 0)),
            np.ascontiguousarray(padded(heights, inside, box, 0)),
        )


@dataclass(frozen=True)
class _Found:
    """The bulges in a block, numbered from 1.

    Attributes:
        heights: of their tops.
        positions: of their tops in the volume, as flat indices.
        sizes: in voxels.
        pairs: that meet in the block, see `napari_emda.objects.basins.passes`.
        levels: of their passes.
    """

    heights: NDArray[np.float32]
    positions: NDArray[np.int64]
    sizes: NDArray[np.int64]
    pairs: NDArray[np.uint64]
    levels: NDArray[np.float32]

    def passes_after(self, count: int) -> _Passes:
        """The passes, if the first bulge has the number ``count`` + 1."""
        both = np.uint64(count) << np.uint64(32) | np.uint64(count)
        return self.pairs + both, self.levels


_NOTHING = _Found(
    np.empty(0, np.float32),
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty(0, np.uint64),
    np.empty(0, np.float32),
)


@dataclass
class _FindBulges:
    """Pass 1: numbers the bulges in a block, as far as they lie in it."""

    objects: Array
    maps: Array | None
    parts: WritableArray
    steps: Steps

    def __post_init__(self) -> None:
        self._heights = _Heights(self.objects, self.maps, self.steps)

    def __call__(self, box: Box) -> _Found:
        if not np.any(self.objects[box.slices]):
            return _NOTHING
        # Neighbours are pointed to.
        around = _around(box)
        _, ids, heights = self._heights.read(around)
        core = box.moved(_back(around)).slices
        inside = np.zeros(ids.shape, bool)
        inside[core] = True
        voxels = np.flatnonzero(inside & (ids > 0))
        targets = basins.pointers(ids, heights, voxels, self.steps)
        highest, numbers = _numbered(voxels, targets, ids.size)
        found = np.zeros(ids.shape, np.uint32)
        found.ravel()[voxels] = numbers
        self.parts[box.slices] = found[core]
        return _Found(
            heights.ravel()[highest],
            _positions(highest, ids.shape, around, self.objects.shape),
            np.bincount(numbers)[1:],
            *basins.passes(ids, heights, found, voxels, self.steps),
        )


def _numbered(
    voxels: NDArray[np.int64], targets: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Number the bulges in a block from 1.

    Args:
        voxels: flat indices of the voxels of the block that belong to objects.
        targets: to which they point.
        size: of the array that they lie in.

    Returns:
        Flat index of the highest voxel of each bulge, and the number of the bulge of each voxel.
        Where the pointers leave the block, the highest voxel is the last one inside.
    """
    place = np.full(size, -1, np.int64)
    place[voxels] = np.arange(len(voxels))
    inner = place[targets]
    ends = basins.tops(np.where(inner < 0, np.arange(len(voxels)), inner))
    highest, numbers = np.unique(ends, return_inverse=True)
    return voxels[highest], (numbers + 1).astype(np.uint32)


def _positions(
    voxels: NDArray[np.int64], shape: tuple[int, ...], box: Box, volume: tuple[int, ...]
) -> NDArray[np.int64]:
    """Flat indices in the whole volume of voxels of a box."""
    z, y, x = np.stack(np.unravel_index(voxels, shape)) + np.asarray(box.start)[:, None]
    return np.asarray((z * volume[1] + y) * volume[2] + x)


@dataclass
class _FindMeeting:
    """Pass 2: what joins the bulges on both sides of the block's lower faces.

    Returns pairs of bulges that are one because pointers lead from one to the other, and passes.
    """

    objects: Array
    maps: Array | None
    numbers: Numbering
    steps: Steps

    def __post_init__(self) -> None:
        self._heights = _Heights(self.objects, self.maps, self.steps)

    def __call__(self, box: Box) -> tuple[NDArray[np.uint32], _Passes]:
        links = [np.empty((2, 0), np.uint32)]
        pairs = [np.empty(0, np.uint64)]
        levels = [np.empty(0, np.float32)]
        for axis in range(3):
            is_apart = axis == 0 and not self.steps.sides[0]
            if box.start[axis] == 0 or is_apart:
                continue
            near = lower_face(box, axis)
            if not np.any(self.objects[near.clip(self.objects.shape).slices]):
                continue
            crossing, (some, heights) = self._across(near)
            links.append(crossing)
            pairs.append(some)
            levels.append(heights)
        both = basins.highest_by_pair(np.concatenate(pairs), np.concatenate(levels))
        return np.concatenate(links, axis=1), both

    def _across(self, near: Box) -> tuple[NDArray[np.uint32], _Passes]:
        """The same of one face, with a voxel on each side of it and around it."""
        around = _around(near)
        inside, ids, heights = self._heights.read(around)
        found = np.ascontiguousarray(padded(self.numbers.read(inside), inside, around, 0))
        is_near = np.zeros(ids.shape, bool)
        is_near[near.moved(_back(around)).slices] = True
        voxels = np.flatnonzero(is_near & (ids > 0))
        targets = basins.pointers(ids, heights, voxels, self.steps)
        flat = found.ravel()
        here, there = flat[voxels], flat[targets]
        keys = here.astype(np.uint64) << np.uint64(32) | there
        keys = np.unique(keys[(here != there) & (there > 0)])
        links = np.stack([keys >> np.uint64(32), keys & np.uint64(2**32 - 1)]).astype(np.uint32)
        return links, basins.passes(ids, heights, found, voxels, self.steps)


def _around(box: Box) -> Box:
    """A box with a voxel more on all sides."""
    z0, y0, x0 = (a - 1 for a in box.start)
    z1, y1, x1 = (b + 1 for b in box.stop)
    return Box((z0, y0, x0), (z1, y1, x1))


def _back(box: Box) -> tuple[int, int, int]:
    """The way from the volume into a box."""
    z, y, x = (-start for start in box.start)
    return z, y, x

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
from napari_emda.data.blocks import blocks, chunk_shape
from napari_emda.data.box import Box
from napari_emda.data.edges import padded
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.events import TileDone, stage
from napari_emda.objects import basins
from napari_emda.objects.basins import Steps
from napari_emda.objects.bulges import Bulges
from napari_emda.objects.components import MOST_OBJECTS, find_objects_in, ids_in
from napari_emda.settings.objects import SeparationSettings

# Nearly cubes, unlike the blocks of other work: the surroundings that are read with a block have
# less volume. 4 Mvoxel, 100 MiB with all that is computed for them.
_BLOCK = (64, 256, 256)
# Voxels around a block: its neighbours point into it, and need the heights of theirs.
_RIM = 2


def separate(
    objects: Array,
    out: WritableArray,
    grid: VoxelGrid,
    *,
    neck: float,
    minimum_size: int = 0,
    maps: Array | None = None,
    volume: str = "",
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

    Yields:
        An event per block, in two passes.

    Returns:
        The number of objects.

    Raises:
        DataError: voxels are too long, or there are more bulges than uint32 can number.
    """
    separation = _Separation(objects, out, grid, maps)
    boxes = blocks(Box.whole(objects.shape), _block_shape(objects))
    for done, box in enumerate(boxes, start=1):
        separation.find(box)
        yield TileDone(volume=volume, box=box.bounds, done=done, total=2 * len(boxes))
    ids = separation.bulges.joined(neck, minimum_size)
    for done, box in enumerate(boxes, start=1 + len(boxes)):
        out[box.slices] = ids[np.asarray(out[box.slices])]
        yield TileDone(volume=volume, box=box.bounds, done=done, total=2 * len(boxes))
    return int(ids.max())


def find_separate_objects_in(
    folder: Path,
    probabilities: Array,
    settings: SeparationSettings,
    grid: VoxelGrid,
    class_id: int = 1,
    volume: str = "",
    maps: Array | None = None,
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

    Returns:
        The ids, (z, y, x) uint32, and the number of objects.
    """
    independent = grid.sections_are_independent
    if not settings.separate:
        return (
            yield from find_objects_in(
                folder, probabilities, settings, class_id, volume, independent
            )
        )
    before = folder / "connected"
    search = find_objects_in(before, probabilities, settings, class_id, volume, independent)
    connected, _ = yield from stage(search, 0, 2)
    objects = ids_in(folder / f"{class_id}.zarr", connected.shape)
    separation = separate(
        connected,
        objects,
        grid,
        neck=settings.separate,
        minimum_size=settings.minimum_size,
        maps=maps,
        volume=volume,
    )
    count = yield from stage(separation, 1, 2)
    shutil.rmtree(before)
    return objects, count


def _block_shape(objects: Array) -> tuple[int, int, int]:
    """About `_BLOCK`, in whole chunks."""
    z, y, x = (
        max(1, min(side // chunk * chunk or chunk, n))
        for side, chunk, n in zip(_BLOCK, chunk_shape(objects), objects.shape, strict=True)
    )
    return z, y, x


class _Separation:
    """The bulges of the blocks so far.

    A block is joined to those around it that came before. Their ids are read from ``out``.
    """

    def __init__(
        self, objects: Array, out: WritableArray, grid: VoxelGrid, maps: Array | None
    ) -> None:
        self.objects = objects
        self.maps = maps
        self.out = out
        self.steps = Steps.of(grid.spacing, grid.sections_are_independent)
        self.bulges = Bulges()
        # Objects of a volume are of one kind: what one block needs, others need, too.
        self.reach = basins.FIRST_REACH

    def find(self, box: Box) -> None:
        """Find the bulges of a block, and what joins them to those of blocks before."""
        if not np.any(self.objects[box.slices]):
            return
        block = self._read(box)
        targets = basins.pointers(block.ids, block.heights, block.voxels, self.steps)
        found = block.number(targets, self.bulges.count)
        if self.bulges.count + len(found) > MOST_OBJECTS:
            raise DataError(
                f"There are more than {MOST_OBJECTS} parts of objects: choose a higher threshold."
            )
        sizes = np.bincount(block.basins[block.core].ravel())[self.bulges.count + 1 :]
        self.bulges.add(block.heights.ravel()[found], block.positions(found), sizes)
        self.bulges.link(*block.links(targets))
        self.bulges.add_passes(
            *basins.passes(block.ids, block.heights, block.basins, block.voxels, self.steps)
        )
        self.out[box.slices] = block.basins[block.core]

    def _read(self, box: Box) -> _Block:
        around = _around(box, _RIM)
        inside = around.clip(self.objects.shape)
        if not self.steps.sides[0]:
            # What other images hold does not matter.
            inside = Box((box.start[0], *inside.start[1:]), (box.stop[0], *inside.stop[1:]))
        ids, heights, reach = basins.heights(self.objects, inside, self.steps, self.reach)
        self.reach = max(self.reach, reach)
        if self.maps is not None:
            heights = basins.lowered(heights, self.maps, inside)
        # A copy: the ids of the block are written into it.
        before = np.array(self.out[inside.slices])
        arrays = (padded(values, inside, around, 0) for values in (ids, heights, before))
        shape = np.asarray(self.objects.shape)
        return _Block(box, shape, *map(np.ascontiguousarray, arrays))


def _around(box: Box, by: int) -> Box:
    z0, y0, x0 = (a - by for a in box.start)
    z1, y1, x1 = (b + by for b in box.stop)
    return Box((z0, y0, x0), (z1, y1, x1))


@dataclass
class _Block:
    """A block with `_RIM` voxels around it on all sides.

    Attributes:
        box: of the block itself.
        shape: of the volume.
        ids: of objects.
        heights: of the voxels.
        basins: ids of bulges: around the block those of blocks before, 0 where none was before.
    """

    box: Box
    shape: NDArray[np.int64]
    ids: NDArray[np.uint32]
    heights: NDArray[np.float32]
    basins: NDArray[np.uint32]

    def __post_init__(self) -> None:
        self.core = (slice(_RIM, -_RIM),) * 3
        near = np.zeros(self.ids.shape, bool)
        near[1:-1, 1:-1, 1:-1] = True
        self.voxels = np.flatnonzero(near & (self.ids > 0))
        inside = np.zeros(self.ids.shape, bool)
        inside[self.core] = True
        self.in_core = inside.ravel()[self.voxels]

    def number(self, targets: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Number the bulges in the block from ``count`` + 1.

        Returns:
            Flat index of the highest voxel of each. Where the pointers leave the block, it is the
            last one inside.
        """
        voxels = self.voxels[self.in_core]
        place = np.full(self.ids.size, -1, np.int64)
        place[voxels] = np.arange(len(voxels))
        inner = place[targets[self.in_core]]
        ends = basins.tops(np.where(inner < 0, np.arange(len(voxels)), inner))
        highest, numbers = np.unique(ends, return_inverse=True)
        self.basins.ravel()[voxels] = count + 1 + numbers
        return voxels[highest]

    def positions(self, voxels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Flat indices in the whole volume."""
        place = np.stack(np.unravel_index(voxels, self.ids.shape)) - _RIM
        z, y, x = place + np.asarray(self.box.start)[:, None]
        _, rows, columns = self.shape
        return np.asarray((z * rows + y) * columns + x)

    def links(self, targets: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Pairs of bulges that are one, because pointers lead from one to the other.

        One of them may be of a block before: pointers lead out of the block as well as into it.
        """
        flat = self.basins.ravel()
        inside = flat[self.voxels]
        beyond = flat[targets]
        crosses = (inside != beyond) & (inside > 0) & (beyond > 0)
        return inside[crosses], beyond[crosses]

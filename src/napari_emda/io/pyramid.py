"""Pyramids: an image and coarser versions of it for viewers, written block by block."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.blocks import BLOCK_VOXELS, block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone
from napari_emda.io.writer import NewImage

# Chunk of a volume: 1 MiB of uint8. Chunks of one section would make the xz and yz views of a
# viewer slow (a chunk per row), cubes of this size would decode 100 sections for one.
CHUNK = (16, 256, 256)
# Pixels of a section of the coarsest level, along its longer side: about what a screen shows, so
# that a viewer need not read more to show a whole section.
COARSEST = 512


@dataclass(frozen=True)
class Level:
    """A level of a pyramid.

    Attributes:
        shape: of the level, (z, y, x).
        factors: voxels of the finest level in one of this level, along z, y, x.
    """

    shape: tuple[int, int, int]
    factors: tuple[int, int, int] = (1, 1, 1)

    def step_from(self, finer: Level) -> tuple[int, int, int]:
        """Voxels of a finer level in one of this level, along z, y, x."""
        z, y, x = (a // b for a, b in zip(self.factors, finer.factors, strict=True))
        return z, y, x

    def in_finest(self, box: Box, finest: Level) -> Box:
        """Where a box of this level lies in the finest one."""
        z0, y0, x0 = (n * factor for n, factor in zip(box.start, self.factors, strict=True))
        z1, y1, x1 = (n * factor for n, factor in zip(box.stop, self.factors, strict=True))
        return Box((z0, y0, x0), (z1, y1, x1)).clip(finest.shape)


def levels_of(shape: tuple[int, int, int], grid: VoxelGrid) -> list[Level]:
    """The levels of a volume, the finest first.

    Axes are halved whose voxels are less than twice as long as the shortest, so that voxels become
    cubes. Independent sections are never joined.

    Args:
        shape: of the volume, (z, y, x).
        grid: of its voxels.
    """
    levels = [Level(shape)]
    while max(levels[-1].shape[1:]) > COARSEST:
        levels.append(_coarser(levels[-1], grid))
    return levels


def _coarser(level: Level, grid: VoxelGrid) -> Level:
    # Where sections are independent, only y and x are lengths. An axis of one voxel stays as it is.
    sizes = {
        axis: grid.spacing[axis] * level.factors[axis]
        for axis in range(3 - len(grid.axes), 3)
        if level.shape[axis] > 1
    }
    halved = [axis for axis, size in sizes.items() if size < 2 * min(sizes.values())]
    steps = [2 if axis in halved else 1 for axis in range(3)]
    z, y, x = (-(-n // step) for n, step in zip(level.shape, steps, strict=True))
    c, b, a = (n * step for n, step in zip(level.factors, steps, strict=True))
    return Level((z, y, x), (c, b, a))


class LevelArray(Protocol):
    """A stored level of one channel, (z, y, x).

    Attributes:
        shape: of the level.
        chunks: that are written at once, so that none is read back to be completed.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """See above."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """See above."""

    def read(self, box: Box) -> NDArray[Any]:
        """What was written to a box."""

    def write(self, box: Box, values: NDArray[Any]) -> None:
        """Write a box of whole chunks."""


@dataclass(frozen=True)
class StoredChannel:
    """A channel of an array of zarr or HDF5, or the array if it has no channels.

    Attributes:
        array: (z, y, x) or (c, z, y, x).
        channel: its number.
    """

    array: Any
    channel: int

    def _index(self, box: Box) -> tuple[Any, ...]:
        return (self.channel, *box.slices) if self.array.ndim > 3 else box.slices

    @property
    def shape(self) -> tuple[int, ...]:
        """See `LevelArray`."""
        shape: tuple[int, ...] = self.array.shape[-3:]
        return shape

    @property
    def chunks(self) -> tuple[int, ...]:
        """See `LevelArray`: shards, if there are any."""
        chunks: tuple[int, ...] = (getattr(self.array, "shards", None) or self.array.chunks)[-3:]
        return chunks

    def read(self, box: Box) -> NDArray[Any]:
        """See `LevelArray`."""
        return np.asarray(self.array[self._index(box)])

    def write(self, box: Box, values: NDArray[Any]) -> None:
        """See `LevelArray`."""
        self.array[self._index(box)] = values


def write_levels(
    image: NewImage, levels: Sequence[Level], arrays: Sequence[Sequence[LevelArray]]
) -> Generator[TileDone, None, TileDone]:
    """Write an image and its coarser levels.

    A voxel of a coarser level is the mean of those that it stands for; of labels, the first.

    Args:
        image: to write.
        levels: the finest first.
        arrays: by level and channel.

    Yields:
        An event per block and level but the last.

    Returns:
        The last event. It says "complete", so it waits until the image has its name.
    """
    boxes = [
        blocks(Box.whole(level.shape), block_shape(cast(Any, stored[0]), _voxels(number)))
        for number, (level, stored) in enumerate(zip(levels, arrays, strict=True))
    ]
    total = sum(map(len, boxes))
    done = 0
    for number, level in enumerate(levels):
        finer = image.channels if number == 0 else arrays[number - 1]
        step = level.step_from(levels[number - 1]) if number else None
        work = _WriteBlock(finer, arrays[number], image.dtype, step, _voxels(number), image.labels)
        items = [(box,) for box in boxes[number]]
        with contextlib.closing(image.runner.map(work, items)) as results:
            for box, _ in zip(boxes[number], results, strict=True):
                done += 1
                event = TileDone(
                    volume=image.volume,
                    box=level.in_finest(box, levels[0]).bounds,
                    done=done,
                    total=total,
                )
                if done < total:
                    yield event
    return event


@dataclass(frozen=True)
class _WriteBlock:
    """Writes a box of whole chunks of a level.

    Attributes:
        sources: by channel; of the image, or the next finer level.
        arrays: of the level, by channel.
        dtype: of the file.
        step: voxels of the source in one of the level, along z, y, x; None if it is the image.
        voxels: that are read at once, at most.
        labels: whether values are numbers, of which there is no mean.
    """

    sources: Sequence[Any]
    arrays: Sequence[LevelArray]
    dtype: np.dtype[Any]
    step: tuple[int, int, int] | None
    voxels: int
    labels: bool

    def __call__(self, box: Box) -> None:
        for source, array in zip(self.sources, self.arrays, strict=True):
            values = np.empty(box.shape, self.dtype)
            z, y, x = box.start
            # A box of chunks that are packed together may hold many blocks.
            for part in blocks(box, _part_shape(box, self.voxels)):
                if self.step is None:
                    read = np.asarray(source[part.slices])
                else:
                    read = _reduced(source, part, self.step, self.dtype, labels=self.labels)
                values[part.moved((-z, -y, -x)).slices] = read
            array.write(box, values)


def _voxels(number: int) -> int:
    """Voxels of a block of a level: of a coarser one, up to eight times as many are read for it."""
    return BLOCK_VOXELS if number == 0 else BLOCK_VOXELS // 8


def _part_shape(box: Box, voxels: int) -> tuple[int, int, int]:
    """Sides of equal parts of a box, of so many voxels at most."""
    sides = list(box.shape)
    for axis in range(3):
        while math.prod(sides) > voxels and sides[axis] > 1:
            sides[axis] = -(-sides[axis] // 2)
    z, y, x = sides
    return z, y, x


def _reduced(
    fine: LevelArray, box: Box, step: tuple[int, int, int], dtype: np.dtype[Any], *, labels: bool
) -> NDArray[Any]:
    """A box of a level from the finer one."""
    z0, y0, x0 = (n * by for n, by in zip(box.start, step, strict=True))
    z1, y1, x1 = (n * by for n, by in zip(box.stop, step, strict=True))
    values = fine.read(Box((z0, y0, x0), (z1, y1, x1)).clip(fine.shape))
    c, b, a = step
    if labels:
        return values[::c, ::b, ::a]
    # At the far ends, the last voxels stand for those that are missing.
    missing = [
        (0, side * by - n) for side, by, n in zip(box.shape, step, values.shape, strict=True)
    ]
    z, y, x = box.shape
    cells = np.pad(values, missing, mode="edge").reshape(z, c, y, b, x, a)
    mean = cells.mean(axis=(1, 3, 5), dtype=np.float64)
    return np.rint(mean) if dtype.kind in "iu" else mean

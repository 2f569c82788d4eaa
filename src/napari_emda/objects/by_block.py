"""Passes over the blocks of a volume, and numbers that are given block by block."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import WritableArray
from napari_emda.data.block_runner import BlockRunner, Item
from napari_emda.data.box import Box
from napari_emda.events import TileDone

T = TypeVar("T")


def each_block(
    runner: BlockRunner,
    work: Callable[..., T],
    items: Sequence[Item],
    take: Callable[[T], None],
    volume: str,
    number: int = 0,
    count: int = 1,
) -> Generator[TileDone]:
    """A pass over blocks: what the work on each gives is taken in the order of the blocks.

    Args:
        runner: carries out the work.
        work: a function that other processes can be sent.
        items: a box, and what else the function takes.
        take: called with each result, in this process.
        volume: name for the events.
        number: of the pass, from 0.
        count: number of passes.

    Yields:
        An event per block.
    """
    total = count * len(items)
    # Closed here: by then, no other process may write into a folder that is about to be removed.
    with contextlib.closing(runner.map(work, items)) as results:
        for done, (item, result) in enumerate(zip(items, results, strict=True), 1):
            take(result)
            box: Box = item[0]
            yield TileDone(
                volume=volume, box=box.bounds, done=number * len(items) + done, total=total
            )


def nothing(_: None) -> None:
    """Takes the result of work that only writes."""


@dataclass
class Numbering:
    """The numbers of parts: in each block they are stored from 1, and count on from block to block.

    Blocks can then be numbered in any order, and by several processes.

    Attributes:
        parts: (Z, Y, X) uint32, numbers within their blocks; 0 is background.
        block: sides of a block, (z, y, x).
        first: parts in all blocks before each, by its place among the blocks along z, y and x.
        count: of parts so far.
    """

    parts: WritableArray
    block: tuple[int, int, int]
    first: NDArray[np.uint32]
    count: int = 0

    @classmethod
    def of(cls, parts: WritableArray, block: tuple[int, int, int]) -> Numbering:
        """Of blocks in which nothing was found yet."""
        grid = [-(-n // side) for n, side in zip(parts.shape, block, strict=True)]
        return cls(parts, block, np.zeros(grid, np.uint32))

    def add(self, box: Box, found: int) -> None:
        """The next block in order, and how many parts there are in it."""
        self.first[self._place(box)] = self.count
        self.count += found

    def read(self, box: Box) -> NDArray[np.uint32]:
        """The numbers of the parts in a box, each of them once in the volume."""
        local = np.asarray(self.parts[box.slices])
        blocks = [
            np.arange(start, stop) // side
            for start, stop, side in zip(box.start, box.stop, self.block, strict=True)
        ]
        return np.where(local > 0, local + self.first[np.ix_(*blocks)], np.uint32(0))

    def renumbered(
        self, boxes: Sequence[Box], found: Sequence[int], ids: NDArray[np.uint32]
    ) -> list[Item]:
        """For each block of a pass of `Renumber`: the ids of its parts.

        Args:
            boxes: all blocks, in order.
            found: how many parts there are in each.
            ids: by the number of the part.
        """
        starts = [int(self.first[self._place(box)]) for box in boxes]
        return [
            (box, ids[start : start + count + 1])
            for box, start, count in zip(boxes, starts, found, strict=True)
        ]

    def _place(self, box: Box) -> tuple[Any, ...]:
        return tuple(start // side for start, side in zip(box.start, self.block, strict=True))


@dataclass(frozen=True)
class Renumber:
    """Writes the ids of objects in place of the numbers of their parts.

    Attributes:
        parts: see `Numbering`.
        out: of the same shape; the same array only if no call is ever repeated.
    """

    parts: WritableArray
    out: WritableArray

    def __call__(self, box: Box, ids: NDArray[np.uint32]) -> None:
        """Renumber a block, whose part k has the id ``ids[k]``."""
        # The entry before the first part belongs to the block before.
        table = np.concatenate([np.zeros(1, np.uint32), ids[1:]])
        self.out[box.slices] = table[np.asarray(self.parts[box.slices])]


def lower_face(box: Box, axis: int) -> Box:
    """The layers on both sides of the lower face across ``axis``, one voxel wider elsewhere."""
    start = [a - 1 for a in box.start]
    stop = [b + 1 for b in box.stop]
    stop[axis] = box.start[axis] + 1
    z0, y0, x0 = start
    z1, y1, x1 = stop
    return Box((z0, y0, x0), (z1, y1, x1))

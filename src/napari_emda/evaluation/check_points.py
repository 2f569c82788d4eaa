"""Check points: voxels drawn at random where the model is unsure, with known probabilities.

A voxel with the stored probability p is drawn in proportion to sqrt(p (1 - p)) + 0.05. For a yes
or no, the first term is the allocation of least variance (Neyman 1934, here with the model's own
standard deviation). The second is the defensive mixture of Hesterberg (1995): places where the
model is wrongly sure are drawn, too, and no voxel weighs more than 1 / 0.05. docs/check-points.md
has the proofs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.data.probabilities import CERTAIN, LEVELS, against_background
from napari_emda.events import TileDone

# Part of the draw that ignores the model. In most volumes it gives half of the points or more, so
# that no point counts for more than about twice as many voxels as the average one. Draws in a
# project do not say it: another formula needs another format number (`project.check_points.Draw`).
FLOOR = 0.05
_FRACTIONS = np.arange(LEVELS) / CERTAIN
DRAWN: NDArray[np.float64] = np.sqrt(_FRACTIONS * (1 - _FRACTIONS)) + FLOOR
"""What a voxel of each stored probability is drawn in proportion to."""

Counts = NDArray[np.int64]
"""Voxels by best foreground class and its stored share against the background, (C - 1, 256)."""


@dataclass(frozen=True)
class Point:
    """A voxel that was drawn.

    Attributes:
        voxel: (z, y, x).
        best: the most probable foreground class there, from 1.
        level: its share against the background, 0 to 255; see `against_background`.
    """

    voxel: tuple[int, int, int]
    best: int
    level: int


@dataclass
class Counted:
    """What a draw must know of a prediction: kilobytes, however large the volume is.

    Attributes:
        counts: see `Counts`; voxels that nobody is asked about are left out.
        weights: of each block: the sum of `DRAWN` over its voxels.
    """

    counts: Counts
    weights: list[float] = field(default_factory=list)


Askable = Callable[[Box], NDArray[np.bool_]]
"""Of a box, where a user can be asked at all, (z, y, x): not in padding."""


def everywhere(box: Box) -> NDArray[np.bool_]:
    """A user can be asked anywhere."""
    return np.ones(box.shape, bool)


def draw(
    probabilities: Array, count: int, seed: int, askable: Askable = everywhere, name: str = ""
) -> Generator[TileDone, None, tuple[list[Point], Counts]]:
    """Draw points independently of each other, in two passes; memory holds one block.

    The first pass counts. It gives each block its weight, and the second reads the blocks again in
    which a point falls. The points come in random order: the first ten are such a draw themselves.

    Args:
        probabilities: stored, (C - 1, z, y, x) uint8, read lazily.
        count: number of points.
        seed: the same points are drawn again with the same seed and prediction.
        askable: where points may lie.
        name: of the volume, for the events.

    Yields:
        An event per block that was read.

    Returns:
        The points and the counts. No points if nothing can be asked about.
    """
    parts = blocks(Box.whole(probabilities.shape[1:]), block_shape(probabilities))
    counted = Counted(np.zeros((probabilities.shape[0], LEVELS), np.int64))
    for done, part in enumerate(parts, start=1):
        _count(counted, *_cells(probabilities, part, askable))
        yield TileDone(name, part.bounds, done, len(parts))
    weights = np.array(counted.weights)
    if not weights.any():
        return [], counted.counts
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(parts), size=count, p=weights / weights.sum())
    places = rng.random(count)
    points: dict[int, Point] = {}
    for index in np.unique(chosen).tolist():
        which = np.flatnonzero(chosen == index)
        drawn = _in_block(probabilities, parts[index], askable, places[which])
        points.update(zip(which.tolist(), drawn, strict=True))
    return [points[i] for i in range(count)], counted.counts


def _cells(
    probabilities: Array, part: Box, askable: Askable
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    stored = np.asarray(probabilities[(slice(None), *part.slices)])
    return (*against_background(stored), askable(part))


def _count(
    counted: Counted, ids: NDArray[np.uint8], levels: NDArray[np.uint8], valid: NDArray[np.bool_]
) -> None:
    cells = (ids[valid].astype(np.int32) - 1) * LEVELS + levels[valid]
    counts = np.bincount(cells, minlength=counted.counts.size).reshape(counted.counts.shape)
    counted.counts += counts
    counted.weights.append(float(counts.sum(axis=0) @ DRAWN))


def _in_block(
    probabilities: Array, part: Box, askable: Askable, places: NDArray[np.float64]
) -> Iterator[Point]:
    """The points at these places, 0 to 1, along the running sum of the weights of a block."""
    ids, levels, valid = _cells(probabilities, part, askable)
    running = np.cumsum(np.where(valid, DRAWN[levels], 0.0).ravel())
    # "right": the place 0 belongs to the first voxel with any weight.
    flat = np.searchsorted(running, places * running[-1], side="right")
    # Rounding must not lead beyond the last voxel that can be drawn.
    flat = np.minimum(flat, np.flatnonzero(valid.ravel())[-1])
    for position in flat.tolist():
        z, y, x = (int(i) for i in np.unravel_index(position, levels.shape))
        start = part.start
        yield Point(
            (start[0] + z, start[1] + y, start[2] + x),
            int(ids[z, y, x]),
            int(levels[z, y, x]),
        )

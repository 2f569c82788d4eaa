"""Patches drawn by lot, to measure a model without favour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError


def _free_tiles(
    shape: tuple[int, int, int], patch: int, annotated: Sequence[Box]
) -> NDArray[np.int64]:
    """Section, row and column (n x 3) of the tiles that hold no annotation; the tiles cover a volume once."""
    rows, columns = (-(-n // patch) for n in shape[1:])
    free = np.ones((shape[0], rows, columns), bool)
    for box in annotated:
        (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
        free[z0:z1, y0 // patch : -(-y1 // patch), x0 // patch : -(-x1 // patch)] = False
    return np.argwhere(free)


def painted(volume: Volume, patch: int) -> list[Box]:
    """The tiles of a volume in which anything is annotated, however it came there."""
    tiles: set[tuple[int, ...]] = set()
    for chunk in volume.annotated:
        assert volume.annotations is not None
        voxels = np.argwhere(np.asarray(volume.annotations[chunk.slices])) + chunk.start
        tiles.update(map(tuple, np.unique(voxels // (1, patch, patch), axis=0).tolist()))
    return [
        Box((z, y * patch, x * patch), (z + 1, (y + 1) * patch, (x + 1) * patch))
        for z, y, x in sorted(tiles)
    ]


def draw(
    shapes: Mapping[str, tuple[int, int, int]],
    annotated: Mapping[str, Sequence[Box]],
    *,
    patch: int,
    count: int,
    seed: int,
) -> list[tuple[str, Box]]:
    """Patches of all volumes by lot, without replacement, from those that hold no annotation.

    They are drawn from tiles that cover each volume once, so every voxel outside of tiles with annotations has the same
    chance to be looked at. What is measured on them therefore estimates the score on the rest of the volumes without
    favouring easy or hard places.

    Args:
        shapes: voxels of each volume along z, y, x.
        annotated: boxes that were annotated, per volume.
        patch: side of a tile in voxels; tiles at the far edges of a volume may be smaller.
        count: how many to draw; fewer come when fewer are left.
        seed: of the lot.

    Returns:
        Volume and box of each, in the order of volumes and sections.

    Raises:
        DataError: nothing is left to draw.
    """
    pools = {
        name: _free_tiles(shape, patch, annotated.get(name, ())) for name, shape in shapes.items()
    }
    total = sum(map(len, pools.values()))
    if not total:
        raise DataError(
            "Every patch holds annotations already: choose a smaller patch for the audit."
        )
    lot = np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False))
    drawn, first = [], 0
    for name, pool in pools.items():
        for z, row, column in pool[
            lot[(lot >= first) & (lot < first + len(pool))] - first
        ].tolist():
            y, x = row * patch, column * patch
            drawn.append((name, Box((z, y, x), (z + 1, y + patch, x + patch)).clip(shapes[name])))
        first += len(pool)
    return drawn

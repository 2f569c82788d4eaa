"""Randomly drawn patches for an audit: an unbiased estimate of a model's quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError


def _free_tiles(
    shape: tuple[int, int, int], patch: int, annotated: Sequence[Box]
) -> NDArray[np.int64]:
    """Section, row and column (n x 3) of the tiles that hold no annotation."""
    rows, columns = (-(-n // patch) for n in shape[1:])
    free = np.ones((shape[0], rows, columns), bool)
    for box in annotated:
        z0, z1, y0, y1, x0, x1 = box.bounds
        # A tile that a box only touches is taken as well: an audit patch is free of annotations.
        free[z0:z1, y0 // patch : -(-y1 // patch), x0 // patch : -(-x1 // patch)] = False
    return np.argwhere(free)


def painted(volume: Volume, patch: int) -> list[Box]:
    """The tiles of a volume in which any voxel is annotated, whatever wrote the annotation."""
    tiles: set[tuple[int, ...]] = set()
    for box in volume.annotated:
        assert volume.annotations is not None
        voxels = np.argwhere(np.asarray(volume.annotations[box.slices])) + box.start
        tiles.update(map(tuple, np.unique(voxels // (1, patch, patch), axis=0).tolist()))
    return [
        Box((z, row * patch, column * patch), (z + 1, (row + 1) * patch, (column + 1) * patch))
        for z, row, column in sorted(tiles)
    ]


def draw(
    shapes: Mapping[str, tuple[int, int, int]],
    annotated: Mapping[str, Sequence[Box]],
    *,
    patch: int,
    count: int,
    seed: int,
    padding: Callable[[str, Box], bool] = lambda name, box: False,
) -> list[tuple[str, Box]]:
    """Draw patches of all volumes at random, without replacement, from those without annotations.

    They are drawn from tiles that cover each volume once, so every voxel outside annotated tiles is
    equally likely to be drawn. A score on them therefore estimates the score on the rest of the
    volumes without bias towards easy or hard places.

    Args:
        shapes: voxels of each volume along z, y, x.
        annotated: annotated boxes of each volume.
        patch: side of a tile in voxels; tiles at the far edges of a volume may be smaller.
        count: how many to draw; all that are left if there are fewer.
        seed: of the draw.
        padding: tells whether a tile of a volume lies in padding; such tiles are drawn again. Only
            tiles that are drawn are asked about.

    Returns:
        Volume and box of each, in the order of volumes and sections.

    Raises:
        DataError: every tile holds annotations, or lies in padding.
    """
    names = list(shapes)
    tiles = [_free_tiles(shapes[name], patch, annotated.get(name, ())) for name in names]
    counts = [len(free) for free in tiles]
    total = sum(counts)
    if not total:
        raise DataError(
            "Every patch holds annotations already: choose a smaller patch for the audit."
        )
    # Arrays and not a list of boxes: a large volume has millions of tiles, of which few are drawn.
    volume_of = np.repeat(np.arange(len(names)), counts)
    places = np.concatenate(tiles)
    rng = np.random.default_rng(seed)
    left = np.arange(total)
    drawn: dict[int, tuple[str, Box]] = {}
    # To draw again until a tile is not padding makes every such tile equally likely.
    while len(drawn) < count and len(left):
        chosen = rng.choice(left, min(count - len(drawn), len(left)), replace=False)
        left = np.setdiff1d(left, chosen, assume_unique=True)
        for index in chosen.tolist():
            z, row, column = places[index].tolist()
            y = row * patch
            x = column * patch
            name = names[volume_of[index]]
            box = Box((z, y, x), (z + 1, y + patch, x + patch)).clip(shapes[name])
            if not padding(name, box):
                drawn[index] = (name, box)
    if not drawn:
        raise DataError(
            "Every patch without annotations lies in the padding of its volume: choose a smaller "
            "patch for the audit."
        )
    return [drawn[index] for index in sorted(drawn)]

"""A part of what is annotated: to see how many labels are needed, and to repeat published label fractions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume

TILE = 64
"""Side in voxels of the squares of a section that are kept or left out as a whole."""


@dataclass(frozen=True)
class TiledAnnotations:
    """Annotations of which some tiles are left: 0, not annotated, in all others.

    Attributes:
        array: (z, y, x) uint8, 0 = not annotated.
        kept: which tiles are left, one entry per section and `TILE` x `TILE` voxels.
    """

    array: Array
    kept: NDArray[np.bool_]
    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along z, y, x."""
        return self.array.shape

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        z, y, x = (np.arange(*part.indices(n)) for part, n in zip(key, self.shape, strict=True))
        return np.asarray(self.array[key]) * self.kept[np.ix_(z, y // TILE, x // TILE)]


def labelled_fraction(
    volume: Volume, fraction: float, box: Box | None = None, seed: int = 0
) -> Volume:
    """The volume with a share of its annotated tiles, at least one; a larger share holds all of a smaller one.

    Args:
        volume: with ``annotations``; one without is returned as it is.
        fraction: of the annotated tiles, above 0; 1 changes nothing.
        box: tiles are counted and kept within it, in voxels; everywhere by default.
        seed: decides which tiles.
    """
    if volume.annotations is None or fraction >= 1:
        return volume
    tiles = _annotated_tiles(volume, volume.annotations, box or Box.whole(volume.shape))
    order = np.random.default_rng(seed).permutation(len(tiles))
    chosen = tiles[order[: max(1, round(fraction * len(tiles)))]]
    kept = np.zeros((volume.shape[0], *(-(-n // TILE) for n in volume.shape[1:])), bool)
    kept[tuple(chosen.T)] = True
    return replace(volume, annotations=TiledAnnotations(volume.annotations, kept))


def _annotated_tiles(volume: Volume, annotations: Any, box: Box) -> NDArray[np.int64]:
    """Section, row and column of every tile that holds an annotation, sorted: n x 3."""
    found = [np.empty((0, 3), np.int64)]
    for piece in volume.label_boxes:
        piece = piece.clip_to(box)
        if piece.size:
            positions = np.argwhere(np.asarray(annotations[piece.slices]) > 0) + piece.start
            found.append(np.unique(positions // (1, TILE, TILE), axis=0))
    return np.unique(np.concatenate(found), axis=0)

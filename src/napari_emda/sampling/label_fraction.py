"""A fraction of the annotations: to find out how many labels are needed.

Papers report results for such label fractions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume

# Side in voxels of the squares of a section that are kept or left out as a whole. Neighbouring
# pixels say the same, so a fraction of single pixels would be worth nearly as much as all of them.
TILE = 64


@dataclass(frozen=True)
class TiledAnnotations:
    """Annotations of some tiles; all other tiles are 0, not annotated.

    Attributes:
        array: (z, y, x) uint8, 0 = not annotated.
        kept: True for the tiles that count, one entry per section and `TILE` x `TILE` voxels.
    """

    array: Array
    kept: NDArray[np.bool_]
    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along z, y, x."""
        return self.array.shape

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        z, y, x = (np.arange(*along.indices(n)) for along, n in zip(key, self.shape, strict=True))
        # Tiles are looked up voxel by voxel, so that blocks may begin and end anywhere.
        return np.asarray(self.array[key]) * self.kept[np.ix_(z, y // TILE, x // TILE)]


def labelled_fraction(
    volume: Volume, fraction: float, box: Box | None = None, seed: int = 0
) -> Volume:
    """The volume with a fraction of its annotated tiles, at least one.

    A larger fraction includes all tiles of a smaller one with the same seed.

    Args:
        volume: with ``annotations``; a volume without any is returned unchanged.
        fraction: of the annotated tiles, above 0; 1 changes nothing.
        box: tiles are counted and kept within it, in voxels; the whole volume by default.
        seed: decides which tiles are kept.
    """
    if volume.annotations is None or fraction >= 1:
        return volume
    tiles = _annotated_tiles(volume, volume.annotations, box or Box.whole(volume.shape))
    # A prefix of one permutation: thus a larger fraction includes a smaller one.
    order = np.random.default_rng(seed).permutation(len(tiles))
    chosen = tiles[order[: max(1, round(fraction * len(tiles)))]]
    # -(-n // TILE) rounds up: the last tile of a row may be cut off by the edge of the volume.
    kept = np.zeros((volume.shape[0], *(-(-n // TILE) for n in volume.shape[1:])), bool)
    kept[tuple(chosen.T)] = True
    return replace(volume, annotations=TiledAnnotations(volume.annotations, kept))


def _annotated_tiles(volume: Volume, annotations: Any, box: Box) -> NDArray[np.int64]:
    """Section, row and column of every tile with an annotation, sorted: n x 3."""
    tiles = [np.empty((0, 3), np.int64)]  # for np.concatenate, if nothing is annotated
    for label_box in volume.label_boxes:
        block = label_box.clip_to(box)
        if block.size:
            positions = np.argwhere(np.asarray(annotations[block.slices]) > 0) + block.start
            tiles.append(np.unique(positions // (1, TILE, TILE), axis=0))
    return np.unique(np.concatenate(tiles), axis=0)

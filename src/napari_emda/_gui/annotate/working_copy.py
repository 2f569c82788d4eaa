"""Annotations under the brush: held in memory, and written to disk with every change."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_emda.data.box import Box

_MOST = 64
"""Chunks that are held; more than a brush can touch."""


class WorkingCopy:
    """A zarr array (z, y, x) that is painted in.

    A dab of the brush reads a place twice and writes it, and a stroke is hundreds of dabs. What was
    written to is read from memory from then on, and whole chunks are written, which takes a third
    of the time of parts. `forget` before anybody else writes to the array.

    Args:
        stored: what is on disk.
    """

    def __init__(self, stored: zarr.Array[Any]) -> None:
        self.shape = stored.shape
        self.dtype = stored.dtype
        self._stored = stored
        self._held: dict[tuple[int, ...], NDArray[Any]] = {}

    def forget(self) -> None:
        """Read from disk again."""
        self._held.clear()

    def __getitem__(self, key: Any) -> NDArray[Any]:
        box = _box(key, self.shape)
        indices = [] if box is None or not self._held else self._chunks(box)
        if box is None or not indices or any(index not in self._held for index in indices):
            return np.asarray(self._stored[key])
        out = np.empty(box.shape, self.dtype)
        for index in indices:
            part = self._part(index)
            common = part.clip_to(box)
            out[_within(common, box)] = self._held[index][_within(common, part)]
        return out

    def __setitem__(self, key: Any, values: Any) -> None:
        box = _box(key, self.shape)
        indices = [] if box is None else self._chunks(box)
        if box is None or len(indices) > _MOST:
            self.forget()
            self._stored[key] = values
            return
        if len(self._held) > _MOST:
            self.forget()
        values = np.broadcast_to(np.asarray(values, self.dtype), box.shape)
        for index in indices:
            part = self._part(index)
            common = part.clip_to(box)
            if index not in self._held:
                self._held[index] = np.array(self._stored[part.slices])
            self._held[index][_within(common, part)] = values[_within(common, box)]
            self._stored[part.slices] = self._held[index]

    def _chunks(self, box: Box) -> list[tuple[int, ...]]:
        """Indices of the chunks that a box touches."""
        sides = self._stored.chunks
        return list(
            product(
                *(
                    range(a // n, -(-b // n))
                    for a, b, n in zip(box.start, box.stop, sides, strict=True)
                )
            )
        )

    def _part(self, index: tuple[int, ...]) -> Box:
        """The voxels of a chunk."""
        (z, y, x), (dz, dy, dx) = index, self._stored.chunks
        return Box((z * dz, y * dy, x * dx), ((z + 1) * dz, (y + 1) * dy, (x + 1) * dx)).clip(
            self.shape
        )


def _box(key: Any, shape: tuple[int, ...]) -> Box | None:
    """What three plain slices select; None for any other index."""
    if (
        not isinstance(key, tuple)
        or len(key) != 3
        or not all(isinstance(part, slice) for part in key)
    ):
        return None
    (z0, z1, dz), (y0, y1, dy), (x0, x1, dx) = (
        part.indices(n) for part, n in zip(key, shape, strict=True)
    )
    return Box((z0, y0, x0), (z1, y1, x1)) if dz == dy == dx == 1 else None


def _within(part: Box, whole: Box) -> tuple[slice, ...]:
    """The slices of a box that lies inside another, counted from the corner of that."""
    return tuple(
        slice(a - o, b - o) for a, b, o in zip(part.start, part.stop, whole.start, strict=True)
    )

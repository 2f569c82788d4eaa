"""Annotations under the brush: kept in memory, and written to disk at the end of every stroke."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_emda.data.box import Box

# Chunks that are kept in memory: more than the largest brush touches.
_MOST_CHUNKS = 64


class WorkingCopy:
    """A zarr array (z, y, x) that is painted in.

    A dab of the brush reads a place twice and writes it once, and a stroke has hundreds of dabs.
    Chunks that were written to are read from memory from then on. They are written whole, which
    takes a third of the time of writing parts. Call `forget` when others write to the array.

    Every write waits for the disk, which takes about as long as a dab may take. So the dabs of one
    stroke are written together.

    Args:
        stored: the array on disk.
    """

    def __init__(self, stored: zarr.Array[Any]) -> None:
        self.shape = stored.shape
        self.dtype = stored.dtype
        self._stored = stored
        self._held: dict[tuple[int, ...], NDArray[Any]] = {}
        # Chunks that differ from those on disk.
        self._changed: set[tuple[int, ...]] = set()
        self._in_stroke = False

    @property
    def in_stroke(self) -> bool:
        """Whether a stroke is under way; it is written to disk when it ends."""
        return self._in_stroke

    @in_stroke.setter
    def in_stroke(self, value: bool) -> None:
        self._in_stroke = value
        if not value:
            self.write()

    def write(self) -> None:
        """Write what has changed to disk."""
        for index in sorted(self._changed):
            self._stored[self._part(index).slices] = self._held[index]
            # One by one: what a full disk has not taken is written the next time.
            self._changed.discard(index)

    def forget(self) -> None:
        """Write what has changed, and read from disk again."""
        self.write()
        self._held.clear()

    def __getitem__(self, key: Any) -> NDArray[Any]:
        box = _box(key, self.shape)
        indices = [] if box is None or not self._held else self._chunks(box)
        # A box that is not completely in memory is read from disk, when that agrees with memory.
        if box is None or not indices or any(index not in self._held for index in indices):
            self.write()
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
        # A fill or an import: too large to keep.
        if box is None or len(indices) > _MOST_CHUNKS:
            self.forget()
            self._stored[key] = values
            return
        # All at once rather than the oldest: a brush that has moved on does not come back soon.
        if len(self._held) > _MOST_CHUNKS:
            self.forget()
        values = np.broadcast_to(np.asarray(values, self.dtype), box.shape)
        for index in indices:
            part = self._part(index)
            common = part.clip_to(box)
            # A chunk is read once, when it is first painted in.
            if index not in self._held:
                self._held[index] = np.array(self._stored[part.slices])
            self._held[index][_within(common, part)] = values[_within(common, box)]
            self._changed.add(index)
        if not self._in_stroke:
            self.write()

    def _chunks(self, box: Box) -> list[tuple[int, ...]]:
        """Indices of the chunks that a box touches."""
        ranges = (
            range(start // side, -(-stop // side))
            for start, stop, side in zip(box.start, box.stop, self._stored.chunks, strict=True)
        )
        return list(product(*ranges))

    def _part(self, index: tuple[int, ...]) -> Box:
        """The voxels of a chunk."""
        z, y, x = index
        dz, dy, dx = self._stored.chunks
        chunk = Box((z * dz, y * dy, x * dx), ((z + 1) * dz, (y + 1) * dy, (x + 1) * dx))
        # The last chunk along an axis may reach beyond the array.
        return chunk.clip(self.shape)


def _box(key: Any, shape: tuple[int, ...]) -> Box | None:
    """The box that three plain slices select; None for any other index."""
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
    """The slices of a box inside another one, counted from the corner of the other."""
    return tuple(
        slice(a - o, b - o) for a, b, o in zip(part.start, part.stop, whole.start, strict=True)
    )

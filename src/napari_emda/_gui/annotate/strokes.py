"""Strokes of the brush that can be taken back and repeated, exactly as they changed the disk."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box

# Strokes that can be taken back in a patch: as many as napari keeps for a layer.
_MOST = 100

Index = tuple[Any, ...]
"""Slices without a step or with a positive one, or index arrays of one shape; three of them."""
Allowed = Callable[[Box], NDArray[np.bool_]]
"""Returns which voxels of a box may be changed."""


@dataclass(frozen=True)
class _Stroke:
    """The voxels of a box before and after a stroke.

    Deflated, because paint holds few values in large areas: a patch of 128 x 128 voxels takes a few
    hundred bytes, so that the strokes of a whole session can be kept.
    """

    box: Box
    before: bytes
    after: bytes

    @classmethod
    def of(cls, box: Box, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> _Stroke:
        return cls(box, zlib.compress(before.tobytes(), 1), zlib.compress(after.tobytes(), 1))


class Strokes:
    """The strokes in a patch. They hold what is stored, not the proposal that napari shows.

    napari's own history holds what was shown: taking back a stroke over a proposal would leave the
    proposal as paint.
    """

    def __init__(self) -> None:
        self._begun: list[tuple[Box, Index, NDArray[np.uint8]]] = []
        self._done: deque[_Stroke] = deque(maxlen=_MOST)
        self._undone: list[_Stroke] = []

    @property
    def begun(self) -> bool:
        """Whether anything was changed since the last stroke ended."""
        return bool(self._begun)

    @property
    def latest(self) -> object | None:
        """The stroke that `undo` would take back, to be compared by identity; None for none."""
        return self._done[-1] if self._done else None

    def record(self, index: Index, before: NDArray[np.uint8]) -> None:
        """Note what is about to be overwritten: a dab of the stroke under way.

        Args:
            index: of the voxels.
            before: the stored values there.
        """
        self._begun.append((_box_of(index), index, before))

    def end(self, stored: Any) -> Box | None:
        """End the stroke under way; returns the box that it changed, None if there was none."""
        if not self._begun:
            return None
        box = _around([box for box, _, _ in self._begun])
        after = np.array(stored[box.slices])
        before = self._before(box, after)
        self._begun.clear()
        changed = np.argwhere(before != after)
        if not len(changed):
            return None
        # Tools write whole rectangles: only what differs belongs to the stroke.
        low, high = changed.min(0), changed.max(0) + 1
        differing = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        box = Box(tuple((low + box.start).tolist()), tuple((high + box.start).tolist()))
        self._done.append(_Stroke.of(box, before[differing], after[differing]))
        self._undone.clear()
        return box

    def abort(self, stored: Any) -> None:
        """Take back the stroke under way, which cannot be repeated."""
        if self._begun:
            box = _around([box for box, _, _ in self._begun])
            stored[box.slices] = self._before(box, np.array(stored[box.slices]))
            self._begun.clear()

    def _before(self, box: Box, after: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The values of a box before the stroke under way."""
        before = after.copy()
        # Backwards, so that a voxel under several dabs ends with its first value.
        for _, index, values in reversed(self._begun):
            before[_shifted(index, box.start)] = values
        return before

    def undo(self, stored: Any, allowed: Allowed) -> bool:
        """Take back the last stroke, where that is allowed; returns whether there was one."""
        if not self._done:
            return False
        stroke = self._done.pop()
        if not self._replace(stored, allowed, stroke.box, stroke.after, stroke.before):
            return False
        self._undone.append(stroke)
        return True

    def redo(self, stored: Any, allowed: Allowed) -> bool:
        """Repeat the stroke that was taken back last; returns whether there was one."""
        if not self._undone:
            return False
        stroke = self._undone.pop()
        if not self._replace(stored, allowed, stroke.box, stroke.before, stroke.after):
            return False
        self._done.append(stroke)
        return True

    def _replace(self, stored: Any, allowed: Allowed, box: Box, old: bytes, new: bytes) -> bool:
        """Replace old values by new ones; returns whether the old ones were still there."""
        expected = _unpack(old, box)
        values = _unpack(new, box)
        found = np.array(stored[box.slices])
        changed = (expected != values) & allowed(box)
        # Somebody else has written here since, such as a decision in another window: neither this
        # stroke nor those before it can be taken back exactly.
        if not np.array_equal(found[changed], expected[changed]):
            self._done.clear()
            self._undone.clear()
            return False
        stored[box.slices] = np.where(changed, values, found)
        return True


def _unpack(packed: bytes, box: Box) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(box.shape)


def _box_of(index: Index) -> Box:
    """The smallest box around some voxels."""
    bounds: list[int] = []
    for part in index:
        if isinstance(part, slice):
            bounds += [part.start, part.stop]
        else:
            bounds += [int(part.min()), int(part.max()) + 1]
    return Box.from_bounds(bounds)


def _around(boxes: list[Box]) -> Box:
    """The smallest box around some boxes."""
    start = np.min([box.start for box in boxes], axis=0).tolist()
    stop = np.max([box.stop for box in boxes], axis=0).tolist()
    return Box(tuple(start), tuple(stop))


def _shifted(index: Index, origin: tuple[int, int, int]) -> tuple[Any, ...]:
    """The index as counted from another corner."""
    return tuple(
        slice(part.start - first, part.stop - first, part.step)
        if isinstance(part, slice)
        else part - first
        for part, first in zip(index, origin, strict=True)
    )

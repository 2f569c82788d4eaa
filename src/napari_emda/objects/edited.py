"""Objects as they are after edits, computed where they are sliced; nothing is copied.

Deleting and merging change a table of ids. A part that is split off is a mask over a box, with an
id of its own. All of it can be undone, because the objects that were found stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import block_shape, blocks, chunk_shape
from napari_emda.data.box import Box
from napari_emda.data.lazy import Lazy3D, PartOf
from napari_emda.errors import DataError
from napari_emda.objects.edits import SAMPLE, ObjectReference, Part

# Voxels of an object that are read at once: 16 MiB of ids.
_BLOCK_VOXELS = 2**22
# Bytes of the masks of all parts that were split off: thousands of large ones. A journal of a few
# MB from elsewhere could unfold to any number.
_MOST_BYTES = 2**29


@dataclass(frozen=True)
class Extents:
    """How many voxels objects have, and where they lie; the row of object k is k.

    Attributes:
        voxels: int64 (n + 1,); 0 for the background and for ids that no object has.
        low: first voxels of their boxes, int64 (n + 1, 3).
        high: ends of their boxes, int64 (n + 1, 3).
    """

    voxels: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        ids: NDArray[np.int64],
        voxels: NDArray[np.int64],
        low: NDArray[np.int64],
        high: NDArray[np.int64],
    ) -> Extents:
        """Those of objects in any order."""
        count = int(ids.max(initial=0)) + 1
        rows = cls(*(np.zeros(shape, np.int64) for shape in (count, (count, 3), (count, 3))))
        rows.voxels[ids] = voxels
        rows.low[ids] = low
        rows.high[ids] = high
        return rows


@dataclass(frozen=True)
class _Part:
    """A part that was split off: its id, its box, and eight voxels of its mask in a byte."""

    number: int
    box: Box
    packed: NDArray[np.uint8]

    @classmethod
    def of(cls, number: int, box: Box, mask: NDArray[np.bool_]) -> _Part:
        return cls(number, box, np.packbits(mask, axis=-1))

    def mask(self, place: tuple[slice, ...]) -> NDArray[np.bool_]:
        """A piece of its mask."""
        z, y, x = place
        rows = np.unpackbits(self.packed[z, y], axis=-1, count=self.box.shape[2])
        return rows[..., x].astype(bool)


_State = tuple[NDArray[np.uint32], tuple[_Part, ...]]


class SingleObject(PartOf):
    """One object of many in its box: 1 where it is, 0 elsewhere; uint32.

    Args:
        objects: with the object.
        object_id: of the object.
    """

    def __init__(self, objects: EditedObjects, object_id: int) -> None:
        self.box = objects.box(object_id)
        super().__init__(objects, self.box)
        self.chunks = objects.chunks
        self._id = object_id

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint32]:
        return (super()._read(z, y, x) == self._id).astype(np.uint32)


class EditedObjects(Lazy3D):
    """Ids of objects after edits, uint32 (z, y, x), 0 being background.

    Args:
        found: ids of the objects as they were found; read lazily.
        extents: of these objects.

    Attributes:
        good: ids of the objects that were confirmed.
        decided: ids of the objects on which there is any decision.
        changed: ids of the objects that have other voxels than they were found with.
        deleted: how many objects were deleted.
        chunks: in which the objects are stored.
    """

    def __init__(self, found: Array, extents: Extents) -> None:
        z, y, x = found.shape
        super().__init__((z, y, x), np.uint32)
        self.found = found
        self.chunks = chunk_shape(found)
        self._of_found = extents
        self._count = len(extents.voxels)
        self.reset()

    def reset(self) -> None:
        """Forget all edits."""
        extents = self._of_found
        ids = np.where(extents.voxels > 0, np.arange(self._count), 0).astype(np.uint32)
        # The present id of each object that was found or split off; and what was split off. Always
        # replaced together, because the viewer may be reading in another thread.
        self._state: _State = (ids, ())
        self._voxels = extents.voxels.copy()
        self._low = extents.low.copy()
        self._high = extents.high.copy()
        self.good: set[int] = set()
        self.decided: set[int] = set()
        self.changed: set[int] = set()
        self.deleted = 0

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint32]:
        ids = np.array(self.found[z, y, x], np.uint32)
        # Of a damaged file: numbers that no object has.
        ids[ids >= self._count] = 0
        present, parts = self._state
        for part in parts:
            cut = _overlap((z, y, x), part.box)
            if cut is not None:
                here, in_part = cut
                ids[here][part.mask(in_part)] = part.number
        return present[ids]

    # -- what there is -----------------------------------------------------------------------

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the objects, in ascending order."""
        return np.flatnonzero(self._voxels)

    @property
    def extents(self) -> Extents:
        """Voxels and boxes of the objects as they are now, see `box`."""
        return Extents(self._voxels.copy(), self._low.copy(), self._high.copy())

    def exists(self, object_id: int) -> bool:
        """Whether there is an object of this id."""
        return 0 < object_id < len(self._voxels) and self._voxels[object_id] > 0

    def check(self, object_id: int) -> None:
        """DataError if there is no object of this id."""
        if not self.exists(object_id):
            count = np.count_nonzero(self._voxels)
            highest = self.ids.max(initial=0)
            text = f"{count} objects, with ids up to {highest}" if count else "no objects"
            raise DataError(
                f"There is no object {object_id}: there are {text}; choose one of them."
            )

    def voxels(self, object_id: int) -> int:
        """How many voxels an object has."""
        return int(self._voxels[object_id])

    def box(self, object_id: int) -> Box:
        """A box that holds an object; after a split it may be larger than need be."""
        z0, y0, x0 = self._low[object_id].tolist()
        z1, y1, x1 = self._high[object_id].tolist()
        return Box((z0, y0, x0), (z1, y1, x1))

    def at(self, voxels: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The ids at some voxels, n x 3 (z, y, x), all of them inside the volume."""
        found = np.zeros(len(voxels), np.uint32)
        # Chunk by chunk, because each is decoded as a whole.
        _, group = np.unique(voxels // self.chunks, axis=0, return_inverse=True)
        group = group.ravel()
        for number in range(int(group.max(initial=-1)) + 1):
            members = np.flatnonzero(group == number)
            low = voxels[members].min(axis=0)
            high = voxels[members].max(axis=0) + 1
            part = self[tuple(map(slice, low.tolist(), high.tolist()))]
            found[members] = part[tuple((voxels[members] - low).T)]
        return found

    def masks(self, object_id: int) -> Iterator[tuple[Box, NDArray[np.bool_]]]:
        """The mask of an object, block by block: where each lies, and the mask there."""
        for box in blocks(self.box(object_id), block_shape(self, _BLOCK_VOXELS)):
            yield box, self[box.slices] == object_id

    def reference(self, object_id: int) -> ObjectReference:
        """What is kept of an object with a decision on it.

        Raises:
            DataError: there is no such object.
        """
        self.check(object_id)
        count = self.voxels(object_id)
        wanted = np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.int64))
        box = self.box(object_id)
        before = 0
        sample = []
        for part, mask in self.masks(object_id):
            inside = np.flatnonzero(mask)
            ranks = wanted[(wanted >= before) & (wanted < before + len(inside))] - before
            before += len(inside)
            voxels = np.stack(np.unravel_index(inside[ranks], part.shape))
            voxels += np.subtract(part.start, box.start)[:, None]
            sample.append(np.ravel_multi_index(tuple(voxels), box.shape))
        return ObjectReference(
            id=object_id,
            voxels=count,
            low=box.start,
            high=box.stop,
            sample=tuple(sorted(np.concatenate(sample).tolist())),
        )

    # -- editing -----------------------------------------------------------------------------

    def delete(self, object_id: int) -> None:
        """Make an object background."""
        self.check(object_id)
        self._rename(object_id, 0)
        self._voxels[object_id] = 0
        self.deleted += 1
        self.good.discard(object_id)
        self.decided.discard(object_id)
        self.changed.discard(object_id)

    def merge(self, ids: Sequence[int]) -> None:
        """Make several objects one, which keeps the id of the first.

        Raises:
            DataError: there is no such object, or it is one already.
        """
        for object_id in ids:
            self.check(object_id)
        first, *others = ids
        if first in others:
            raise DataError(f"Object {first} cannot be merged with itself: choose another one.")
        for other in others:
            self._rename(other, first)
            self._voxels[first] += self._voxels[other]
            self._voxels[other] = 0
            self._low[first] = np.minimum(self._low[first], self._low[other])
            self._high[first] = np.maximum(self._high[first], self._high[other])
        self.good -= {first, *others}
        for numbers in (self.decided, self.changed):
            numbers.difference_update(others)
            numbers.add(first)

    def split(self, object_id: int, part: Part) -> int:
        """Give a part of an object an id of its own, and return that.

        Raises:
            DataError: there is no such object, or the part is not in it.
        """
        self.check(object_id)
        mask = part.mask
        box = part.box.clip(self.shape)
        mask = mask[tuple(map(slice, box.shape))]
        # What no longer belongs to the object stays what it is.
        mask = mask & (self[box.slices] == object_id)
        size = int(np.count_nonzero(mask))
        if not 0 < size < self.voxels(object_id):
            raise DataError(f"This is no part of object {object_id}: split it again.")
        number = len(self._voxels)
        present, parts = self._state
        new = _Part.of(number, box, mask)
        if sum(part.packed.nbytes for part in (*parts, new)) > _MOST_BYTES:
            raise DataError(
                "The parts that were split off take more than 512 MiB: separate all objects with a "
                "higher neck instead."
            )
        self._state = (np.append(present, np.uint32(number)), (*parts, new))
        self._voxels = np.append(self._voxels, size)
        self._voxels[object_id] -= size
        self._low = np.concatenate([self._low, [box.start]])
        self._high = np.concatenate([self._high, [box.stop]])
        self.good.discard(object_id)
        self.decided |= {object_id, number}
        self.changed |= {object_id, number}
        return number

    def confirm(self, object_id: int) -> None:
        """Note that an object is right."""
        self.check(object_id)
        self.good.add(object_id)
        self.decided.add(object_id)

    def _rename(self, object_id: int, other: int) -> None:
        present, parts = self._state
        self._state = (np.where(present == object_id, np.uint32(other), present), parts)


def _overlap(
    read: tuple[slice, slice, slice], box: Box
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """Where a box and slices with steps meet: the places in what was read, and in the box."""
    here = []
    in_part = []
    for part, low, high in zip(read, box.start, box.stop, strict=True):
        step = part.step or 1
        # The first voxel that is read at or after the beginning of the box.
        first = max(0, -(-(low - part.start) // step))
        last = -(-(min(high, part.stop) - part.start) // step)
        if first >= last:
            return None
        start = part.start + first * step - low
        here.append(slice(first, last))
        in_part.append(slice(start, start + (last - first - 1) * step + 1, step))
    return tuple(here), tuple(in_part)

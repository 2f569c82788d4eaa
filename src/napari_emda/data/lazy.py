"""Stored data as (z, y, x) arrays that are read only where they are sliced."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_emda.data.box import Box
from napari_emda.errors import DataError, EmdaError

# Decoded sections that a `SectionStack` keeps, so that patches of one section decode it once:
# sixteen of 4096 x 4096 uint8.
CACHE_BYTES = 256 * 2**20

Slices = tuple[slice, slice, slice]


class Lazy3D(ABC):
    """A read-only (z, y, x) array that is read where it is sliced.

    Takes what NumPy's basic indexing takes: integers, slices with any step, and an ellipsis.
    """

    ndim = 3
    file = ""
    """Name of the file or folder, for messages about damage in it; empty for arrays in memory."""

    def __init__(self, shape: tuple[int, int, int], dtype: DTypeLike) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)

    @abstractmethod
    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        """Read slices that lie inside the array and whose steps are positive."""

    @property
    def size(self) -> int:
        """Number of voxels."""
        z, y, x = self.shape
        return z * y * x

    @property
    def nbytes(self) -> int:
        """Bytes that the whole array would take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        # Readers see forward slices only; integers and negative steps are applied to the result.
        to_read: list[slice] = []
        to_apply: list[int | slice] = []
        for index, length in zip(_expand(key), self.shape, strict=True):
            forward, remaining = _normalise(index, length)
            to_read.append(forward)
            to_apply.append(remaining)
        z, y, x = to_read
        try:
            return self._read(z, y, x)[tuple(to_apply)]
        except (EmdaError, MemoryError):
            raise
        # Every codec has errors of its own, and damage is found when a part is decoded.
        except Exception as error:
            if not self.file:
                raise
            raise DataError(
                f"{self.file} is damaged at section {z.start} ({error}): copy it again."
            ) from error

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype=dtype)

    def astype(self, dtype: DTypeLike) -> NDArray[Any]:
        """All voxels as numbers of another type, which napari's menu of layers asks for."""
        return np.asarray(self, dtype)

    def __deepcopy__(self, memo: Any) -> Lazy3D:
        # Nothing writes to it, and locks cannot be copied: napari copies what users duplicate.
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"


def _expand(key: Any) -> tuple[Any, Any, Any]:
    """Complete an index to exactly one entry per axis."""
    indices = list(key) if isinstance(key, tuple) else [key]
    ellipses = [i for i, index in enumerate(indices) if index is Ellipsis]
    count = len(indices) - len(ellipses)
    if len(ellipses) > 1 or count > 3:
        raise IndexError("Too many indices: the array has the three axes z, y and x.")
    position = ellipses[0] if ellipses else len(indices)
    missing = [slice(None)] * (3 - count)
    z, y, x = indices[:position] + missing + indices[position + len(ellipses) :]
    return z, y, x


def _normalise(index: Any, length: int) -> tuple[slice, int | slice]:
    """A forward slice to read, and the index to apply to what was read."""
    if not isinstance(index, slice):
        i = index.__index__()
        if not -length <= i < length:
            raise IndexError(f"Index {i} is outside an axis of length {length}.")
        return slice(i % length, i % length + 1, 1), 0
    positions = range(*index.indices(length))
    if not positions:
        return slice(0, 0, 1), slice(None)
    if positions.step > 0:
        return slice(positions.start, positions.stop, positions.step), slice(None)
    # Backwards: the same positions are read forwards, and reversed.
    return slice(positions[-1], positions[0] + 1, -positions.step), slice(None, None, -1)


class AxisView(Lazy3D):
    """A stored array of any number of axes, seen as (z, y, x).

    Args:
        array: any array.
        sections: index of the axis z; None for a single section.
        rows: index of the axis y.
        columns: index of the axis x.
        chosen: position along other axes, by their index; by default the first.
    """

    def __init__(
        self,
        array: Any,
        sections: int | None,
        *,
        rows: int = -2,
        columns: int = -1,
        chosen: Mapping[int, int] | None = None,
    ) -> None:
        count = 1 if sections is None else array.shape[sections]
        super().__init__((count, array.shape[rows], array.shape[columns]), array.dtype)
        self.array = array
        ndim = len(array.shape)
        axes = [rows % ndim, columns % ndim]
        self._axes = axes if sections is None else [sections, *axes]
        self._chosen = [(chosen or {}).get(axis, 0) for axis in range(ndim)]

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        index: list[int | slice] = [*self._chosen]
        for axis, part in zip(self._axes, (z, y, x)[-len(self._axes) :], strict=True):
            index[axis] = part
        values = np.asarray(self.array[tuple(index)])
        # What is left are the axes of the volume, in the order of the array.
        values = values.transpose(np.argsort(np.argsort(self._axes)))
        # Without a z axis, [None][z] adds one; for an empty slice it leaves no section.
        return values if len(self._axes) == 3 else values[None][z]


class PartOf(Lazy3D):
    """A box of a (z, y, x) array, as an array of its own.

    Args:
        array: read lazily.
        box: inside it.
    """

    def __init__(self, array: Any, box: Box) -> None:
        super().__init__(box.shape, array.dtype)
        self._array = array
        self._start = box.start

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        parts = (
            slice(part.start + low, part.stop + low, part.step)
            for part, low in zip((z, y, x), self._start, strict=True)
        )
        return np.asarray(self._array[tuple(parts)])


class SectionStack(Lazy3D):
    """Sections that are decoded one by one when needed; the most recent ones stay in memory.

    Args:
        read: decodes section z to a (y, x) array of the stack's dtype.
        shape: sections, rows, columns.
        dtype: of every section.
        cache_bytes: memory for decoded sections; one is always kept.
    """

    def __init__(
        self,
        read: Callable[[int], NDArray[Any]],
        shape: tuple[int, int, int],
        dtype: DTypeLike,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__(shape, dtype)
        self._decode = read
        # In the order of last use: the first is dropped first.
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()
        section_bytes = max(1, self.nbytes // max(1, len(self)))
        self._capacity = max(1, cache_bytes // section_bytes)

    def _section(self, z: int) -> NDArray[Any]:
        with self._lock:
            if z in self._cache:
                self._cache.move_to_end(z)
                return self._cache[z]
        # Decoded outside the lock: two threads may decode one section twice, but never wait for
        # each other.
        values = self._decode(z)
        with self._lock:
            self._cache[z] = values
            while len(self._cache) > self._capacity:
                self._cache.popitem(last=False)
        return values

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        sections, rows, columns = (range(s.start, s.stop, s.step) for s in (z, y, x))
        values = np.empty((len(sections), len(rows), len(columns)), self.dtype)
        for i, section in enumerate(sections):
            values[i] = self._section(section)[y, x]
        return values

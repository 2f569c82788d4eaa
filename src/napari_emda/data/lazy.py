"""Three-dimensional looks at stored data: sliced like NumPy arrays, read only where they are sliced."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

CACHE_BYTES = 256 * 2**20
"""Decoded sections that a :class:`SectionStack` keeps, so that patches of one section decode it once."""

Slices = tuple[slice, slice, slice]


class Lazy3D(ABC):
    """A read-only (z, y, x) array that is read where it is sliced.

    Takes what NumPy's basic indexing takes: integers, slices with any step, and an ellipsis.
    """

    ndim = 3

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
        parts = _expand(key)
        forward: list[slice] = []
        after: list[int | slice] = []
        for part, length in zip(parts, self.shape, strict=True):
            read, then = _normalise(part, length)
            forward.append(read)
            after.append(then)
        z, y, x = forward
        return self._read(z, y, x)[tuple(after)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype=dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"


def _expand(key: Any) -> tuple[Any, Any, Any]:
    """Complete an index to exactly one entry per axis."""
    parts = list(key) if isinstance(key, tuple) else [key]
    holes = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(holes) > 1 or len(parts) - len(holes) > 3:
        raise IndexError("Too many indices: the array has the three axes z, y and x.")
    at = holes[0] if holes else len(parts)
    given = len(parts) - len(holes)
    z, y, x = parts[:at] + [slice(None)] * (3 - given) + parts[at + len(holes) :]
    return z, y, x


def _normalise(part: Any, length: int) -> tuple[slice, int | slice]:
    """An index as a forward slice to read, and what is left to apply to the result."""
    if not isinstance(part, slice):
        i = part.__index__()
        if not -length <= i < length:
            raise IndexError(f"Index {i} is outside an axis of length {length}.")
        return slice(i % length, i % length + 1, 1), 0
    steps = range(*part.indices(length))
    if not steps:
        return slice(0, 0, 1), slice(None)
    if steps.step > 0:
        return slice(steps.start, steps.stop, steps.step), slice(None)
    return slice(steps[-1], steps[0] + 1, -steps.step), slice(None, None, -1)


class AxisView(Lazy3D):
    """A stored array of any number of axes, seen as (z, y, x).

    Args:
        array: what is sliced; its last two axes are y and x.
        sections: the axis that is z; None for a single section. All other axes have length one.
    """

    def __init__(self, array: Any, sections: int | None) -> None:
        count = 1 if sections is None else array.shape[sections]
        super().__init__((count, *array.shape[-2:]), array.dtype)
        self.array = array
        self._sections = sections

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        # A single section keeps its missing z axis for NumPy to add; asking for no section must read nothing.
        index: list[int | slice] = [0] * (len(self.array.shape) - 2)
        if self._sections is not None:
            index[self._sections] = z
        values = np.asarray(self.array[(*index, y, x)])
        return values if self._sections is not None else values[None][z]


class SectionStack(Lazy3D):
    """Sections that are decoded one by one when they are asked for; the last ones stay in memory.

    Args:
        read: decodes section z to a (y, x) array of the stack's dtype.
        shape: sections, rows, columns.
        dtype: of every section.
        cache_bytes: how much of what was decoded to keep.
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
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()
        section_bytes = max(1, self.nbytes // max(1, len(self)))
        self._capacity = max(1, cache_bytes // section_bytes)

    def _section(self, z: int) -> NDArray[Any]:
        with self._lock:
            if z in self._kept:
                self._kept.move_to_end(z)
                return self._kept[z]
        # Decoded outside the lock: two threads may decode one section twice, but never wait for each other.
        values = self._decode(z)
        with self._lock:
            self._kept[z] = values
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return values

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        chosen = range(z.start, z.stop, z.step)
        rows, columns = (len(range(s.start, s.stop, s.step)) for s in (y, x))
        out = np.empty((len(chosen), rows, columns), self.dtype)
        for i, section in enumerate(chosen):
            out[i] = self._section(section)[y, x]
        return out

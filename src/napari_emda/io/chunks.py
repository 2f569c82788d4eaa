"""Arrays of chunks, read chunk by chunk in the calling thread."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]


class Chunks(ABC):
    """An array whose chunks are read one by one.

    Args:
        shape: of the array.
        dtype: of its values.
        chunks: shape of a chunk.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: tuple[int, ...]
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.chunks = chunks

    @abstractmethod
    def _read_chunk(self, index: tuple[int, ...]) -> NDArray[Any]:
        """A chunk in its whole shape, also at the end of the array."""

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a box: integers, or slices without a step, for all axes."""
        spans = self._spans(key)
        if spans is None:
            raise IndexError(key)
        values = np.empty([stop - start for start, stop in spans], self.dtype)
        for index in self._chunk_indices(spans):
            in_chunk, in_box = self._overlap(index, spans)
            values[in_box] = self._read_chunk(index)[in_chunk]
        # An integer drops its axis, as in NumPy.
        axes = [0 if isinstance(part, int) else slice(None) for part in key]
        return values[tuple(axes)]

    def _spans(self, key: Any) -> list[Span] | None:
        """Start and stop along each axis; None for what only zarr knows how to index."""
        if not isinstance(key, tuple) or len(key) != len(self.shape):
            return None
        spans: list[Span] = []
        for part, size in zip(key, self.shape, strict=True):
            if isinstance(part, int) and 0 <= part < size:
                spans.append((part, part + 1))
            elif isinstance(part, slice) and part.step in (None, 1):
                start, stop, _ = part.indices(size)
                spans.append((start, max(start, stop)))
            else:
                return None
        return spans

    def _chunk_indices(self, spans: list[Span]) -> Iterator[tuple[int, ...]]:
        """Indices of the chunks that a box touches."""
        ranges = [
            range(start // n, -(-stop // n)) if stop > start else range(0)
            for (start, stop), n in zip(spans, self.chunks, strict=True)
        ]
        return itertools.product(*ranges)

    def _overlap(
        self, index: tuple[int, ...], spans: list[Span]
    ) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The intersection of a chunk and a box, as slices of the chunk and of the box."""
        in_chunk = []
        in_box = []
        for i, (start, stop), n in zip(index, spans, self.chunks, strict=True):
            low = max(start, i * n)
            high = min(stop, (i + 1) * n)
            in_chunk.append(slice(low - i * n, high - i * n))
            in_box.append(slice(low - start, high - start))
        return tuple(in_chunk), tuple(in_box)

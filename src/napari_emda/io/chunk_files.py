"""Chunk files of a zarr array on a local disk, read and written in the calling thread.

zarr hands every chunk from thread to thread, which holds Python's lock for about half a millisecond.
Several threads that read at once are then hardly faster than one, and a GPU waits for them. Here
almost all of the time is spent in the file system and in the codec, both of which let other threads
run. The files are those that zarr writes.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc, GZip, Zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Endian, GzipCodec, ZstdCodec
from zarr.storage import LocalStore

from napari_emda.io.atomic import replacing_file

Span = tuple[int, int]


class ChunkFiles:
    """A zarr array that is sliced as before; plain chunks are handled without zarr's own threads.

    Whatever is not plain (another store, sharding, filters, a step) is left to zarr.

    Args:
        array: opened for reading, or for writing where boxes are written.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.chunks = array.chunks
        self._codec = _codec_of(array)
        self._fill = 0 if array.fill_value is None else array.fill_value
        # Chunks that two boxes share are read, changed and written again: one thread at a time.
        self._lock = threading.Lock()

    def __getitem__(self, key: Any) -> NDArray[Any]:
        spans = self._spans(key)
        if self._codec is None or spans is None:
            return np.asarray(self.array[key])
        values = np.empty([stop - start for start, stop in spans], self.dtype)
        for place in self._places(spans):
            inside, there = self._overlap(place, spans)
            values[there] = self._chunk(place)[inside]
        kept = [0 if isinstance(part, int) else slice(None) for part in key]
        return values[tuple(kept)]

    def write(self, key: tuple[slice, ...], values: NDArray[Any]) -> None:
        """Write a box; different boxes may be written by several threads at once.

        Args:
            key: slices without a step, one for each axis.
            values: of the box's shape and the array's dtype.
        """
        spans = self._spans(key)
        if spans is None or not isinstance(self._codec, Zstd):
            with self._lock:
                self.array[key] = values
            return
        for place in self._places(spans):
            _, there = self._overlap(place, spans)
            part = values[there]
            if part.shape == self._held(place):
                self._write_chunk(place, part)
                continue
            starts = [a + p.start for (a, _), p in zip(spans, there, strict=True)]
            box = tuple(slice(a, a + n) for a, n in zip(starts, part.shape, strict=True))
            with self._lock:
                self.array[box] = part

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

    def _places(self, spans: list[Span]) -> Iterator[tuple[int, ...]]:
        """Indices of the chunks that a box touches."""
        ranges = [
            range(start // n, -(-stop // n)) if stop > start else range(0)
            for (start, stop), n in zip(spans, self.chunks, strict=True)
        ]
        return itertools.product(*ranges)

    def _overlap(
        self, place: tuple[int, ...], spans: list[Span]
    ) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where a chunk and a box meet: as slices of the chunk, and of the box."""
        inside, there = [], []
        for index, (start, stop), n in zip(place, spans, self.chunks, strict=True):
            low = max(start, index * n)
            high = min(stop, (index + 1) * n)
            inside.append(slice(low - index * n, high - index * n))
            there.append(slice(low - start, high - start))
        return tuple(inside), tuple(there)

    def _held(self, place: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the part of a chunk that lies in the array; those at its end may reach beyond."""
        return tuple(
            min(n, size - index * n)
            for index, n, size in zip(place, self.chunks, self.shape, strict=True)
        )

    def _file(self, place: tuple[int, ...]) -> Path:
        key = self.array.metadata.encode_chunk_key(place)
        return Path(self.array.store.root) / self.array.path / key  # type: ignore[attr-defined]

    def _chunk(self, place: tuple[int, ...]) -> NDArray[Any]:
        try:
            stored = self._file(place).read_bytes()
        except FileNotFoundError:
            return np.full(self.chunks, self._fill, self.dtype)
        return np.frombuffer(self._codec.decode(stored), self.dtype).reshape(self.chunks)

    def _write_chunk(self, place: tuple[int, ...], values: NDArray[Any]) -> None:
        file = self._file(place)
        if (values == self._fill).all():  # as in zarr, what is not there is empty
            file.unlink(missing_ok=True)
            return
        if values.shape != self.chunks:
            missing = [(0, n - held) for n, held in zip(self.chunks, values.shape, strict=True)]
            values = np.pad(values, missing, constant_values=self._fill)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(file, durable=False) as partial:
            partial.write_bytes(self._codec.encode(np.ascontiguousarray(values)))


def _codec_of(array: zarr.Array[Any]) -> Any:
    """What compresses a chunk, as numcodecs has it; None where chunks are not plain."""
    if not isinstance(array.store, LocalStore) or array.dtype.kind not in "uifb":
        return None
    if array.dtype.newbyteorder("=") != array.dtype or sys.byteorder != "little":
        return None
    if array.metadata.zarr_format == 2:
        metadata = array.metadata
        return metadata.compressor if metadata.order == "C" and not metadata.filters else None
    match array.metadata.codecs:
        case (BytesCodec() as stored, ZstdCodec(level=level, checksum=checksum)):
            codec: Any = Zstd(level=level, checksum=checksum)
        case (BytesCodec() as stored, BloscCodec()):
            codec = Blosc()
        case (BytesCodec() as stored, GzipCodec()):
            codec = GZip()
        case _:
            return None
    is_little = array.dtype.itemsize == 1 or stored.endian is Endian.little
    return codec if is_little else None

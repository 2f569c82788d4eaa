"""Read and write the chunk files of a zarr array on a local disk in the calling thread.

zarr hands every chunk from thread to thread, which holds Python's lock for about half a
millisecond. Several threads that read at once are then hardly faster than one, and a GPU waits for
them. Here almost all of the time is spent in the file system and in the codec, both of which
release the lock. The files are those that zarr writes.
"""

from __future__ import annotations

import math
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc, GZip, Zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec
from zarr.storage import LocalStore

from napari_emda.io.atomic import replace_content
from napari_emda.io.checked_store import CheckedStore
from napari_emda.io.checked_zip import CheckedZip
from napari_emda.io.chunks import Chunks
from napari_emda.io.unfolding import read_chunk, unfolded


class ChunkFiles(Chunks):
    """A zarr array whose plain chunks are read and written without zarr's own threads.

    Anything else (another store, sharding, filters, slices with a step) is left to zarr.

    Args:
        array: opened for reading, or for reading and writing if `write` is used.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        super().__init__(array.shape, array.dtype, array.chunks)
        self.array = array
        self._codec = _codec_of(array)
        # Format 2 allows None, "undefined": any value is right.
        self._fill_value = 0 if array.fill_value is None else array.fill_value
        # Two boxes may share a chunk, which is read, changed and written again: by one thread at a
        # time.
        self._lock = threading.Lock()
        # Files that were written and may not be on the disk yet.
        self._unsynced: set[Path] = set()

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if self._codec is None or self._spans(key) is None:
            return np.asarray(self.array[key])
        return super().__getitem__(key)

    def write(self, key: tuple[slice, ...], values: NDArray[Any]) -> None:
        """Write a box; different boxes may be written by several threads at once.

        Args:
            key: slices without a step, one for each axis.
            values: of the box's shape and the array's dtype.
        """
        spans = self._spans(key)
        if spans is None:
            with self._lock:
                self.array[key] = values
            return
        files = {index: self._file(index) for index in self._chunk_indices(spans)}
        with self._lock:
            self._unsynced.update(files.values())
            if not isinstance(self._codec, Zstd):
                self.array[key] = values
                return
        for index, file in files.items():
            _, in_box = self._overlap(index, spans)
            part = values[in_box]
            # A chunk that is written completely needs no lock: no other box touches it.
            if part.shape == self._shape_in_array(index):
                self._write_chunk(file, part)
                continue
            starts = [low + side.start for (low, _), side in zip(spans, in_box, strict=True)]
            box = tuple(slice(low, low + n) for low, n in zip(starts, part.shape, strict=True))
            with self._lock:
                self.array[box] = part

    def take_unsynced(self) -> set[Path]:
        """The files that were written since the last call; see `io.atomic.sync_files`."""
        with self._lock:
            taken = self._unsynced
            self._unsynced = set()
        return taken

    def _shape_in_array(self, index: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a chunk without what reaches beyond the end of the array."""
        return tuple(
            min(n, size - i * n) for i, n, size in zip(index, self.chunks, self.shape, strict=True)
        )

    def _file(self, index: tuple[int, ...]) -> Path:
        key = self._key(index)
        store = self.array.store
        if isinstance(store, CheckedStore):
            return store.check(key)
        return Path(store.root) / key  # type: ignore[attr-defined]

    def _read_chunk(self, index: tuple[int, ...]) -> NDArray[Any]:
        expected = math.prod(self.chunks) * self.dtype.itemsize
        try:
            encoded = self._encoded(index, expected)
        except FileNotFoundError:
            # zarr writes no file for a chunk that holds the fill value only.
            return np.full(self.chunks, self._fill_value, self.dtype)
        content = unfolded(encoded, self._codec, expected)
        return np.frombuffer(content, self.dtype).reshape(self.chunks)

    def _encoded(self, index: tuple[int, ...], expected: int) -> bytes:
        """The content of a chunk's file; FileNotFoundError if there is none."""
        if isinstance(self.array.store, CheckedZip):
            return self.array.store.read_chunk(self._key(index), expected)
        return read_chunk(self._file(index), expected)

    def _key(self, index: tuple[int, ...]) -> str:
        key = self.array.metadata.encode_chunk_key(index)
        return f"{self.array.path}/{key}".lstrip("/")

    def _write_chunk(self, file: Path, values: NDArray[Any]) -> None:
        if (values == self._fill_value).all():
            file.unlink(missing_ok=True)
            return
        # zarr stores the chunks at the end of an array whole, filled up.
        if values.shape != self.chunks:
            padding = [(0, n - size) for n, size in zip(self.chunks, values.shape, strict=True)]
            values = np.pad(values, padding, constant_values=self._fill_value)
        # Renamed, so that a reader never sees half a chunk. Many are synced together, later.
        replace_content(file, self._codec.encode(np.ascontiguousarray(values)))


def _codec_of(array: zarr.Array[Any]) -> Any:
    """The codec of numcodecs that compresses a chunk; None if chunks are not plain."""
    if not isinstance(array.store, LocalStore | CheckedZip) or array.dtype.kind not in "uifb":
        return None
    # Little-endian numbers on a little-endian machine need no conversion.
    if array.dtype.newbyteorder("=") != array.dtype or sys.byteorder != "little":
        return None
    if array.metadata.zarr_format == 2:
        metadata = array.metadata
        return metadata.compressor if metadata.order == "C" and not metadata.filters else None
    match array.metadata.codecs:
        case (BytesCodec() as numbers, ZstdCodec(level=level, checksum=checksum)):
            codec: Any = Zstd(level=level, checksum=checksum)
        # The header of a Blosc or gzip chunk states how it was compressed: decoding needs no more.
        case (BytesCodec() as numbers, BloscCodec()):
            codec = Blosc()
        case (BytesCodec() as numbers, GzipCodec()):
            codec = GZip()
        case _:
            return None
    # An enumeration, or its value in newer versions of zarr.
    endian = getattr(numbers.endian, "value", numbers.endian)
    is_little = array.dtype.itemsize == 1 or endian == "little"
    return codec if is_little else None

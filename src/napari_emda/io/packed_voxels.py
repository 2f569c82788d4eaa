"""Voxels of one gzip stream, which cannot be read in part."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.lazy import Lazy3D
from napari_emda.errors import DataError

# Bytes of voxels that are unpacked into memory. A stream has to be read from its beginning for
# every voxel, so that a larger file cannot be used as it is.
LARGEST_PACKED = 2**31


class PackedVoxels(Lazy3D):
    """A stack in a gzip stream; all of it is unpacked when the first voxel is read, and kept.

    Args:
        path: of the file.
        shape: sections, rows, columns.
        dtype: of the voxels, with their order of bytes.
        start: of the stream in the file, in bytes.
        skip: bytes in the stream in front of the first voxel.

    Raises:
        DataError: it would not leave enough memory.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        *,
        start: int = 0,
        skip: int = 0,
    ) -> None:
        super().__init__(shape, dtype)
        if self.nbytes + skip > LARGEST_PACKED:
            raise DataError(
                f"{path.name} is compressed as a whole and unpacks to {self.nbytes / 2**30:.1f} "
                f"GiB, and at most {LARGEST_PACKED / 2**30:.0f} are possible: save it without "
                "compression."
            )
        self._path = path.absolute()
        self._start = start
        self._skip = skip
        self._values: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        # Threads that need the same voxels wait for the first of them.
        with self._lock:
            if self._values is None:
                self._values = self._unpacked()
        return self._values[z, y, x]

    def _unpacked(self) -> NDArray[Any]:
        with self._path.open("rb") as file:
            file.seek(self._start)
            with gzip.GzipFile(fileobj=file) as stream:
                stream.read(self._skip)
                content = stream.read(self.nbytes)
        if len(content) < self.nbytes:
            raise DataError(
                f"{self._path.name} is cut short ({len(content)} bytes of {self.nbytes} are "
                "there): copy it again."
            )
        return np.frombuffer(content, self.dtype).reshape(self.shape)

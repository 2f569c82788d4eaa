"""Uncompressed voxels in a file, read where they are sliced.

Not mapped into memory: if a mapped file is cut short while it is read, the system ends the process.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.lazy import Lazy3D
from napari_emda.errors import DataError

# Bytes up to which rows are read in one go with what lies between them: about as fast as one call
# of the system for each row.
_IN_ONE_GO = 2**14


class RawVoxels(Lazy3D):
    """A stack whose sections follow each other in a file, row by row.

    The file is opened for each access, so that any number of files can be sections of a volume.

    Args:
        path: of the file.
        shape: sections, rows, columns.
        dtype: of the voxels, with their order of bytes.
        offset: of the first voxel, in bytes.
        stride: sections of this size from one section to the next; more than one where other
            channels lie in between.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        offset: int,
        stride: int = 1,
    ) -> None:
        super().__init__(shape, dtype)
        # Absolute, because a program may change its folder.
        self._path = path.absolute()
        self._offset = offset
        self._stride = stride

    @property
    def end(self) -> int:
        """Bytes that the file has at least."""
        sections, rows, columns = self.shape
        last = max(0, sections - 1) * self._stride + min(sections, 1)
        return self._offset + last * rows * columns * self.dtype.itemsize

    def check_complete(self) -> Self:
        """This array; DataError if the end of its file is missing."""
        size = self._path.stat().st_size
        if size < self.end:
            raise DataError(
                f"{self._path.name} is cut short (its end is missing after {size} bytes of "
                f"{self.end}): copy it again."
            )
        return self

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        sections, rows, columns = (range(s.start, s.stop, s.step) for s in (z, y, x))
        values = np.empty((len(sections), len(rows), len(columns)), self.dtype)
        if not values.size:
            return values
        with self._path.open("rb", buffering=0) as file:
            # Checked at each access: the file may have been cut short since.
            size = os.fstat(file.fileno()).st_size
            if size < self.end:
                raise DataError(
                    f"{self._path.name} has been cut short to {size} bytes while it was in use: "
                    "copy it again."
                )
            for i, section in enumerate(sections):
                self._read_section(file, section, rows, columns, values[i])
        return values

    def _read_section(
        self, file: FileIO, section: int, rows: range, columns: range, out: NDArray[Any]
    ) -> None:
        """Read some rows and columns of a section into an array of their number."""
        width = self.shape[2]
        first = section * self._stride * self.shape[1]
        if len(columns) == width and rows.step == columns.step == 1:
            self._fill(file, (first + rows[0]) * width, out)
        # Of each row only the part that is needed, unless rows are short: a patch of a wide image
        # is a small part of its rows.
        elif width * self.dtype.itemsize * rows.step <= _IN_ONE_GO:
            block = np.empty((rows[-1] - rows[0] + 1, width), self.dtype)
            self._fill(file, (first + rows[0]) * width, block)
            out[...] = block[:: rows.step, columns[0] : columns[-1] + 1 : columns.step]
        else:
            part = np.empty(columns[-1] - columns[0] + 1, self.dtype)
            for line, row in zip(out, rows, strict=True):
                self._fill(file, (first + row) * width + columns[0], part)
                line[...] = part[:: columns.step]

    def _fill(self, file: FileIO, first: int, values: NDArray[Any]) -> None:
        """Read into a contiguous array, in the order of the file, from a voxel on."""
        file.seek(self._offset + first * self.dtype.itemsize)
        buffer = values.reshape(-1).view(np.uint8).data
        while buffer:
            # A system may hand over less than what was asked for.
            done = file.readinto(buffer)
            if not done:
                raise DataError(f"{self._path.name} ends too early: copy it again.")
            buffer = buffer[done:]

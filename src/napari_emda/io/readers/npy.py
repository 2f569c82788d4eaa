"""Arrays that NumPy has saved."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any, ClassVar

import numpy as np

from napari_emda.data.lazy import AxisView
from napari_emda.errors import DataError
from napari_emda.io.axes import layout, raw_volume
from napari_emda.io.location import Part
from napari_emda.io.raw_voxels import RawVoxels
from napari_emda.io.reader import MultiImageReader, readers
from napari_emda.io.units import Stored


@readers.register("npy")
class Npy(MultiImageReader):
    """Arrays that NumPy has saved: an image or a stack (z, y, x); they state no voxel size."""

    formats: ClassVar = ("NPY",)
    # No sections of folders: programs write arrays of other things beside images (Cellpose).
    suffixes: ClassVar = (".npy",)

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """Read the header; a position along other axes is chosen by ``?axis0=1``."""
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            # Both refuse headers beyond all sizes, and run nothing that is in them.
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            try:
                shape, is_fortran, dtype = read_header(file)
            except TokenError as error:
                raise ValueError(f"its header is cut short: {error}") from None
            offset = file.tell()
        if dtype.hasobject or dtype.itemsize == 0:
            raise ValueError(f"values of type {dtype}")
        if not is_fortran:
            return Stored(raw_volume(path, shape, None, part, dtype, offset))
        return Stored(_last_axis_first(path, shape, part, dtype, offset))


def _last_axis_first(
    path: Path, shape: tuple[int, ...], part: Part, dtype: np.dtype[Any], offset: int
) -> AxisView:
    """An array in Fortran's order, whose first axis changes fastest in the file."""
    sections = layout(shape, None, part, path.name).sections
    if len(shape) > 3 or part:
        raise DataError(
            f"{path.name} has {len(shape)} axes in Fortran's order: save it with "
            "numpy.ascontiguousarray."
        )
    columns, rows, count = (*shape[::-1], 1)[:3]
    stored = RawVoxels(path, (columns, rows, count), dtype, offset).check_complete()
    return AxisView(stored, None if sections is None else 2, rows=1, columns=0)

"""TIFF out, section by section, with the voxel size that Fiji shows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.io.atomic import replacing_file

CLASSIC_LIMIT = 2**32 - 2**25
"""Bytes of voxels that surely fit a classic TIFF (4 GiB) together with its page headers."""

IMAGEJ_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
WRITABLE_TYPES = (*IMAGEJ_TYPES, np.dtype(np.uint32))
# Bytes of sections that may wait to be compressed (at least two sections do). Untold, tifffile lets half a GiB wait.
_WAITING = 2**26


def write_tiff(
    path: Path | str,
    sections: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    grid: VoxelGrid | None = None,
) -> None:
    """Write sections one by one to a zlib-compressed TIFF that Fiji opens with its voxel size.

    8- and 16-bit integers and floats up to 4 GiB become an ImageJ TIFF, which ImageJ, Fiji and napari open directly and
    calibrated. ImageJ's format knows neither 32-bit integers nor more than 4 GiB of compressed voxels: those become an
    OME-TIFF (BigTIFF where needed), which Fiji opens through Bio-Formats. Both can be streamed: all their metadata is
    known before the first section.

    The file appears under its name when it is complete, or not at all.

    Args:
        path: where to; its folder exists; an older file is replaced.
        sections: ``shape[0]`` arrays of (y, x); values are cast to ``dtype``.
        shape: sections, rows, columns.
        dtype: uint8, uint16, uint32 or float32.
        grid: of the voxels, None where nobody knows it; where sections are independent, their
            distance is left out.

    Raises:
        DataError: another dtype, sections of another shape or number, or a folder that cannot be written.
    """
    path, dtype = Path(path), np.dtype(dtype)
    if dtype not in WRITABLE_TYPES:
        names = ", ".join(t.name for t in WRITABLE_TYPES)
        raise DataError(f"A TIFF cannot be written as {dtype.name}: choose one of {names}.")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"'{path}' cannot be written: choose another folder.")
    nbytes = math.prod(shape) * dtype.itemsize
    checked = _checked(sections, shape, dtype)
    imagej = dtype in IMAGEJ_TYPES and nbytes < CLASSIC_LIMIT
    with (
        replacing_file(path) as partial,
        tifffile.TiffWriter(
            partial, imagej=imagej, ome=not imagej, bigtiff=nbytes >= CLASSIC_LIMIT
        ) as writer,
    ):
        writer.write(
            map(np.ascontiguousarray, checked),  # hides the generator, which tifffile would close
            dtype=dtype,
            compression="zlib",
            photometric="minisblack",
            buffersize=_WAITING,
            **(_imagej_options if imagej else _ome_options)(shape, grid),
        )
        next(checked, None)  # tifffile takes what it needs: one section too many shows only here


def _imagej_options(shape: tuple[int, int, int], grid: VoxelGrid | None) -> dict[str, Any]:
    # All six axes of ImageJ: of fewer, tifffile takes a last one of length 1 for colours.
    sections, rows, columns = shape
    options: dict[str, Any] = {
        "shape": (1, sections, 1, rows, columns, 1),
        "metadata": {"axes": "TZCYXS"},
    }
    if grid is None:
        return options
    z, y, x = grid.spacing
    # ImageJ escapes what is not ASCII, and so must we: the description of a TIFF is ASCII.
    name = grid.unit.encode("ascii", "backslashreplace").decode().replace("\\xb5", "\\u00B5")
    distance = {"spacing": z} if "z" in grid.axes else {}
    return options | {
        "metadata": {"axes": "TZCYXS", "unit": name} | distance,
        "resolution": (1 / x, 1 / y),
        "resolutionunit": 1,
    }


def _ome_options(shape: tuple[int, int, int], grid: VoxelGrid | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": "ZYX"}
    if grid is None:
        return {"shape": shape, "metadata": metadata}
    for axis in grid.axes:
        metadata[f"PhysicalSize{axis.upper()}"] = grid.spacing["zyx".index(axis)]
        # Without a unit OME-XML means micrometres, which nobody said.
        metadata[f"PhysicalSize{axis.upper()}Unit"] = grid.unit
    return {"shape": shape, "metadata": metadata}


def _checked(
    sections: Iterable[NDArray[Any]], shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> Iterator[Any]:
    count = 0
    for section in sections:
        if count == shape[0] or section.shape != shape[1:]:
            raise DataError(
                f"Section {count} of {section.shape} does not belong to a volume of {shape}: give {shape[0]} sections"
                f" of {shape[1:]}."
            )
        count += 1
        yield np.asarray(section, dtype)
    if count < shape[0]:
        raise DataError(f"Only {count} of {shape[0]} sections were given: give all of them.")

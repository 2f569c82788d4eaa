"""Write TIFF section by section, with the voxel size that Fiji shows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.io.atomic import replacing_file

# Bytes of voxels that surely fit a classic TIFF, whose offsets have 32 bits (4 GiB). 32 MiB are
# left for what compression may add to noise and for the headers of the pages.
CLASSIC_LIMIT = 2**32 - 2**25

# What ImageJ's own format can store, and what this module writes in one format or another.
IMAGEJ_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
WRITABLE_TYPES = (*IMAGEJ_TYPES, np.dtype(np.uint32))

OME_SUFFIXES = (".ome.tif", ".ome.tiff")
"""Endings of names under which programs expect an OME-TIFF."""

# Bytes of sections that may wait to be compressed (at least two sections do). By default tifffile
# lets half a GiB wait: writing 300 sections of 2048² took 578 MiB of memory, 127 MiB with this
# limit, and was no slower.
_WAITING = 2**26


def write_tiff(
    path: Path | str,
    sections: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    grid: VoxelGrid | None = None,
    channels: Sequence[str] = (),
) -> None:
    """Write sections one by one to a zlib-compressed TIFF that Fiji opens with its voxel size.

    8- and 16-bit integers and floats up to 4 GiB become an ImageJ TIFF, which ImageJ, Fiji and
    napari open directly and calibrated. ImageJ's format has no 32-bit integers and no more than
    4 GiB of compressed voxels: these become an OME-TIFF (BigTIFF where needed), which Fiji opens
    through Bio-Formats, and so does everything under a name that ends in ``.ome.tif``. Both can be
    streamed: all their metadata is available before the first section. An OME-TIFF also states the
    position of its voxels, as that of each plane.

    The file appears under its name when it is complete, or not at all.

    Args:
        path: where to write; its folder must exist; an older file is replaced.
        sections: ``shape[0]`` arrays of (y, x), all of a channel before the next one; values are
            cast to ``dtype``.
        shape: sections, rows, columns.
        dtype: uint8, uint16, uint32 or float32.
        grid: of the voxels, None if unknown; where sections are independent, their distance is
            left out.
        channels: names of several channels, which an OME-TIFF holds; empty for one image.

    Raises:
        DataError: another dtype, sections of another shape or number, or a folder that cannot be
            written.
    """
    path = Path(path)
    dtype = np.dtype(dtype)
    if dtype not in WRITABLE_TYPES:
        names = ", ".join(writable.name for writable in WRITABLE_TYPES)
        raise DataError(f"A TIFF cannot be written as {dtype.name}: choose one of {names}.")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"'{path}' cannot be written: choose another folder.")
    nbytes = max(1, len(channels)) * math.prod(shape) * dtype.itemsize
    checked_sections = _checked(sections, shape, dtype, max(1, len(channels)))
    # Programs expect OME-TIFF under this name, and Fiji opens it through Bio-Formats.
    named_ome = path.name.lower().endswith(OME_SUFFIXES)
    imagej = dtype in IMAGEJ_TYPES and nbytes < CLASSIC_LIMIT and not (named_ome or channels)
    options = _imagej_options(shape, grid) if imagej else _ome_options(shape, grid, channels)
    with (
        replacing_file(path) as partial,
        tifffile.TiffWriter(
            partial, imagej=imagej, ome=not imagej, bigtiff=nbytes >= CLASSIC_LIMIT
        ) as writer,
    ):
        writer.write(
            # tifffile closes a generator after the last section it needs; `map` hides that this is
            # one, so that it can be asked for a section too many below.
            map(np.ascontiguousarray, checked_sections),
            dtype=dtype,
            # Lossless, and ImageJ itself reads it, unlike newer codecs such as zstd.
            compression="zlib",
            photometric="minisblack",
            buffersize=_WAITING,
            **options,
        )
        # tifffile stops at the number of sections in `shape`. Asking for one more lets `_checked`
        # raise if there is one, before the file gets its name.
        next(checked_sections, None)


def _imagej_options(shape: tuple[int, int, int], grid: VoxelGrid | None) -> dict[str, Any]:
    # All six axes of ImageJ: with fewer, tifffile takes a last axis of length 1 for colours.
    sections, rows, columns = shape
    options: dict[str, Any] = {
        "shape": (1, sections, 1, rows, columns, 1),
        "metadata": {"axes": "TZCYXS"},
    }
    if grid is None:
        return options
    z, y, x = grid.spacing
    # The description tag of a TIFF is ASCII. ImageJ writes a µ as \u00B5 and reads it back so.
    unit = grid.unit.encode("ascii", "backslashreplace").decode().replace("\\xb5", "\\u00B5")
    distance = {"spacing": z} if "z" in grid.axes else {}
    return options | {
        "metadata": {"axes": "TZCYXS", "unit": unit} | distance,
        # Pixels per unit, x first; 1 means "no absolute unit", because ImageJ's is in the metadata.
        "resolution": (1 / x, 1 / y),
        "resolutionunit": 1,
    }


def _ome_options(
    shape: tuple[int, int, int], grid: VoxelGrid | None, channels: Sequence[str]
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": "ZYX"}
    if channels:
        shape_in_file: tuple[int, ...] = (len(channels), *shape)
        metadata = {"axes": "CZYX", "Channel": {"Name": list(channels)}}
    else:
        shape_in_file = shape
    if grid is None:
        return {"shape": shape_in_file, "metadata": metadata}
    for axis in grid.axes:
        metadata[f"PhysicalSize{axis.upper()}"] = grid.spacing["zyx".index(axis)]
        # Without a unit, OME-XML means micrometres: state it even where it is "pixel".
        metadata[f"PhysicalSize{axis.upper()}Unit"] = grid.unit
    # OME-XML has no position of an image, but one of each plane.
    if any(grid.origin):
        metadata["Plane"] = _positions(shape[0], grid, max(1, len(channels)))
    return {"shape": shape_in_file, "metadata": metadata}


def _positions(sections: int, grid: VoxelGrid, channels: int) -> dict[str, Any]:
    """The positions of planes, in the order in which they are written."""
    z, y, x = grid.origin
    count = sections * channels
    along = {"X": [x] * count, "Y": [y] * count}
    if "z" in grid.axes:
        along["Z"] = [z + section * grid.spacing[0] for section in range(sections)] * channels
    planes: dict[str, Any] = {}
    for axis, positions in along.items():
        planes[f"Position{axis}"] = positions
        planes[f"Position{axis}Unit"] = [grid.unit] * count
    return planes


def _checked(
    sections: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    channels: int,
) -> Iterator[Any]:
    """The sections, cast; DataError at the first one that does not fit ``shape``."""
    count = 0
    expected = channels * shape[0]
    for section in sections:
        if count == expected or section.shape != shape[1:]:
            raise DataError(
                f"Section {count} of {section.shape} does not belong to a volume of {shape}: give "
                f"{expected} sections of {shape[1:]}."
            )
        count += 1
        yield np.asarray(section, dtype)
    if count < expected:
        raise DataError(f"Only {count} of {expected} sections were given: give all of them.")

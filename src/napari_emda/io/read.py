"""Images and labels from files of any format that has a reader."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_emda.data.array import Array
from napari_emda.data.label_values import whole_numbers
from napari_emda.data.lazy import AxisView, Lazy3D, SectionStack
from napari_emda.errors import DataError, refusal
from napari_emda.io.location import located
from napari_emda.io.palette import grey_image
from napari_emda.io.reader import check_library, reader_of
from napari_emda.io.readers.ome_zarr import OmeZarr
from napari_emda.io.remote import open_address
from napari_emda.io.units import Stored

# The longest axis, and the largest volume in bytes. Beyond are only damaged and forged headers: the
# largest volumes of electron microscopy have 1e6 voxels along an axis and 1e15 in all.
LARGEST_AXIS = 2**31
LARGEST_VOLUME = 2**60
# Bytes that are decoded at once: a picture of 65536 x 65536 pixels. More would not leave a computer
# the memory to do anything with them.
LARGEST_CHUNK = 2**32

# What libraries raise on damaged files for which a reader has no message of its own: among them
# sizes beyond all numbers and beyond the memory, and XML that is none (a SyntaxError).
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    SyntaxError,
)


def open_image(path: Path | str) -> Stored:
    """Open grey values without reading them.

    Args:
        path: a file or folder that one of `napari_emda.io.reader.readers` takes, perhaps with the
            part of it that is meant, see `napari_emda.io.location`.

    Returns:
        The (z, y, x) array in the file's dtype (a single image is one section), and voxel size and
        unit if the file states them.

    Raises:
        DataError: no such file, an unknown format, a damaged file, a colour image, or no volume.
    """
    stored = _open(Path(path))
    if stored.palette is not None:
        stored = grey_image(stored, Path(path).name)
    if np.dtype(stored.array.dtype).kind not in "buif":
        raise DataError(
            f"{Path(path).name} holds {stored.array.dtype} values, which are no grey values: save "
            "it as real numbers."
        )
    return stored


def open_labels(path: Path | str) -> Stored:
    """Open labels without reading them: as `open_image`, but whole numbers or booleans only.

    Of a file with a table of colours, the labels are the numbers and not the colours. Decimal
    numbers are taken where they are whole, see `data.label_values.whole_numbers`.

    Raises:
        DataError: as `open_image`, or values that are not real numbers.
    """
    stored = _open(Path(path))
    if np.dtype(stored.array.dtype).kind not in "buif":
        raise DataError(
            f"The labels {Path(path).name} are {stored.array.dtype}, but labels are whole numbers: "
            "save them with 8, 16 or 32 bits."
        )
    return replace(stored, array=whole_numbers(stored.array, Path(path).name))


def _open(path: Path) -> Stored:
    location = located(path)
    file = location.file
    part = location.part
    reader = OmeZarr if location.address else reader_of(file)
    check_library(reader, file)
    try:
        if location.address:
            stored = open_address(location.address, part)
        else:
            stored = reader.open_part(file, part) if part else reader.open(file)
        _check_size(file, stored.array)
        if isinstance(stored.array, Lazy3D):
            stored.array.file = file.name
        # One section is read here, so that a colour image is refused before any work begins.
        if stored.in_colour:
            stored.array[stored.array.shape[0] // 2]
        return stored
    except _UNREADABLE as error:
        if (refused := refusal(error, file)) is not None:
            raise refused from None
        # Without the library's traceback: the message is for the user, who cannot act on it.
        reason = str(error).rstrip(".")
        raise DataError(
            f"{file.name} cannot be read as {reader.formats[0]} ({reason}): save or copy it again."
        ) from None


def _check_size(path: Path, array: Array) -> None:
    """Raise DataError for sizes that no file has, before anybody asks for so much memory."""
    shape = tuple(array.shape)
    itemsize = np.dtype(array.dtype).itemsize
    if max(shape) > LARGEST_AXIS or math.prod(shape) * itemsize > LARGEST_VOLUME:
        raise DataError(
            f"{path.name} says that it holds {' x '.join(map(str, shape))} voxels, which cannot be "
            "right: save or copy it again."
        )
    chunk_bytes = math.prod(_decoded_at_once(array)) * itemsize
    if chunk_bytes > LARGEST_CHUNK:
        raise DataError(
            f"{path.name} has to be read {chunk_bytes / 2**30:.0f} GiB at a time, and at most "
            f"{LARGEST_CHUNK / 2**30:.0f} are possible: save it again in tiles, as TIFF or "
            "OME-Zarr."
        )


def _decoded_at_once(array: Array) -> tuple[int, ...]:
    """The part of an array that is decoded when any of its voxels is read."""
    if isinstance(array, SectionStack):
        return array.shape[1:]
    stored = array.array if isinstance(array, AxisView) else array
    # A memory map has no chunks, and reads what is asked for; HDF5 says None of such an array.
    return tuple(getattr(stored, "chunks", None) or ())

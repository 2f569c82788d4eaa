"""Images and labels from files of any format that has a reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_emda.errors import DataError
from napari_emda.io.equal_channels import EqualChannels
from napari_emda.io.reader import reader_of
from napari_emda.io.units import Stored

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
        path: a file or folder that one of `napari_emda.io.reader.readers` takes.

    Returns:
        The (z, y, x) array in the file's dtype (a single image is one section), and voxel size and
        unit if the file states them.

    Raises:
        DataError: no such file, an unknown format, a damaged file, a colour image, or no volume.
    """
    stored = _open(Path(path))
    if np.dtype(stored.array.dtype).kind not in "buif":
        raise DataError(
            f"{Path(path).name} holds {stored.array.dtype} values, which are no grey values: save "
            "it as real numbers."
        )
    return stored


def open_labels(path: Path | str) -> Stored:
    """Open labels without reading them: as `open_image`, but integers or booleans only.

    Raises:
        DataError: as `open_image`, or values that are not integers.
    """
    stored = _open(Path(path))
    if np.dtype(stored.array.dtype).kind not in "bui":
        raise DataError(
            f"The labels {Path(path).name} are {stored.array.dtype}, but labels are integers: save "
            "them with 8, 16 or 32 bits."
        )
    return stored


def _open(path: Path) -> Stored:
    reader = reader_of(path)
    try:
        stored = reader.open(path)
        # One section is read here, so that a colour image is refused before any work begins.
        if isinstance(stored.array, EqualChannels):
            stored.array.check()
        return stored
    except _UNREADABLE as error:
        # Without the library's traceback: the message is for the user, who cannot act on it.
        raise DataError(
            f"{path.name} cannot be read as {reader.formats[0]} ({error}): save or copy it again."
        ) from None

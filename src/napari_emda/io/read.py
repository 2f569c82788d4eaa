"""Images and labels from files of any format that a reader knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_emda.errors import DataError
from napari_emda.io.reader import reader_of
from napari_emda.io.units import Stored


def open_image(path: Path | str) -> Stored:
    """Open grey values without reading them.

    Args:
        path: a file or folder that one of `napari_emda.io.reader.readers` takes.

    Returns:
        The (z, y, x) array of its own real dtype (a single image is one section), voxel size and unit where stated.

    Raises:
        DataError: nothing there, an unknown kind of file, damaged, coloured, or not a volume.
    """
    stored = _open(Path(path))
    if np.dtype(stored.array.dtype).kind not in "buif":
        raise DataError(
            f"{Path(path).name} holds {stored.array.dtype}, which are no grey values: save real numbers."
        )
    return stored


def open_labels(path: Path | str) -> Stored:
    """Open labels without reading them: as :func:`open_image`, but integers or booleans only.

    Raises:
        DataError: as :func:`open_image`, or values that are not whole numbers.
    """
    stored = _open(Path(path))
    if np.dtype(stored.array.dtype).kind not in "bui":
        raise DataError(
            f"The labels {Path(path).name} are {stored.array.dtype}, but labels are whole numbers: save them as"
            " 8-, 16- or 32-bit integers."
        )
    return stored


# What libraries raise on files that are damaged, where a reader has no sentence of its own for it.
_UNREADABLE = (OSError, EOFError, ValueError, LookupError, TypeError)


def _open(path: Path) -> Stored:
    reader = reader_of(path)
    try:
        return reader.open(path)
    except _UNREADABLE as error:
        raise DataError(
            f"{path.name} cannot be read as {reader.formats[0]} ({error}): save or copy it again."
        ) from None

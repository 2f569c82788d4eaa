"""Save arrays as images block by block, with progress, in any format that has a writer.

A file appears under its name when it is complete, or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from napari_emda.data.array import Array
from napari_emda.data.block_runner import IN_TURN, BlockRunner
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, listed
from napari_emda.events import TileDone
from napari_emda.io.leftovers import clear_leftovers
from napari_emda.io.writer import NewImage, Surface, check_library, writer_of


def shortest(suffixes: Sequence[str]) -> list[str]:
    """Endings without those that contain another one.

    >>> shortest([".tif", ".ome.tif", ".h5"])
    ['.tif', '.h5']
    """
    return [
        suffix
        for suffix in suffixes
        if not any(suffix != other and suffix.endswith(other) for other in suffixes)
    ]


def check_destination(path: Path | str, suffixes: Sequence[str], overwrite: bool) -> Path:
    """Check, before any work is done, that a result can be written to ``path``.

    Args:
        path: where to write.
        suffixes: endings of the formats that can be written.
        overwrite: whether an existing file, or the folder of an image, may be replaced.

    Returns:
        The path.

    Raises:
        DataError: another ending, no such folder, a folder that cannot be written, or an existing
            file that may not be replaced.
    """
    path = Path(path)
    if not path.suffix or not path.name.lower().endswith(tuple(suffixes)):
        endings = listed(shortest(suffixes), "or")
        raise DataError(f"Cannot save '{path.name}': the name must end in {endings}.")
    if not path.parent.is_dir():
        raise DataError(f"The folder '{path.parent}' does not exist: create it, or choose another.")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"The folder '{path.parent}' cannot be written: choose another.")
    # An export that was killed may have left the old result under another name.
    clear_leftovers(path)
    if path.exists() and not overwrite:
        raise DataError(f"'{path}' exists already: choose another name, or allow to replace it.")
    # Replacing a folder deletes all that is in it: never one with the user's other files.
    writer = writer_of(path)
    if path.is_dir() and (writer is None or not writer.owns(path)):
        kind = "an image" if writer is None else f"an image in {writer.format}"
        raise DataError(
            f"'{path}' is a folder and not {kind}, so it is not overwritten: choose another name."
        )
    return path


def save_volume(
    channels: Sequence[Array],
    path: Path,
    dtype: DTypeLike,
    grid: VoxelGrid,
    volume: str = "",
    *,
    labels: bool = False,
    names: Sequence[str] = (),
    surfaces: Mapping[int, Surface] | None = None,
    runner: BlockRunner = IN_TURN,
) -> Generator[TileDone, None, None]:
    """Save one (z, y, x) array, or several as channels, in the format of the file's ending.

    Args:
        channels: see `NewImage`, as the others.
        path: a checked path, see `check_destination`.
        dtype: of the file; values are cast.
        grid: of the voxels.
        volume: name for the events.
        labels: whether values are numbers of classes or objects.
        names: of the channels.
        surfaces: of objects, for a format that takes them.
        runner: writes the blocks, if the format lets several processes write.

    Yields:
        An event per section or block. If stopped, it removes the partial file.

    Raises:
        DataError: there is no such format, its library is missing, or the disk is full or cannot be
            written.
    """
    writer = writer_of(path)
    if writer is None:
        raise DataError(f"'{path.name}' has no ending of an image: let it end in .tif or .zarr.")
    check_library(writer)
    image = NewImage(
        channels,
        np.dtype(dtype),
        grid,
        volume,
        labels,
        names,
        surfaces or {},
        runner if writer.by_many else IN_TURN,
    )
    try:
        yield from writer.write(image, path)
    except OSError as error:
        # Not all libraries give the system's words.
        raise DataError(
            f"'{path}' cannot be written ({error.strerror or error}): make room, or choose another "
            "place."
        ) from None

"""Save arrays as TIFF or OME-Zarr block by block, with progress.

A file appears under its name when it is complete, or not at all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Full, Queue
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import chunk_shape
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, listed
from napari_emda.events import TileDone
from napari_emda.io.leftovers import clear_leftovers
from napari_emda.io.readers.ome_zarr import MARKERS
from napari_emda.io.tiff import write_tiff
from napari_emda.io.write_ome_zarr import write_ome_zarr

VOLUME_FORMATS = {"TIFF": (".tif", ".tiff"), "OME-Zarr": (".zarr",)}
"""Endings of the images that can be written, by format; the usual one first."""
VOLUME_SUFFIXES = tuple(suffix for suffixes in VOLUME_FORMATS.values() for suffix in suffixes)

# Bytes of sections that are read at once from a chunked array. A chunk spans several sections and
# is decoded as a whole, so reading section by section would decode it several times. 64 MiB hold 16
# sections of 2048² uint8.
_SLAB_BYTES = 2**26


def check_destination(path: Path | str, suffixes: Sequence[str], overwrite: bool) -> Path:
    """Check, before any work is done, that a result can be written to ``path``.

    Args:
        path: where to write.
        suffixes: endings of the formats that can be written.
        overwrite: whether an existing file (or zarr folder) may be replaced.

    Returns:
        The path.

    Raises:
        DataError: another ending, no such folder, a folder that cannot be written, or an existing
            file that may not be replaced.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise DataError(
            f"Cannot save '{path.name}': the name must end in {listed(suffixes, 'or')}."
        )
    if not path.parent.is_dir():
        raise DataError(f"The folder '{path.parent}' does not exist: create it, or choose another.")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"The folder '{path.parent}' cannot be written: choose another.")
    # An export that was killed may have left the old result under another name.
    clear_leftovers(path)
    if path.exists() and not overwrite:
        raise DataError(f"'{path}' exists already: choose another name, or allow to replace it.")
    # Replacing a folder deletes all that is in it: never one with the user's other files.
    if path.is_dir() and not (
        path.suffix == ".zarr" and any((path / name).exists() for name in MARKERS)
    ):
        raise DataError(
            f"'{path}' is a folder and not a zarr image, so it is not overwritten: choose another "
            "name."
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
) -> Generator[TileDone, None, None]:
    """Save one (z, y, x) array as TIFF, or one or several as an OME-Zarr image with its pyramid.

    The arrays are read block by block; memory holds a block or a few sections.

    Args:
        channels: arrays of one shape; several become the axis c of the image.
        path: a checked path (see `check_destination`), ending in .tif, .tiff or .zarr.
        dtype: of the file; values are cast.
        grid: of the voxels; where sections are independent, their distance is left out.
        volume: name for the events.
        labels: whether values are numbers of classes or objects, of which there is no mean.

    Yields:
        An event per section (TIFF) or block (zarr). If stopped, it removes the partial file.

    Raises:
        DataError: the disk is full or cannot be written.
    """
    try:
        if path.suffix.lower() == ".zarr":
            yield from write_ome_zarr(channels, path, np.dtype(dtype), grid, volume, labels=labels)
        else:
            yield from _save_tiff(channels, path, np.dtype(dtype), grid, volume)
    except OSError as error:
        raise DataError(
            f"'{path}' cannot be written ({error.strerror}): make room, or choose another place."
        ) from None


def _save_tiff(
    channels: Sequence[Array],
    path: Path,
    dtype: np.dtype[Any],
    grid: VoxelGrid,
    volume: str,
) -> Generator[TileDone, None, None]:
    (array,) = channels
    depth, height, width = array.shape
    consumed = _consumed(
        lambda sections: write_tiff(path, sections, (depth, height, width), dtype, grid),
        _sections(array),
    )
    # Closed here, and not when it is collected as garbage, which would drop an interrupt.
    with contextlib.closing(consumed):
        for done in consumed:
            box = (done - 1, done, 0, height, 0, width)
            yield TileDone(volume=volume, box=box, done=done, total=depth)


def _sections(array: Array) -> Iterator[NDArray[Any]]:
    """Yield section by section, but read as many at once as a chunk spans, up to `_SLAB_BYTES`."""
    section_bytes = array.shape[1] * array.shape[2] * np.dtype(array.dtype).itemsize
    thickness = max(1, min(chunk_shape(array)[0], _SLAB_BYTES // max(section_bytes, 1)))
    for z in range(0, array.shape[0], thickness):
        # In a function of its own, so that no local variable keeps the slab while the next is read.
        yield from _copies(np.asarray(array[z : z + thickness]))


def _copies(slab: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield a copy of each section: a view would keep the whole slab while it waits."""
    for section in slab:
        yield section.copy()


class _Stopped(Exception):
    """Ends the writing thread when the user has stopped the export."""


def _consumed(write: Callable[[Iterable[Any]], None], items: Iterable[Any]) -> Generator[int]:
    """Yield the count after each item, while ``write`` takes them all in one call in a thread.

    tifffile's writer takes an iterator and returns only at the end of the file. The thread turns it
    into a generator that reports progress and can be stopped. Computing the next section and
    compressing the last one overlap.
    """
    # One item: enough for the overlap, and a second one would only take memory.
    waiting: Queue[Any] = Queue(maxsize=1)
    with ThreadPoolExecutor(1, "napari-emda-write") as pool:
        writing: Future[None] | None = None
        # Exceptions serve as end marks. `_Stopped` remains if the loop is left early, by an error
        # or by closing this generator: the writer must then fail and so remove its partial file.
        end: Exception = _Stopped()
        try:
            try:
                writing = pool.submit(write, _received(waiting))
                for count, item in enumerate(items, start=1):
                    _hand_over(waiting, item, writing)
                    yield count
                end = StopIteration()
            finally:
                if writing is None or not writing.done():
                    _hand_over(waiting, end, writing)
        except KeyboardInterrupt:
            # It may have come while the mark was handed over: without one, the writer would wait
            # for ever, and the pool for the writer. A further one comes two seconds later at most.
            with contextlib.suppress(Exception):
                _hand_over(waiting, end, writing)
            raise
        writing.result()


def _hand_over(waiting: Queue[Any], item: Any, writing: Future[None] | None) -> None:
    """Put an item into the queue; raise the writer's error if it has failed meanwhile."""
    while writing is None or not writing.done():
        try:
            # Without a timeout this would wait forever for a writer that has failed. A tenth of a
            # second is short for the user and rare enough to cost nothing.
            return waiting.put(item, timeout=0.1)
        except Full:
            continue
    return writing.result()


def _received(waiting: Queue[Any]) -> Iterator[Any]:
    while not isinstance(item := waiting.get(), Exception):
        yield item
    if isinstance(item, _Stopped):
        raise item

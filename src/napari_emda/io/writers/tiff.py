"""TIFF and OME-TIFF, section by section."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Full, Queue
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import chunk_shape
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone
from napari_emda.io.tiff import OME_SUFFIXES, write_tiff
from napari_emda.io.writer import NewImage, Writer, writers

# Bytes of sections that are read at once from a chunked array. A chunk spans several sections and
# is decoded as a whole, so reading section by section would decode it several times. 64 MiB hold 16
# sections of 2048² uint8.
_SLAB_BYTES = 2**26


@writers.register("tiff")
class Tiff(Writer):
    """TIFF as ImageJ and Fiji open it, with their voxel size."""

    format: ClassVar = "TIFF"
    suffixes: ClassVar = (".tif", ".tiff")
    # What most users want comes first.
    rank: ClassVar = 2
    small_ids: ClassVar = True

    @classmethod
    def lost(cls, grid: VoxelGrid) -> str:
        """The position, for which ImageJ's format has no place."""
        if not any(grid.origin):
            return ""
        z, y, x = grid.origin
        return (
            f"A TIFF does not state that its first voxel lies at {z:g}, {y:g}, {x:g} {grid.unit} "
            "(z, y, x): OME-TIFF and OME-Zarr do."
        )

    @classmethod
    def write(cls, image: NewImage, path: Path) -> Generator[TileDone, None, None]:
        """Write the sections of all channels, one channel after the other."""
        depth, height, width = image.shape
        names = image.names or [str(number) for number in range(len(image.channels))]
        channels = names if len(image.channels) > 1 else ()
        consumed = _consumed(
            lambda sections: write_tiff(
                path, sections, image.shape, image.dtype, image.grid, channels
            ),
            (section for array in image.channels for section in _sections(array)),
        )
        total = depth * len(image.channels)
        # Closed here, and not when it is collected as garbage, which would drop an interrupt.
        with contextlib.closing(consumed):
            for done in consumed:
                z = (done - 1) % depth
                box = (z, z + 1, 0, height, 0, width)
                yield TileDone(volume=image.volume, box=box, done=done, total=total)


@writers.register("ome_tiff")
class OmeTiff(Tiff):
    """OME-TIFF, with names of channels, voxel size, and the position of each plane."""

    format: ClassVar = "OME-TIFF"
    suffixes: ClassVar = OME_SUFFIXES
    rank: ClassVar = 1
    takes_channels: ClassVar = True

    @classmethod
    def lost(cls, grid: VoxelGrid) -> str:
        """Nothing."""
        return ""


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

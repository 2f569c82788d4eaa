"""Arrays into TIFF or OME-Zarr files piece by piece, with progress; under its name a file is complete or absent."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Full, Queue
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import block_shape, blocks, chunk_shape
from napari_emda.data.box import Box
from napari_emda.data.units import nanometres
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.events import TileDone
from napari_emda.io.atomic import replacing_folder
from napari_emda.io.readers.ome_zarr import MARKERS
from napari_emda.io.tiff import write_tiff

VOLUME_FORMATS = {"TIFF": (".tif", ".tiff"), "OME-Zarr": (".zarr",)}
"""Endings of the images that can be written, the usual one first."""
VOLUME_SUFFIXES = tuple(suffix for suffixes in VOLUME_FORMATS.values() for suffix in suffixes)
CHUNK = (16, 256, 256)
"""Chunk of the OME-Zarr volumes: a MiB of uint8, quick to browse in every direction."""

_SLAB_BYTES = 2**26
UNITS = {
    1e-3: "picometer",
    0.1: "angstrom",
    1.0: "nanometer",
    1e3: "micrometer",
    1e6: "millimeter",
    1e9: "meter",
}


def claim(path: Path | str, suffixes: Sequence[str], overwrite: bool) -> Path:
    """Check, before any work is done, that a result can be written to ``path``.

    Args:
        path: where to.
        suffixes: endings of the kinds of file that can be written.
        overwrite: whether an existing file (or zarr folder) may be replaced.

    Returns:
        The path.

    Raises:
        DataError: another ending, no such folder, a folder that cannot be written, or something that is there already
            and may not be replaced.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise DataError(
            f"'{path.name}' is no file that this can be saved as: let its name end in {_or(suffixes)}."
        )
    if not path.parent.is_dir():
        raise DataError(f"The folder '{path.parent}' does not exist: create it, or choose another.")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"The folder '{path.parent}' cannot be written: choose another.")
    if path.exists() and not overwrite:
        raise DataError(f"'{path}' exists already: choose another name, or allow to overwrite it.")
    if path.is_dir() and not (
        path.suffix == ".zarr" and any((path / name).exists() for name in MARKERS)
    ):
        raise DataError(
            f"'{path}' is a folder and no zarr image, so it is not overwritten: choose another name."
        )
    return path


def _or(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def save_volume(
    channels: Sequence[Array],
    path: Path,
    dtype: DTypeLike,
    grid: VoxelGrid,
    volume: str = "",
) -> Generator[TileDone, None, None]:
    """Save (z, y, x) arrays, read piece by piece: one to a TIFF, one or several to an OME-Zarr image.

    Args:
        channels: arrays of one shape; several become the axis c of the image.
        path: a claimed path, ending in .tif, .tiff or .zarr.
        dtype: what is written.
        grid: of the voxels; where sections are independent, their distance is left out.
        volume: name for the events.

    Yields:
        An event per section (TIFF) or block (zarr). Stopping removes what was begun.

    Raises:
        DataError: the disk is full or cannot be written.
    """
    write = _save_zarr if path.suffix.lower() == ".zarr" else _save_tiff
    try:
        yield from write(channels, path, np.dtype(dtype), grid, volume)
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
    z, y, x = array.shape
    consumed = _consumed(
        lambda sections: write_tiff(path, sections, (z, y, x), dtype, grid),
        _sections(array),
    )
    for done in consumed:
        yield TileDone(volume=volume, box=(done - 1, done, 0, y, 0, x), done=done, total=z)


def _sections(array: Array) -> Iterator[NDArray[Any]]:
    """One section after the other; as many at once as lie in one chunk of the file, while that is little memory."""
    section_bytes = array.shape[1] * array.shape[2] * np.dtype(array.dtype).itemsize
    thickness = max(1, min(chunk_shape(array)[0], _SLAB_BYTES // max(section_bytes, 1)))
    for z in range(0, array.shape[0], thickness):
        yield from _copies(np.asarray(array[z : z + thickness]))


def _copies(slab: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Each section by itself: a view of the last one would keep the slab while the next is read."""
    for section in slab:
        yield section.copy()


class _Stopped(Exception):
    """Ends a writer whose reader has gone."""


def _consumed(write: Callable[[Iterable[Any]], None], items: Iterable[Any]) -> Iterator[int]:
    """Yield after each item, while ``write`` consumes them all in one call in a thread.

    Turns a writer that pulls into a generator that can report and be stopped; computing the next section and
    compressing the last one overlap.
    """
    waiting: Queue[Any] = Queue(maxsize=1)
    with ThreadPoolExecutor(1, "napari-emda-write") as pool:
        writing = pool.submit(write, _received(waiting))
        end: Exception = _Stopped()
        try:
            for count, item in enumerate(items, start=1):
                _hand_over(waiting, item, writing)
                yield count
            end = StopIteration()
        finally:
            if not writing.done():
                _hand_over(waiting, end, writing)
        writing.result()


def _hand_over(waiting: Queue[Any], item: Any, writing: Future[None]) -> None:
    while True:
        try:
            return waiting.put(item, timeout=0.1)
        except Full:
            if writing.done():  # it failed: nobody will take the item
                return writing.result()


def _received(waiting: Queue[Any]) -> Iterator[Any]:
    while not isinstance(item := waiting.get(), Exception):
        yield item
    if isinstance(item, _Stopped):
        raise item


def _save_zarr(
    channels: Sequence[Array],
    path: Path,
    dtype: np.dtype[Any],
    grid: VoxelGrid,
    volume: str,
) -> Generator[TileDone, None, None]:
    shape, several = channels[0].shape, len(channels) > 1
    with replacing_folder(path) as partial:
        axes = (len(channels), *shape) if several else shape
        image = _create_image(
            partial,
            axes,
            dtype,
            _ome_attributes("czyx"[-len(axes) :], grid, path.stem),
        )
        boxes = blocks(Box.whole(shape), block_shape(image))
        for done, box in enumerate(boxes, start=1):
            for channel, array in enumerate(channels):
                at = (channel, *box.slices) if several else box.slices
                image[at] = np.asarray(array[box.slices]).astype(dtype, copy=False)
            if done < len(boxes):  # the last one is told when the file has its name
                yield TileDone(volume=volume, box=box.bounds, done=done, total=len(boxes))
    yield TileDone(volume=volume, box=boxes[-1].bounds, done=len(boxes), total=len(boxes))


def _create_image(
    folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any], attributes: dict[str, Any]
) -> zarr.Array[Any]:
    """An empty OME-Zarr 0.5 image of one level."""
    group = zarr.create_group(folder, attributes={"ome": attributes}, overwrite=True, zarr_format=3)
    chunks = tuple(
        max(1, min(side, n)) for side, n in zip((1, *CHUNK)[-len(shape) :], shape, strict=True)
    )
    names = list("czyx"[-len(shape) :])
    return group.create_array(
        "0", shape=shape, dtype=dtype, chunks=chunks, fill_value=0, dimension_names=names
    )


def _ome_attributes(axes: str, grid: VoxelGrid, name: str) -> dict[str, Any]:
    # Importing these models takes longer than writing a small file: only those who need them pay.
    from ome_zarr_models.v05.axes import Axis
    from ome_zarr_models.v05.image import ImageAttrs
    from ome_zarr_models.v05.multiscales import Dataset, Multiscale

    if nanometres(grid.unit) not in UNITS:
        grid = grid.in_nanometres()
    length = UNITS.get(nanometres(grid.unit) or 0)
    spaces = [
        Axis(name=axis, type="space", unit=length if axis in grid.axes else None) for axis in "zyx"
    ]
    sides = [
        float(side) if axis in grid.axes else 1.0
        for axis, side in zip("zyx", grid.spacing, strict=True)
    ]
    channel = [Axis(name="c", type="channel")] if axes[0] == "c" else []
    scale = [1.0] * len(channel) + sides
    level = Dataset.build(path="0", scale=scale, translation=None)
    image = Multiscale(axes=(*channel, *spaces), datasets=(level,), name=name)
    attributes: dict[str, Any] = ImageAttrs(multiscales=[image], version="0.5").model_dump(
        mode="json", exclude_none=True
    )
    return attributes

"""The arrays that hold the annotations, one per volume; painting writes to them at once."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.codecs import ZstdCodec

from napari_emda.data.box import Box
from napari_emda.errors import DataError
from napari_emda.io.atomic import sync
from napari_emda.io.checked_store import DurableStore, open_array
from napari_emda.io.safe_files import inside

# Side of a chunk in pixels. A stroke rewrites every chunk that it touches, and accepting a patch
# syncs them to disk one by one: larger chunks make each stroke slower, smaller ones make more files
# to sync. 256 x 256 voxels are 64 KiB before compression.
CHUNK = 256

# Sides of the chunks that were ever written. A description with others is damaged: the chunks on
# the disk would be read as other parts of the volume.
_SIDES = (CHUNK, 512)

# Written quickly, and with a checksum: what a disk has spoilt is noticed, and not taken for paint.
_COMPRESSION = ZstdCodec(level=0, checksum=True)

# The name of a chunk's file or folder; no axis has more chunks.
_INDEX = re.compile("[0-9]{1,10}")


def check_fits(name: str, annotations: zarr.Array[Any], shape: tuple[int, ...]) -> None:
    """Check that annotations belong to an image.

    Args:
        name: of the volume.
        annotations: of the volume.
        shape: of its image, (z, y, x).

    Raises:
        DataError: they have another shape, so that they would lie in the wrong place.
    """
    if tuple(annotations.shape) != tuple(shape):
        theirs, its = (" x ".join(map(str, sides)) for sides in (annotations.shape, shape))
        raise DataError(
            f"The annotations of '{name}' are for {theirs} voxels, and its image has {its}: put "
            "the image back that was annotated."
        )


class AnnotationArrays:
    """One uint8 (z, y, x) array per volume: 0 = not annotated, k = class k - 1.

    Args:
        folder: of the project; the arrays are in ``annotations/``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """The volumes that have annotations, in alphabetical order."""
        folder = inside(self._folder, "annotations")
        return sorted(path.stem for path in folder.glob("*.zarr") if path.stem)

    def open(self, name: str) -> zarr.Array[Any] | None:
        """The annotations of a volume for reading; None when there are none yet."""
        return self._opened(name, "r") if self._exists(name) else None

    def open_to_write(self, name: str) -> zarr.Array[Any]:
        """The annotations of a volume for writing; they must exist."""
        return self._opened(name, "r+")

    def require(self, name: str, shape: tuple[int, ...]) -> zarr.Array[Any]:
        """The annotations of a volume of this shape for writing, made when there are none yet."""
        if self._exists(name):
            array = self._opened(name, "r+")
            check_fits(name, array, shape)
            return array
        self.describe(name, shape)
        return self._opened(name, "r+")

    def describe(self, name: str, shape: tuple[int, ...]) -> None:
        """Write the description of annotations of this shape; chunks that are there stay."""
        path = self._path(name)
        zarr.create_array(
            DurableStore(path),
            shape=shape,
            dtype="uint8",
            chunks=_chunks(shape, CHUNK),
            compressors=_COMPRESSION,
            fill_value=0,
        )
        # Before any chunk: without its description, nobody could read it.
        for folder in (path, path.parent, self._folder):
            sync(folder)

    def painted(self, name: str) -> tuple[Box, ...]:
        """The chunks of a volume in which anything was ever painted."""
        array = self.open(name)
        if array is None:
            return ()
        # The files tell where a volume was annotated, without reading all of it: zarr stores no
        # chunk that is empty. A chunk's file is named c/<z>/<y>/<x>.
        boxes = []
        depth, height, width = array.chunks
        for path in self._path(name).glob("c/*/*/*"):
            indices = path.parts[-3:]
            if not all(_INDEX.fullmatch(index) for index in indices):
                continue  # a chunk that is being written, or was when the program crashed
            z, y, x = (int(index) for index in indices)
            start = (z * depth, y * height, x * width)
            # A chunk that is no part of the array: nothing reads it.
            if any(low >= side for low, side in zip(start, array.shape, strict=True)):
                continue
            stop = (start[0] + depth, start[1] + height, start[2] + width)
            boxes.append(Box(start, stop).clip(array.shape))
        return tuple(boxes)

    def sync(self, name: str, box: Box) -> None:
        """Wait until the annotations in a box are on the disk, safe from a power failure."""
        array = self.open(name)
        assert array is not None
        folders: set[Path] = set()
        for path in self._files(name, box, array.chunks):
            sync(path)
            # A new file is lost if the entry in its folder is. The first chunk creates y, z, c,
            # the array and annotations/; the sixth parent, the project's folder, holds the last.
            folders.update(path.parents[:6])
        # Innermost first: an entry must not reach the disk before the folder that it names.
        for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
            sync(folder)

    def _opened(self, name: str, mode: Literal["r", "r+"]) -> zarr.Array[Any]:
        """The array of a volume; DataError if it is another kind of array than ours."""
        array = open_array(self._path(name), mode, durable=True)
        if array.ndim != 3 or array.dtype != "uint8":
            raise DataError(
                f"The annotations of '{name}' are not numbers of classes in z, y, x: restore "
                f"'{self._path(name)}' from a backup."
            )
        if array.chunks not in [_chunks(array.shape, side) for side in _SIDES]:
            raise DataError(
                f"The annotations of '{name}' are described by a damaged "
                f"'{self._path(name) / 'zarr.json'}': mend it with napari-emda check --repair."
            )
        return array

    def _exists(self, name: str) -> bool:
        """Whether there is more than a folder that a crash has left empty."""
        path = self._path(name)
        if not path.is_dir():
            return path.exists()
        # The name of what is being written begins with a dot.
        return any(not entry.name.startswith(".") for entry in path.iterdir())

    def _path(self, name: str) -> Path:
        return inside(self._folder, "annotations", f"{name}.zarr")

    def _files(self, name: str, box: Box, chunks: tuple[int, ...]) -> Iterator[Path]:
        """The files of the chunks that a box meets, whether they exist or not."""
        indices = [
            range(start // side, math.ceil(stop / side))
            for start, stop, side in zip(box.start, box.stop, chunks, strict=True)
        ]
        for z, y, x in itertools.product(*indices):
            yield self._path(name) / "c" / str(z) / str(y) / str(x)


def _chunks(shape: tuple[int, ...], side: int) -> tuple[int, ...]:
    """Chunks of one section and this side, for annotations of this shape."""
    return (1, min(side, shape[1]), min(side, shape[2]))

"""What is painted in the volumes of a project, on disk as it is painted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zarr

from napari_emda.data.box import Box
from napari_emda.io.atomic import sync

CHUNK = 256
"""Side of a chunk: a stroke rewrites the chunks that it touches, each whole or not at all."""


class AnnotationArrays:
    """One uint8 (z, y, x) array per volume: 0 = not annotated, k = class k - 1.

    Args:
        folder: ``annotations/`` of the project.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str) -> zarr.Array[Any] | None:
        """The annotations of a volume for reading; None when there are none yet."""
        path = self._path(name)
        return zarr.open_array(path, mode="r") if path.exists() else None

    def require(self, name: str, shape: tuple[int, ...]) -> zarr.Array[Any]:
        """The annotations of a volume of this shape for writing, made when there are none yet."""
        path = self._path(name)
        if path.exists():
            return zarr.open_array(path, mode="r+")
        chunks = (1, min(CHUNK, shape[1]), min(CHUNK, shape[2]))
        return zarr.create_array(path, shape=shape, dtype="uint8", chunks=chunks, fill_value=0)

    def painted(self, name: str) -> tuple[Box, ...]:
        """The chunks that were ever painted in: those that have a file."""
        array = self.open(name)
        if array is None:
            return ()
        boxes = []
        for path in self._path(name).glob("c/*/*/*"):
            if not path.name.isdigit():
                continue  # being written, or left so by a crash
            corner = [int(part) * n for part, n in zip(path.parts[-3:], array.chunks, strict=True)]
            stop = [a + n for a, n in zip(corner, array.chunks, strict=True)]
            boxes.append(Box(tuple(corner), tuple(stop)).clip(array.shape))  # type: ignore[arg-type]
        return tuple(boxes)

    def sync(self, name: str, box: Box) -> None:
        """Put what was painted in a box on the disk itself: the chunks under it, and their names."""
        array = self.open(name)
        assert array is not None
        folders: set[Path] = set()
        for path in self._files(name, box, array.chunks):
            sync(path)
            folders.update(
                path.parents[:6]
            )  # a first chunk has made all of them, up to the project's own
        for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
            sync(folder)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.zarr"

    def _files(self, name: str, box: Box, chunks: tuple[int, ...]) -> Iterator[Path]:
        ranges = [
            range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, chunks, strict=True)
        ]
        for z in ranges[0]:
            for y in ranges[1]:
                for x in ranges[2]:
                    yield self._path(name) / "c" / str(z) / str(y) / str(x)

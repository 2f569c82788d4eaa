"""Planes of CZI files, decoded by Zeiss's library where they are sliced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.lazy import Lazy3D

if TYPE_CHECKING:
    from pylibCZIrw.czi import CziReader


class Rectangle(NamedTuple):
    """A part of a plane, in pixels; its corner may lie anywhere."""

    x: int
    y: int
    w: int
    h: int

    @classmethod
    def around(cls, parts: Sequence[Rectangle]) -> Rectangle:
        """The smallest one that holds all of some."""
        x = min(part.x for part in parts)
        y = min(part.y for part in parts)
        right = max(part.x + part.w for part in parts)
        bottom = max(part.y + part.h for part in parts)
        return cls(x, y, right - x, bottom - y)


# Reads a part, relative to the corner of the planes, of the section with a number of the file.
Read = Callable[[int, Rectangle], NDArray[Any]]


def read_planes(file: CziReader, at: dict[str, int], whole: Rectangle, kind: str) -> Read:
    """What reads parts of the planes of a volume.

    Args:
        file: open; one thread at a time reads from it.
        at: position along all axes but z, by Zeiss's letters; ``S`` is the scene.
        whole: where the planes lie.
        kind: libCZI's name for the type of the voxels.

    Returns:
        A function (section, part) -> (rows, columns) of that type; 0 where no tile lies.
    """
    lock = threading.Lock()
    scene = at.get("S")
    plane = {axis: position for axis, position in at.items() if axis != "S"}

    def read(section: int, part: Rectangle) -> NDArray[Any]:
        roi = (whole.x + part.x, whole.y + part.y, part.w, part.h)
        with lock:
            values = file.read(roi, plane | {"Z": section}, scene, pixel_type=kind)
        return np.asarray(values)[..., 0]

    return read


class Tiles(Lazy3D):
    """A mosaic, of which those tiles are decoded that a slice meets.

    Args:
        read: see `Read`.
        sections: numbers of the sections in the file.
        shape: sections, rows, columns.
        dtype: of the voxels.
        tile: rows and columns of the largest tile.
    """

    def __init__(
        self,
        read: Read,
        sections: Sequence[int],
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        tile: tuple[int, int],
    ) -> None:
        super().__init__(shape, dtype)
        self._read_part = read
        self._sections = sections
        self.chunks = (1, *tile)

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        sections, rows, columns = (range(s.start, s.stop, s.step) for s in (z, y, x))
        values = np.empty((len(sections), len(rows), len(columns)), self.dtype)
        if not values.size:
            return values
        part = Rectangle(columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
        for i, section in enumerate(sections):
            read = self._read_part(self._sections[section], part)
            values[i] = read[:: rows.step, :: columns.step]
        return values

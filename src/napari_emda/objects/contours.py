"""The outlines of objects, section by section."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.events import TileDone


@dataclass(frozen=True)
class Contour:
    """A closed outline of an object in a section; a hole has one of its own.

    Attributes:
        object_id: number of the object.
        section: index of the section.
        corners: n x 2, y and x, in pixels from the centre of the first one; the first corner does
            not stand at the end again.
    """

    object_id: int
    section: int
    corners: NDArray[np.float64]


def find_contours_of(objects: Array, volume: str = "") -> Generator[TileDone, None, list[Contour]]:
    """Outline each object in each section, half-way between its pixels and those around.

    Outlines are closed where the border of the volume cuts an object. Pixels that touch at a corner
    alone have outlines of their own. Memory is bounded by a section and the outlines.

    Args:
        objects: (Z, Y, X) integer ids, 0 being background; read lazily.
        volume: name for the events.

    Yields:
        An event per section.

    Returns:
        All outlines, section by section.
    """
    found: list[Contour] = []
    sections, rows, columns = objects.shape
    for z in range(sections):
        found += _of_section(np.asarray(objects[z]), z)
        box = Box((z, 0, 0), (z + 1, rows, columns))
        yield TileDone(volume=volume, box=box.bounds, done=z + 1, total=sections)
    return found


def _of_section(ids: NDArray[np.integer], z: int) -> list[Contour]:
    """The outlines in a section (y, x)."""
    found: list[Contour] = []
    for number, place in enumerate(ndimage.find_objects(ids.astype(np.int32)), start=1):
        if place is None:
            continue
        # A rim of background, so that what the border cuts is closed.
        mask = np.pad(ids[place] == number, 1).astype(np.float32)
        corner = np.array([part.start for part in place]) - 1
        for outline in find_contours(mask, 0.5):
            found.append(Contour(number, z, _turns(outline[:-1]) + corner))
    return found


def _turns(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of a ring at which it turns; all lie at whole and half pixels."""
    before = ring - np.roll(ring, 1, axis=0)
    after = np.roll(ring, -1, axis=0) - ring
    return ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]

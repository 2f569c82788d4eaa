"""The numbers in labels: where those lie that stand for no class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError

Wrong = Callable[[NDArray[Any]], NDArray[np.bool_]]
"""Which of some numbers stand for no class."""


@dataclass(frozen=True)
class WrongNumbers:
    """Numbers in an array that stand for no class, and where they lie.

    Attributes:
        counts: voxels by number; empty if all numbers are classes.
        boxes: the smallest box around them in each section (z) that holds any.
    """

    counts: dict[float, int]
    boxes: dict[int, Box]

    def __bool__(self) -> bool:
        return bool(self.counts)

    def moved(self, start: tuple[int, int, int]) -> WrongNumbers:
        """The same, counted from another first voxel (z, y, x)."""
        return WrongNumbers(
            self.counts,
            {z + start[0]: box.moved(start) for z, box in self.boxes.items()},
        )

    def in_words(self) -> str:
        """Such as "3 in 40 voxels of section 4 (y 70 to 71, x 50 to 89)"."""
        # `:g` writes what is not a whole number with its fraction.
        numbers = " and ".join(f"{number:g}" for number in sorted(self.counts)[:3])
        if len(self.counts) > 3:
            numbers = f"{numbers} and {len(self.counts) - 3} other numbers"
        total = sum(self.counts.values())
        voxels = "1 voxel" if total == 1 else f"{total} voxels"
        z = min(self.boxes)
        _, _, y0, y1, x0, x1 = self.boxes[z].bounds
        place = f"section {z} (y {y0} to {y1 - 1}, x {x0} to {x1 - 1})"
        others = len(self.boxes) - 1
        if others:
            place += f" and {others} other section{'s' if others > 1 else ''}"
        return f"{numbers} in {voxels} of {place}"


def wrong_numbers(array: Array, wrong: Wrong, boxes: Iterable[Box]) -> WrongNumbers:
    """Search an array (z, y, x) for numbers that stand for no class.

    Args:
        array: read box by box, so that memory holds one of them.
        wrong: marks the numbers to find.
        boxes: disjoint, where to search.
    """
    counts: dict[float, int] = {}
    places: dict[int, Box] = {}
    for box in boxes:
        values = np.asarray(array[box.slices])
        marked = wrong(values)
        if not marked.any():
            continue
        numbers, number_counts = np.unique(values[marked], return_counts=True)
        for number, count in zip(numbers.tolist(), number_counts.tolist(), strict=True):
            # Each NaN is a key of its own unless it is the same object.
            key = number if number == number else math.nan
            counts[key] = counts.get(key, 0) + count
        for z in np.flatnonzero(marked.any((1, 2))).tolist():
            _, y0, x0 = box.start
            rows = np.flatnonzero(marked[z].any(1))
            columns = np.flatnonzero(marked[z].any(0))
            found = Box(
                (box.start[0] + z, y0 + int(rows[0]), x0 + int(columns[0])),
                (box.start[0] + z + 1, y0 + int(rows[-1]) + 1, x0 + int(columns[-1]) + 1),
            )
            place = places.get(box.start[0] + z)
            places[box.start[0] + z] = found if place is None else place.around(found)
    return WrongNumbers(counts, places)


def not_annotations(classes: int) -> Wrong:
    """Marks numbers that are neither 0 (not annotated) nor k = class k - 1."""

    def wrong(values: NDArray[Any]) -> NDArray[np.bool_]:
        # NaN fails every comparison, and must count as wrong.
        whole = values == np.floor(values) if values.dtype.kind == "f" else True
        return ~((values >= 0) & (values <= classes) & whole)

    return wrong


def check_annotations(volume: Volume) -> None:
    """Check that everything that is annotated in a volume is a class of the project.

    Raises:
        DataError: it names the numbers, where they lie, and what to do.
    """
    if volume.annotations is None:
        return
    found = wrong_numbers(volume.annotations, not_annotations(volume.classes), volume.annotated)
    if found:
        raise DataError(annotation_message(volume.name, found, volume.classes))


def annotation_message(volume: str, found: WrongNumbers, classes: int) -> str:
    """One sentence on painted numbers that are no class, and what to do."""
    return (
        f"The annotations of '{volume}' hold the number {found.in_words()}, and only 1 to "
        f"{classes} are classes: erase or repaint these voxels in Annotate, or replace them from "
        "a label image with 'napari-emda annotate --regions all'."
    )


def check_labels_now(volume: Volume, ids: Iterable[int]) -> None:
    """Check that class ids that were read from a volume's label file are classes of the project.

    The file was checked when it became part of the project, and may have changed since.

    Raises:
        DataError: it names the numbers and where they lie.
    """
    if volume.labels is None or max(ids, default=0) < volume.classes:
        return
    highest = volume.classes - (volume.labels_zero == "background")
    found = wrong_numbers(volume.labels, lambda values: values > highest, volume.label_boxes)
    raise DataError(
        f"The labels of '{volume.name}' hold the number {found.in_words()}, and only 0 to "
        f"{highest} have a meaning: correct the file, or put the old one back."
    )

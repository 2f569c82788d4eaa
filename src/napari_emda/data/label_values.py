"""The numbers in labels: which occur, and where wrong ones lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import strips
from napari_emda.data.box import Box
from napari_emda.data.label_likeness import holds_pieces
from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.data.lazy import Lazy3D
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError

# Different numbers that are counted at most: labels of objects may hold millions, and then only the
# smallest and the largest matter.
_MOST_NUMBERS = 2**16
# Whole numbers beyond this have no exact decimal number of 64 bits.
_LARGEST_EXACT = 2**53

Wrong = Callable[[NDArray[Any]], NDArray[np.bool_]]
"""Which of some numbers stand for no class."""


class _WholeNumbers(Lazy3D):
    """Decimal numbers that are whole, as int64 (z, y, x)."""

    def __init__(self, array: Array, name: str) -> None:
        z, y, x = array.shape
        super().__init__((z, y, x), np.int64)
        self.chunks = getattr(array, "chunks", None)
        self._array = array
        self._name = name

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        values = np.asarray(self._array[z, y, x]).astype(np.float64)
        # NaN is not equal to itself.
        if not ((values == np.round(values)) & (np.abs(values) <= _LARGEST_EXACT)).all():
            raise DataError(
                f"'{self._name}' holds decimal numbers, as probabilities are, but labels are whole "
                "numbers: choose labels, or turn it into a mask by a threshold first."
            )
        return values.astype(np.int64)


def whole_numbers(array: Array, name: str) -> Array:
    """Labels (z, y, x) as whole numbers, whatever type they have.

    Programs that know decimal numbers only store labels as 0.0 and 1.0.

    Args:
        array: of any real type; read where the result is sliced.
        name: of the labels, for the message.

    Returns:
        The array itself if it has a type of whole numbers. Otherwise int64; DataError is raised
        where numbers are read that are not whole.
    """
    return _WholeNumbers(array, name) if np.dtype(array.dtype).kind == "f" else array


@dataclass(frozen=True)
class LabelValues:
    """The numbers that occur in labels.

    Attributes:
        counts: voxels by number; of very many numbers, only the smallest and the largest.
        sections: how many were read.
        uniform: of these, how many hold a single number, by this number.
        surrounding: the number of more than half of the voxels if 0 lies within it in pieces, as in
            a mask whose objects are 0; otherwise None.
    """

    counts: dict[int, int]
    sections: int
    uniform: dict[int, int]
    surrounding: int | None = None

    def hint(self, meaning: LabelMeaning) -> str:
        """One clause if half of the sections or more hold background only; otherwise empty."""
        empty = self.uniform.get(meaning.background or 0, 0)
        # In volumes that are labelled throughout, few sections hold no structure at all.
        if meaning.labelled_sections or not self.sections / 2 <= empty < self.sections:
            return ""
        return f"{empty} of {self.sections} sections hold no label"

    def without(self, numbers: Iterable[int]) -> list[int]:
        """The other numbers, in ascending order."""
        return sorted(self.counts.keys() - set(numbers))


def inspect(labels: Array, most_sections: int | None = None) -> LabelValues:
    """Count the numbers in labels, section by section.

    Args:
        labels: integers (z, y, x).
        most_sections: read no more than these, evenly spaced, for an early answer on a large
            volume; by default all.
    """
    depth = labels.shape[0]
    # Rounding may name a section twice.
    chosen = np.linspace(0, depth - 1, min(depth, most_sections or depth)).round()
    sections = sorted(set(chosen.astype(int).tolist()))
    counts: dict[int, int] = {}
    uniform: dict[int, int] = {}
    _, rows, columns = labels.shape
    for z in sections:
        found: dict[int, int] = {}
        for strip in strips(Box((z, 0, 0), (z + 1, rows, columns))):
            for number, count in _counted(np.asarray(labels[strip.slices])).items():
                found[number] = found.get(number, 0) + count
        for number, count in found.items():
            if len(found) == 1:
                uniform[number] = uniform.get(number, 0) + 1
            counts[number] = counts.get(number, 0) + count
        if len(counts) > _MOST_NUMBERS:
            numbers = sorted(counts)
            kept = {*numbers[: _MOST_NUMBERS // 2], *numbers[-_MOST_NUMBERS // 2 :]}
            counts = {number: counts[number] for number in kept}
    return LabelValues(counts, len(sections), uniform, _surrounding(counts, labels))


def _surrounding(counts: dict[int, int], labels: Array) -> int | None:
    """See `LabelValues`; the sections are read only where the counts leave it open."""
    most = max(counts, key=lambda number: counts[number])
    if most == 0 or 0 not in counts or counts[most] <= sum(counts.values()) / 2:
        return None
    return most if holds_pieces(labels) else None


def _counted(section: NDArray[Any]) -> dict[int, int]:
    """Voxels by number."""
    if section.dtype.kind in "bu" and section.dtype.itemsize == 1:
        # Much faster than sorting, which `unique` does.
        counts = np.bincount(section.ravel())
        return {number: int(counts[number]) for number in np.flatnonzero(counts).tolist()}
    numbers, occurrences = np.unique(section, return_counts=True)
    return dict(zip(numbers.tolist(), occurrences.tolist(), strict=True))


def voxels(count: int) -> str:
    """A number of voxels in words."""
    return "1 voxel" if count == 1 else f"{count} voxels"


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
        z = min(self.boxes)
        _, _, y0, y1, x0, x1 = self.boxes[z].bounds
        place = f"section {z} (y {y0} to {y1 - 1}, x {x0} to {x1 - 1})"
        others = len(self.boxes) - 1
        if others:
            place += f" and {others} other section{'s' if others > 1 else ''}"
        return f"{numbers} in {voxels(total)} of {place}"


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
        f"{classes} are classes: erase or repaint these voxels, or annotate the volume "
        "again from a label image."
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

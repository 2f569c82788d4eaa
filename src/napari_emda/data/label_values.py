"""The numbers in labels: which occur, what must be asked, and where wrong ones lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError

# Different numbers that are counted at most: labels of objects may hold millions, and then only the
# smallest and the largest matter.
_MOST_NUMBERS = 2**16
# The number for "nobody looked" is the largest of its type, by convention: 255 as in PASCAL VOC, or
# -1 that became unsigned. It is told from the number of an object by the other numbers, which are
# few and small: up to 32 classes, more than any atlas of organelles has.
_FEW_NUMBERS = 32
_LARGEST_OF_TYPES = tuple(2**bits - 1 for bits in (8, 15, 16, 31, 32, 63, 64))
# From 32 bits on no object gets the largest number: there would have to be as many objects.
_NEVER_AN_OBJECT = 2**31 - 1

Wrong = Callable[[NDArray[Any]], NDArray[np.bool_]]
"""Which of some numbers stand for no class."""


@dataclass(frozen=True)
class LabelValues:
    """The numbers that occur in labels.

    Attributes:
        counts: voxels by number; of very many numbers, only the smallest and the largest.
        sections: how many were read.
        uniform: of these, how many hold a single number, by this number.
    """

    counts: dict[int, int]
    sections: int
    uniform: dict[int, int]

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
    for z in sections:
        found = _counted(np.asarray(labels[z]))
        for number, count in found.items():
            if len(found) == 1:
                uniform[number] = uniform.get(number, 0) + 1
            counts[number] = counts.get(number, 0) + count
        if len(counts) > _MOST_NUMBERS:
            numbers = sorted(counts)
            kept = {*numbers[: _MOST_NUMBERS // 2], *numbers[-_MOST_NUMBERS // 2 :]}
            counts = {number: counts[number] for number in kept}
    return LabelValues(counts, len(sections), uniform)


def _counted(section: NDArray[Any]) -> dict[int, int]:
    """Voxels by number."""
    if section.dtype.kind in "bu" and section.dtype.itemsize == 1:
        # Much faster than sorting, which `unique` does.
        counts = np.bincount(section.ravel())
        return {number: int(counts[number]) for number in np.flatnonzero(counts).tolist()}
    numbers, occurrences = np.unique(section, return_counts=True)
    return dict(zip(numbers.tolist(), occurrences.tolist(), strict=True))


@dataclass(frozen=True)
class Question:
    """What the user must say about labels before they can be used.

    Attributes:
        about: ``background``: which number is it; ``ignore``: did nobody look where ``number`` is.
        number: the likely answer.
        text: one sentence: what was found, and what it would do.
        otherwise: what to do if the likely answer is wrong, where no other answer helps.
    """

    about: Literal["background", "ignore"]
    number: int
    text: str
    otherwise: str = ""

    @property
    def remedy(self) -> str:
        """What to do, with the options of the command line that say yes and no."""
        option = f"--{self.about} {self.number}"
        if self.about == "background":
            return (
                f"say {option} if {self.number} means background, and --background 0 if nothing "
                "is background"
            )
        if self.otherwise:
            return f"{self.otherwise}, or say {option} if nobody looked there"
        # 0 is not background then, and numbers below it are no classes, whatever the user says.
        denial = "say --ignore none" if self.number > 0 else "give these voxels another number"
        return f"say {option} if nobody looked there, and {denial} if somebody did"


def question(values: LabelValues, meaning: LabelMeaning, classes: int) -> Question | None:
    """What must be asked about labels, None if their meaning is clear.

    Args:
        values: the numbers in the labels.
        meaning: what the user has said so far.
        classes: their number, background included.
    """
    said = {*(meaning.ignore or ()), *(() if meaning.background is None else (meaning.background,))}
    numbers = values.without(said)
    if numbers and numbers[0] < 0:
        void: int | None = numbers[0]
    else:
        # That 0 is ignored says nothing about 255, nor does a number that does not occur.
        says_nothing = meaning.ignore is None or (
            meaning.ignore and not values.counts.keys() & {*meaning.ignore} - {0}
        )
        void = _void(numbers) if says_nothing else None
    if void is not None:
        return Question(
            "ignore",
            void,
            f"the number {void} occurs ({_voxels(values.counts[void])}), which often means that "
            "nobody looked there",
        )
    if meaning.background is None and numbers and 0 not in values.counts:
        # Nobody numbers so many classes: an image was chosen, or objects that touch everywhere.
        many = len(numbers) > _FEW_NUMBERS
        grey = " (if these are grey values, choose the labels instead)" if many else ""
        return Question(
            "background",
            numbers[0],
            f"no voxel is 0 and the {f'{len(numbers)} ' if many else ''}numbers begin at "
            f"{numbers[0]}, so nothing would be background{grey}",
        )
    # Of two classes, 0 and 1 with 1 as background is a mask the other way round.
    if meaning.background and 0 in numbers and (classes > 2 or len(numbers) > 1):
        return Question(
            "ignore",
            0,
            f"0 occurs ({_voxels(values.counts[0])}) although {meaning.background} is the "
            "background",
        )
    return None


def _voxels(count: int) -> str:
    return "1 voxel" if count == 1 else f"{count} voxels"


def _void(numbers: Sequence[int]) -> int | None:
    """The number that probably means that nobody looked there."""
    if not numbers or numbers[-1] not in _LARGEST_OF_TYPES:
        return None
    *others, largest = [number for number in numbers if number]
    # Only 0 and 255 are a mask of 8 bits.
    if not others:
        return None
    return largest if largest >= _NEVER_AN_OBJECT or others[-1] <= _FEW_NUMBERS else None


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
        voxels = _voxels(total)
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

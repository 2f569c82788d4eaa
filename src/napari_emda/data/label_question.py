"""What must be asked about labels before anything is learnt from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.data.label_values import LabelValues, voxels

# The number for "nobody looked" is the largest of its type, by convention: 255 as in PASCAL VOC, or
# -1 that became unsigned. It is told from the number of an object by the other numbers, which are
# few and small: up to 32 classes, more than any atlas of organelles has.
_FEW_NUMBERS = 32
_LARGEST_OF_TYPES = tuple(2**bits - 1 for bits in (8, 15, 16, 31, 32, 63, 64))
# From 32 bits on no object gets the largest number: there would have to be as many objects.
_NEVER_AN_OBJECT = 2**31 - 1


@dataclass(frozen=True)
class Question:
    """What the user must say about labels before they can be used.

    Attributes:
        about: ``background``: which number is it; ``ignore``: did nobody look where ``number`` is.
        number: the likely answer.
        text: one sentence: what was found, and what it would do.
        otherwise: what to do if the likely answer is wrong, where no other answer helps.
        another: another number that may be the background.
    """

    about: Literal["background", "ignore"]
    number: int
    text: str
    otherwise: str = ""
    another: int | None = None

    @property
    def remedy(self) -> str:
        """What to do, with the options of the command line that say yes and no."""
        option = f"--{self.about} {self.number}"
        if self.about == "background" and self.another is not None:
            nothing = ", and --background 0 if nothing is" if self.another else ""
            return (
                f"say {option} if {self.number} means background, --background {self.another} if "
                f"{self.another} does{nothing}"
            )
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
            f"the number {void} occurs ({voxels(values.counts[void])}), which often means that "
            "nobody looked there",
        )
    if meaning.background is None and numbers and 0 not in values.counts:
        # Nobody numbers so many classes: an image was chosen, or objects that touch everywhere.
        many = len(numbers) > _FEW_NUMBERS
        grey = " (if these are grey values, choose the labels instead)" if many else ""
        # Of a mask of two numbers, either may be the background, which is the larger part mostly.
        mask = numbers if len(numbers) == 2 and classes == 2 else numbers[:1]
        likely = max(mask, key=lambda number: values.counts[number])
        return Question(
            "background",
            likely,
            f"no voxel is 0 and the {f'{len(numbers)} ' if many else ''}numbers begin at "
            f"{numbers[0]}, so nothing would be background{grey}",
            another=next((number for number in mask if number != likely), None),
        )
    if asked := _inverted(values, meaning, classes):
        return asked
    # Of two classes, 0 and 1 with 1 as background is a mask the other way round.
    if meaning.background and 0 in numbers and (classes > 2 or len(numbers) > 1):
        return Question(
            "ignore",
            0,
            f"0 occurs ({voxels(values.counts[0])}) although {meaning.background} is the "
            "background",
        )
    return None


def value_remark(
    values: Sequence[int], classes: Sequence[str], meaning: LabelMeaning, *, complete: bool
) -> str:
    """What the user should know about numbers that can be used; a clause, empty if nothing.

    Args:
        values: those that occur and are not ignored.
        classes: names, background first.
        meaning: of the values.
        complete: whether no other values occur, so that those that are missing are.
    """
    background = meaning.background or 0
    if len(classes) == 2:
        # Numbered objects, which is fine, or a mistake such as an image chosen instead of its
        # labels, which no check can tell from objects.
        if len([value for value in values if value != background]) < 2:
            return ""
        structure = f"all but {background} count" if background else "all above 0 count"
        return f"there are {len(values)} different values, and {structure} as '{classes[1]}'"
    numbers = [value for value in values if meaning.is_class(value, len(classes))]
    present = meaning.class_ids(np.array(numbers, np.int64), len(classes)).tolist()
    absent = [f"'{name}'" for number, name in enumerate(classes) if number not in present]
    # Labels without background are asked about, or the user has said that there is none.
    absent = [name for name in absent if name != f"'{classes[0]}'"]
    return f"no voxel is {' or '.join(absent)}" if absent and complete else ""


def _inverted(values: LabelValues, meaning: LabelMeaning, classes: int) -> Question | None:
    """The question about a mask that seems to be the other way round, with objects of 0."""
    most = values.surrounding
    # With more classes, 0 could not become one of them.
    if classes > 2 or meaning.background is not None or most is None:
        return None
    if {0, most} & {*(meaning.ignore or ())}:
        return None
    share = values.counts[most] / sum(values.counts.values())
    return Question(
        "background",
        most,
        f"{most} takes up {share:.0%} of the voxels and surrounds pieces of 0, as in a mask that "
        "is the other way round",
        another=0,
    )


def _void(numbers: Sequence[int]) -> int | None:
    """The number that probably means that nobody looked there."""
    if not numbers or numbers[-1] not in _LARGEST_OF_TYPES:
        return None
    *others, largest = [number for number in numbers if number]
    # Only 0 and 255 are a mask of 8 bits.
    if not others:
        return None
    return largest if largest >= _NEVER_AN_OBJECT or others[-1] <= _FEW_NUMBERS else None

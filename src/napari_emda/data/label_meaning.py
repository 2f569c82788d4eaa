"""What the numbers of a label image mean: background, a class, or that nobody looked there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.lazy import Lazy3D
from napari_emda.data.volume import IGNORE, LabelsZero


@dataclass(frozen=True)
class LabelMeaning:
    """What the user says about the numbers in labels.

    In a project of two classes, every number that is neither background nor ignored is the
    foreground. With more classes, the numbers from 1 on are the classes in their order, without
    that of the background: with 1 as background, 2 is the first class and 3 the second.

    Attributes:
        background: the number of the background. None if nobody said it: 0 then, and labels
            without any 0 are refused with a question.
        ignore: the numbers that say that nobody looked there. None if nobody said it: numbers that
            look like it are refused with a question.
        labelled_sections: whether sections without any label are unlabelled, rather than
            background.
    """

    background: int | None = None
    ignore: tuple[int, ...] | None = None
    labelled_sections: bool = False

    @classmethod
    def of_zero(cls, zero: LabelsZero) -> LabelMeaning:
        """That of labels of which only the meaning of 0 is known, see `data.volume.Volume`."""
        return cls() if zero == "background" else cls(background=1, ignore=(0,))

    @property
    def as_zero(self) -> LabelsZero | None:
        """The same as a meaning of 0; None if there is more to say."""
        if self.labelled_sections:
            return None
        if not self.background and not self.ignore:
            return "background"
        return "unannotated" if (self.background, self.ignore) == (1, (0,)) else None

    @property
    def is_partial(self) -> bool:
        """Whether 0 says that nobody looked there, so that a few strokes may be all there is."""
        return 0 in (self.ignore or ())

    def is_class(self, number: int, classes: int) -> bool:
        """Whether a number is background, a class, or ignored, in a project of so many classes."""
        background = self.background or 0
        if number == background or number in (self.ignore or ()):
            return True
        if number < 0:
            return False
        # With background and one structure, masks of 0 and 255 and numbered objects are common and
        # unambiguous. If 0 is ignored and 1 is background, only 2 is a class, as it always was.
        if classes < 3 and not (background == 1 and 0 in (self.ignore or ())):
            return True
        return 0 < number <= (classes if background in range(1, classes + 1) else classes - 1)

    def class_ids(self, labels: NDArray[Any], classes: int) -> NDArray[np.uint8]:
        """Class ids of labels, uint8 of the same shape; IGNORE where they are ignored."""
        background = self.background or 0
        if labels.dtype == bool:
            labels = labels.view(np.uint8)  # booleans cannot be subtracted
        if classes == 2:
            ids = (labels != background).astype(np.uint8)
        else:
            # The numbers above that of the background move down into its place.
            moved = labels - (labels > background) if background > 0 else labels
            # Numbers beyond uint8 are refused when labels are added; the file may change later, and
            # the cast must not make a class of them.
            ids = np.where(labels == background, 0, np.minimum(moved, IGNORE - 1)).astype(np.uint8)
        for number in self.ignore or ():
            ids[labels == number] = IGNORE
        return ids


class MeantLabels(Lazy3D):
    """Labels by their meaning: uint8 (z, y, x), 0 = not labelled, k = class k - 1.

    Args:
        labels: integers (z, y, x), read where they are sliced.
        meaning: of their numbers.
        classes: number of classes, background included.
        covered: the box that the labels cover; outside nothing is labelled. By default all.
    """

    def __init__(
        self, labels: Array, meaning: LabelMeaning, classes: int, covered: Box | None = None
    ) -> None:
        z, y, x = labels.shape
        super().__init__((z, y, x), np.uint8)
        self.chunks = getattr(labels, "chunks", None)
        self._labels = labels
        self._meaning = meaning
        self._classes = classes
        self._covered = covered
        self._holds_label: dict[int, bool] = {}

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        ids = self._meaning.class_ids(np.asarray(self._labels[z, y, x]), self._classes)
        # uint8 counts round: IGNORE, 255, becomes 0.
        values = ids + np.uint8(1)
        if self._meaning.labelled_sections:
            for i, section in enumerate(range(z.start, z.stop, z.step or 1)):
                if not self._labelled(section):
                    values[i] = 0
        if self._covered is not None:
            self._clear_outside(values, (z, y, x), self._covered)
        return values

    def _labelled(self, z: int) -> bool:
        """Whether a section holds any class but the background; read once."""
        if z not in self._holds_label:
            ids = self._meaning.class_ids(np.asarray(self._labels[z]), self._classes)
            self._holds_label[z] = bool(((ids > 0) & (ids != IGNORE)).any())
        return self._holds_label[z]

    @staticmethod
    def _clear_outside(
        values: NDArray[np.uint8], slices: tuple[slice, slice, slice], covered: Box
    ) -> None:
        for axis, (along, low, high) in enumerate(
            zip(slices, covered.start, covered.stop, strict=True)
        ):
            position = np.arange(along.start, along.stop, along.step or 1)
            np.moveaxis(values, axis, 0)[(position < low) | (position >= high)] = 0


class ObjectNumbers(Lazy3D):
    """Labels as numbers of objects, int64 (z, y, x): 0 where they are background or ignored.

    Args:
        labels: integers (z, y, x), read where they are sliced.
        meaning: of their numbers.
        classes: number of classes, background included.
        numbered: whether every number is an object; otherwise class ids are returned.
    """

    def __init__(
        self, labels: Array, meaning: LabelMeaning, classes: int, *, numbered: bool
    ) -> None:
        z, y, x = labels.shape
        super().__init__((z, y, x), np.int64)
        self.chunks = getattr(labels, "chunks", None)
        self._labels = labels
        self._meaning = meaning
        self._classes = classes
        self._numbered = numbered

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.int64]:
        labels = np.asarray(self._labels[z, y, x])
        ids = self._meaning.class_ids(labels, self._classes)
        numbers = labels if self._numbered else ids
        if numbers.dtype == np.uint64:
            # Larger ones are refused as ids, and must not become negative before.
            numbers = np.minimum(numbers, np.uint64(np.iinfo(np.int64).max))
        return np.where((ids > 0) & (ids != IGNORE), numbers, 0).astype(np.int64)

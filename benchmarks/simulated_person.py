"""A person who decides on objects as the truth says, with any hands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_emda.errors import DataError
from napari_emda.objects.edited import EditedObjects
from napari_emda.objects.edits import Part
from napari_emda.project.proofreading import Proofreading

# A match at the higher of the usual thresholds: outlines must fit, too.
MATCH = 0.75
# A part of an object counts from this share of it on.
PART = 0.1
Ids = NDArray[np.integer[Any]]
Voxel = tuple[int, int, int]


class Hands(Protocol):
    """Carries decisions out."""

    @property
    def objects(self) -> EditedObjects:
        """The objects as they are."""

    def good(self, number: int) -> None:
        """The outline of an object is right."""

    def delete(self, number: int) -> None:
        """It is no object."""

    def merge(self, first: int, second: int) -> None:
        """Two objects are one, which keeps the number of the first."""

    def split(self, number: int, seeds: Sequence[Voxel]) -> int:
        """An object is two; returns the number of the other part, or raises DataError."""


@dataclass
class InMemory:
    """Changes objects that are on no disk.

    Attributes:
        objects: as they are.
        cut: finds the part of an object that is split off.
    """

    objects: EditedObjects
    cut: Callable[[int, Sequence[Voxel]], Part]

    def good(self, number: int) -> None:
        """See `Hands`."""
        self.objects.confirm(number)

    def delete(self, number: int) -> None:
        """See `Hands`."""
        self.objects.delete(number)

    def merge(self, first: int, second: int) -> None:
        """See `Hands`."""
        self.objects.merge([first, second])

    def split(self, number: int, seeds: Sequence[Voxel]) -> int:
        """See `Hands`."""
        return self.objects.split(number, self.cut(number, seeds))


@dataclass
class InProject:
    """Makes decisions in a project, which annotates what follows from them.

    Attributes:
        project: with the objects.
        kinds: of the decisions that changed or confirmed something, and how many there were.
    """

    project: Proofreading
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def objects(self) -> EditedObjects:
        """See `Hands`."""
        return self.project.objects

    def good(self, number: int) -> None:
        """See `Hands`."""
        self.project.good(number)
        self.kinds["good"] += 1

    def delete(self, number: int) -> None:
        """See `Hands`."""
        self.project.delete(number)
        self.kinds["delete"] += 1

    def merge(self, first: int, second: int) -> None:
        """See `Hands`."""
        self.project.merge(first, second)
        self.kinds["merge"] += 1

    def split(self, number: int, seeds: Sequence[Voxel]) -> int:
        """See `Hands`."""
        self.project.split(number, seeds)
        self.kinds["split"] += 1
        return int(self.objects.ids.max())


@dataclass
class Person:
    """Decides on objects as the truth says, and keeps the score.

    Attributes:
        hands: carry the decisions out.
        truth: ids of the true objects.
        match: IoU from which an outline is right.
        decisions: so far.
    """

    hands: Hands
    truth: Ids
    match: float = MATCH
    decisions: int = 0
    _overlaps: dict[int, dict[int, int]] = field(default_factory=dict)
    _matched: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sizes = np.bincount(self.truth.ravel())
        self.true = int(np.count_nonzero(self.sizes[1:]))
        ids = np.asarray(self.objects[...]).ravel().astype(np.int64)
        keys = ids * (len(self.sizes) + 1) + self.truth.ravel()
        pairs, counts = np.unique(keys[ids > 0], return_counts=True)
        for key, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            number, true = divmod(key, len(self.sizes) + 1)
            self._overlaps.setdefault(number, {})[true] = count
        for number in self._overlaps:
            self._match(number)

    @property
    def objects(self) -> EditedObjects:
        """The objects as they are."""
        return self.hands.objects

    @property
    def precision(self) -> float:
        """AP at `match`: true positives over all that was found or missed."""
        found = sum(self._matched.values())
        return found / (len(self._matched) + self.true - found)

    def look_at(self, number: int) -> None:
        """Decide on an object, and on the parts of it if it was split."""
        if not self.objects.exists(number):
            return
        self.decisions += 1
        if self._matched[number]:
            self.hands.good(number)
            return
        parts = self._overlaps[number]
        size = sum(parts.values())
        true = {k: n for k, n in parts.items() if k and n > PART * size}
        inside = self._held(number, PART)
        if parts.get(0, 0) > 0.5 * size:
            self.hands.delete(number)
            self._measure(number)
        elif len(inside) > 1:
            self._split(number, sorted(inside, key=true.__getitem__)[-2:])
        elif true:
            self._merge(number, max(true, key=true.__getitem__))

    def _held(self, number: int, share: float = 0.0) -> list[int]:
        """True objects most of which an object holds, if they are more than a share of it."""
        parts = self._overlaps[number]
        least = share * sum(parts.values())
        return [k for k, n in parts.items() if k and n > max(least, 0.5 * self.sizes[k])]

    def _match(self, number: int) -> None:
        parts = self._overlaps[number]
        size = sum(parts.values())
        self._matched[number] = any(
            true and shared / (size + self.sizes[true] - shared) >= self.match
            for true, shared in parts.items()
        )

    def _measure(self, number: int) -> None:
        if not self.objects.exists(number):
            self._overlaps.pop(number, None)
            self._matched.pop(number, None)
            return
        place = self.objects.box(number).slices
        inside = self.objects[place] == number
        found, counts = np.unique(self.truth[place][inside], return_counts=True)
        self._overlaps[number] = dict(zip(found.tolist(), counts.tolist(), strict=True))
        self._match(number)

    def _split(self, number: int, between: list[int]) -> None:
        try:
            other = self.hands.split(number, [self._middle(number, true) for true in between])
        except DataError:
            return
        self._measure(number)
        self._measure(other)
        # Whoever has split one sees at once whether that was all.
        for part in (number, other):
            if not self._matched[part] and len(self._held(part)) > 1:
                self.look_at(part)

    def _middle(self, number: int, true: int) -> Voxel:
        """The voxel that lies deepest in what an object and a true one share."""
        place = self.objects.box(number)
        shared = (self.objects[place.slices] == number) & (self.truth[place.slices] == true)
        depth = ndimage.distance_transform_edt(shared)
        z, y, x = np.add(np.unravel_index(depth.argmax(), depth.shape), place.start).tolist()
        return z, y, x

    def _merge(self, number: int, true: int) -> None:
        """Merge with the largest other part of the same true object, if there is one."""
        others = {
            other: parts[true]
            for other, parts in self._overlaps.items()
            if other != number and parts.get(true, 0) > 0.5 * sum(parts.values())
        }
        voxels_by_truth = self._overlaps[number]
        if not others or voxels_by_truth[true] <= 0.5 * sum(voxels_by_truth.values()):
            return  # its outline would have to be painted
        other = max(others, key=others.__getitem__)
        self.hands.merge(number, other)
        self._measure(number)
        self._measure(other)
        # More parts of the same object are merged on the same look.
        if not self._matched[number]:
            self.decisions += 1
            self._merge(number, true)

"""Edits of objects, carried out again: on the objects they were made on, or on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from napari_emda.data.array import Array
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.objects.edited import EditedObjects
from napari_emda.objects.edits import ObjectEdit, ObjectReference, Part
from napari_emda.objects.splitting import split

# Two objects are the same where they share more than half of what either holds. An object of a
# prediction has at most one such counterpart in another one.
_SAME = 0.5
# Edits that a sentence names; the rest are counted.
_NAMED = 3

Splitter = Callable[[EditedObjects, int, Sequence[Sequence[int]]], Part]
"""Splits an object at two seeds, see `napari_emda.objects.splitting.split`."""


@dataclass
class Replay:
    """What became of the edits.

    Attributes:
        done: those that were carried out, or whose effect was there without them.
        lost: those that do not fit the objects any more.
        moved: whether any were made on other objects.
    """

    done: list[ObjectEdit] = field(default_factory=list)
    lost: list[ObjectEdit] = field(default_factory=list)
    moved: bool = False

    def sentence(self) -> str:
        """What is in the objects, for the user; empty if there are no edits."""
        count = len(self.done) + len(self.lost)
        if not count:
            return ""
        edits = "1 edit" if count == 1 else f"{count} edits"
        if not self.lost:
            how = ", matched by overlap with an earlier prediction" if self.moved else ""
            return f"The objects contain {edits}{how}."
        named = "; ".join(map(str, self.lost[:_NAMED]))
        more = len(self.lost) - _NAMED
        rest = f"; and {more} more" if more > 0 else ""
        return (
            f"The objects contain {len(self.done)} of {edits}; what no longer fits them is left "
            f"out: {named}{rest}."
        )


def splitter(grid: VoxelGrid, probability: Array, maps: Array | None = None) -> Splitter:
    """Splits objects of a class as a person has split them, see `Splitter`."""

    def cut(objects: EditedObjects, number: int, seeds: Sequence[Sequence[int]]) -> Part:
        return split(objects, number, seeds, grid, probability, maps)

    return cut


def replay(objects: EditedObjects, edits: Sequence[ObjectEdit], base: str, cut: Splitter) -> Replay:
    """Carry edits out, one after the other.

    Edits of these objects are repeated exactly, by their ids. Those of others are for the object
    that shares more than half of its voxels with the old one, and the old one with it; an overlap
    is estimated from the voxels that the edit holds.

    Args:
        objects: as they were found; changed in place.
        edits: in the order in which they were made.
        base: identity of the objects.
        cut: splits an object of which the old parts are unknown.
    """
    result = Replay()
    for edit in edits:
        is_exact = edit.base == base
        result.moved = result.moved or not is_exact
        try:
            if is_exact:
                apply(objects, edit)
            else:
                _apply_moved(objects, edit, cut)
        except DataError:
            result.lost.append(edit)
        else:
            result.done.append(edit)
    return result


def apply(objects: EditedObjects, edit: ObjectEdit) -> None:
    """Carry out an edit of these objects; DataError if it does not fit."""
    first = edit.ids[0]
    if edit.kind == "delete":
        objects.delete(first)
    elif edit.kind == "merge":
        objects.merge(edit.ids)
    elif edit.kind == "split":
        assert edit.part is not None
        objects.split(first, edit.part)
    elif edit.kind == "good":
        objects.confirm(first)
    else:
        objects.check(first)
        objects.decided.add(first)


def _apply_moved(objects: EditedObjects, edit: ObjectEdit, cut: Splitter) -> None:
    """Carry out an edit of other objects; nothing to do where its effect is there already."""
    if edit.kind == "redraw":
        return  # what was redrawn is in the annotations
    matches = [_Match.of(objects, reference) for reference in edit.objects]
    first = matches[0]
    if edit.kind == "delete":
        if first.in_background <= _SAME:
            objects.delete(first.same())
    elif edit.kind == "merge":
        ids = [match.id for match in matches if match.inside > _SAME]
        if len(ids) < 2 or ids[0] != ids[1]:
            objects.merge([match.same() for match in matches])
    elif edit.kind == "split":
        assert edit.seeds is not None
        seeds = np.asarray(edit.seeds)
        if (seeds >= objects.shape).any():
            raise DataError("A seed lies outside of the volume: split the object again.")
        a, b = objects.at(seeds).tolist()
        if a == b or not (a and b):
            number = first.same()
            objects.split(number, cut(objects, number, edit.seeds))
    else:
        objects.confirm(first.same())


@dataclass(frozen=True)
class _Match:
    """The object that holds most of another one.

    Attributes:
        id: of the object; 0 for none.
        inside: share of the other one that lies in it.
        union_share: intersection over union of both.
        in_background: share of the other one that lies in no object.
    """

    id: int
    inside: float
    union_share: float
    in_background: float

    @classmethod
    def of(cls, objects: EditedObjects, reference: ObjectReference) -> _Match:
        voxels = reference.sampled
        if (np.asarray(reference.high) > objects.shape).any():
            raise DataError("An object lies outside of the volume: decide on it again.")
        ids, counts = np.unique(objects.at(voxels), return_counts=True)
        background = int(counts[ids == 0].sum()) / len(voxels)
        ids, counts = ids[ids > 0], counts[ids > 0]
        if not len(ids):
            return cls(0, 0.0, 0.0, background)
        best = int(counts.argmax())
        number = int(ids[best])
        inside = int(counts[best]) / len(voxels)
        shared = inside * reference.voxels
        union = reference.voxels + objects.voxels(number) - shared
        return cls(number, inside, shared / union, background)

    def same(self) -> int:
        """The id of the object, if it is the same one; DataError else."""
        if self.union_share <= _SAME:
            raise DataError("An object has no counterpart: decide on it again.")
        return self.id

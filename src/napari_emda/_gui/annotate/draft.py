"""Annotations with a proposal, such as the prediction, where nothing is painted yet."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_emda._gui.annotate.strokes import Strokes
from napari_emda._gui.common.copies import CopiedAsArray
from napari_emda.data.box import Box
from napari_emda.data.lazy import Lazy3D


class Section:
    """One section of an array, read only when its values are needed.

    napari asks for the first section at every dab of the brush, only for its dtype.
    """

    ndim = 2

    def __init__(self, whole: Lazy3D, z: int) -> None:
        self.shape = whole.shape[1:]
        self.dtype = whole.dtype
        self._whole = whole
        self._z = z

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._whole[self._z, :, :], dtype=dtype)


class Draft(CopiedAsArray):
    """Annotations on disk, with a proposal inside one box where nothing is painted.

    Reading returns both. Writing goes to disk at once: a stroke over the proposal replaces it, and
    erasing the proposal writes background, because the user says that it is wrong there. The
    proposal itself is never written and never changes.

    Whatever tool or plugin writes, only the patch is changed, unless `outside` is allowed, and only
    classes are written.

    Args:
        stored: `WorkingCopy` of uint8 (z, y, x), written to; 0 is not annotated, k + 1 is class k.
        highest: the value of the last class.

    Attributes:
        patch: the voxels that may be painted; None while no patch is on view.
        outside: whether the rest of the volume may be painted as well.
        finished: boxes that stay as they are even then, because they were decided on.
        obstacle: why nothing can be painted now, in a sentence; empty if it can.
        strokes: of the patch on view.
    """

    def __init__(self, stored: Any, highest: int = 255) -> None:
        super().__init__(tuple(stored.shape), np.uint8)
        self.stored = stored
        self.highest = highest
        self.patch: Box | None = None
        self.outside = True
        self.finished: Sequence[Box] = ()
        self.obstacle: Callable[[], str] = str
        self.strokes = Strokes()
        self._box: Box | None = None
        self._proposal: NDArray[np.uint8] | None = None

    # -- where may be painted, and strokes -----------------------------------------------------

    def may_change(self, index: tuple[Any, ...], value: int = 0) -> NDArray[np.bool_]:
        """Whether a value may be written at some voxels.

        Args:
            index: three slices without a step.
            value: to be written.

        Returns:
            Of the shape that the slices select.
        """
        ranges = [_forward(part, n) for part, n in zip(index, self.shape, strict=True)]
        allowed = self._reachable(_grid(*ranges)) & (0 <= value <= self.highest)
        shape = tuple(len(range(part.start, part.stop)) for part in ranges)
        return np.broadcast_to(allowed, shape)

    def _reachable(self, parts: tuple[NDArray[Any], ...]) -> Any:
        """Whether voxels may be painted, by broadcastable indices."""
        if self.obstacle():
            return np.False_
        if self.outside:
            return self._undecided(parts)
        return np.False_ if self.patch is None else _within(parts, self.patch)

    def _undecided(self, parts: tuple[NDArray[Any], ...]) -> Any:
        """Whether voxels lie in the patch on view, or in no patch that was decided on."""
        undecided: Any = np.True_
        for box in self.finished:
            undecided = undecided & ~_within(parts, box)
        # An accepted patch may overlap the one on view, which is the user's to change.
        return undecided if self.patch is None else undecided | _within(parts, self.patch)

    def _undecided_in(self, box: Box) -> NDArray[np.bool_]:
        return np.broadcast_to(self._undecided(_grid(*box.slices)), box.shape)

    def why_not(self) -> str:
        """Why a stroke has changed nothing."""
        obstacle = self.obstacle()
        if obstacle:
            return obstacle
        if self.patch is None and not self.outside:
            return "No patch is on view: go to the next one (N), or draw one (W), to paint in it."
        if not self.outside:
            return (
                "Only the patch can be painted: to paint beyond the rectangle, turn on 'Paint "
                "outside the patch, too'."
            )
        return "This patch is decided: go to it to change it."

    def retire(self) -> None:
        """Never write again: the layer was removed, and napari may have made another one of it."""
        self.obstacle = lambda: "This layer was removed: press Next (N) to paint."

    def outside_of(self, box: Box) -> bool:
        """Whether any part of a box lies outside the patch on view."""
        return self.patch is None or box.clip_to(self.patch) != box

    def undo(self) -> bool:
        """Take back the last stroke; returns whether there was one."""
        self.strokes.end(self.stored)
        self.stored.forget()
        return self.strokes.undo(self.stored, self._undecided_in)

    def redo(self) -> bool:
        """Repeat the stroke that was taken back last; returns whether there was one."""
        self.stored.forget()
        return self.strokes.redo(self.stored, self._undecided_in)

    def abort(self) -> None:
        """Take back the stroke under way."""
        self.strokes.abort(self.stored)

    # -- the proposal ------------------------------------------------------------------------

    def set_proposal(self, box: Box, proposal: NDArray[np.uint8] | None) -> None:
        """Show a proposal, uint8 of the box's shape (0 = nothing); None removes it."""
        self._box = box if proposal is not None else None
        self._proposal = proposal

    def _proposal_at(self, parts: tuple[NDArray[Any], ...]) -> NDArray[np.uint8] | int:
        """The proposal at broadcastable voxel indices, 0 outside its box."""
        if self._box is None or self._proposal is None:
            return 0
        bounds = zip(parts, self._box.start, self._box.stop, strict=True)
        # Clipped, because indices outside the box are looked up as well, and masked below.
        local = tuple(np.clip(part - start, 0, stop - start - 1) for part, start, stop in bounds)
        return np.where(_within(parts, self._box), self._proposal[local], 0).astype(np.uint8)

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        shown = np.array(self.stored[z, y, x])
        if self._box is not None:
            ranges = [range(part.start, part.stop, part.step or 1) for part in (z, y, x)]
            bounds = zip(ranges, self._box.start, self._box.stop, strict=True)
            # The part of the requested voxels that lies in the box; by bisection, because a slice
            # with a step skips voxels.
            near = tuple(
                slice(bisect_left(requested, start), bisect_left(requested, stop))
                for requested, start, stop in bounds
            )
            parts = _grid(*(indices[part] for indices, part in zip(ranges, near, strict=True)))
            shown[near] = self._merged(shown[near], parts)
        return shown

    def _merged(self, painted: NDArray[Any], parts: tuple[NDArray[Any], ...]) -> NDArray[Any]:
        return np.where(painted == 0, self._proposal_at(parts), painted).astype(np.uint8)

    def __getitem__(self, key: Any) -> Any:
        # A plain integer is napari asking for a dtype (see `Section`).
        if isinstance(key, int | np.integer):
            return Section(self, int(key))
        if not _is_fancy(key):
            return super().__getitem__(key)
        parts = _points(key, self.shape)
        return self._merged(np.asarray(self.stored[parts]), parts)

    def __setitem__(self, key: Any, values: Any) -> None:
        # napari writes with index arrays or with slices, depending on the tool.
        if _is_fancy(key):
            parts = _points(key, self.shape)
            self._write(parts, parts, np.array(self.stored[parts]), values)
            return
        ranges = [_forward(part, n) for part, n in zip(key, self.shape, strict=True)]
        parts = _grid(*ranges)
        before = np.array(self.stored[tuple(ranges)])
        lengths = [n for n, part in zip(before.shape, key, strict=True) if isinstance(part, slice)]
        values = np.broadcast_to(np.asarray(values), lengths).reshape(before.shape)
        self._write(tuple(ranges), parts, before, values)

    def _write(
        self, index: Any, parts: tuple[NDArray[Any], ...], before: NDArray[np.uint8], values: Any
    ) -> None:
        """Write what the values change, and note what was there before."""
        after = self._changed(parts, before, values)
        if not np.array_equal(before, after):
            self.strokes.record(index, before)
            self.stored[index] = after

    def _changed(
        self, parts: tuple[NDArray[Any], ...], painted: NDArray[Any], values: Any
    ) -> NDArray[np.uint8]:
        """What to write: new values where they differ from what was shown; background if erased."""
        given = np.broadcast_to(np.asarray(values), painted.shape)
        # A number that is no class would poison every later training.
        allowed = self._reachable(parts) & (given >= 0) & (given <= self.highest)
        values = np.where(allowed, given, 0).astype(np.uint8)
        proposal = self._proposal_at(parts)
        # A value that equals what was shown changes nothing: there the proposal stays a proposal,
        # so that nothing is stored that the user has not painted.
        differ = values != np.where(painted == 0, proposal, painted)
        # Erased proposal: 1 is background (0 would show the proposal again).
        written = np.where((values == 0) & (np.asarray(proposal) > 0), 1, values)
        return np.where(differ & allowed, written, painted).astype(np.uint8)


def _within(parts: tuple[NDArray[Any], ...], box: Box) -> NDArray[np.bool_]:
    """Whether voxels lie in a box, by broadcastable indices."""
    inside: Any = np.True_
    for part, start, stop in zip(parts, box.start, box.stop, strict=True):
        inside = inside & (part >= start) & (part < stop)
    return np.asarray(inside)


def _is_fancy(key: Any) -> bool:
    return isinstance(key, tuple) and any(
        isinstance(part, np.ndarray | list) and np.ndim(part) for part in key
    )


def _points(key: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[NDArray[Any], ...]:
    """Index arrays of one shape, none of them negative."""
    parts = np.broadcast_arrays(*(np.asarray(part) for part in key))
    return tuple(np.where(part < 0, part + n, part) for part, n in zip(parts, shape, strict=True))


def _forward(part: Any, length: int) -> slice:
    if isinstance(part, slice):
        return slice(*part.indices(length))
    index = int(part) % length
    return slice(index, index + 1, 1)


def _grid(*slices: slice | range) -> tuple[NDArray[Any], ...]:
    """Index arrays of slices or ranges, broadcastable against each other."""
    return np.ix_(*(np.arange(s.start, s.stop, s.step or 1) for s in slices))

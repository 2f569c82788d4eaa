"""Annotations with a proposal, such as the prediction, where nothing is painted yet."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

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


class Draft(Lazy3D):
    """Annotations on disk, with a proposal inside one box where nothing is painted.

    Reading returns both. Writing goes to disk at once: a stroke over the proposal replaces it, and
    erasing the proposal writes background, because the user says that it is wrong there. The
    proposal itself is never written and never changes.

    Args:
        stored: uint8 (z, y, x), written to; 0 is not annotated, k + 1 is class k.
    """

    def __init__(self, stored: Any) -> None:
        super().__init__(tuple(stored.shape), np.uint8)
        self.stored = stored
        self._box: Box | None = None
        self._proposal: NDArray[np.uint8] | None = None

    def set_proposal(self, box: Box, proposal: NDArray[np.uint8] | None) -> None:
        """Show a proposal, uint8 of the box's shape (0 = nothing); None removes it."""
        self._box = box if proposal is not None else None
        self._proposal = proposal

    def _proposal_at(self, parts: tuple[NDArray[Any], ...]) -> NDArray[np.uint8] | int:
        """The proposal at broadcastable voxel indices, 0 outside its box."""
        if self._box is None or self._proposal is None:
            return 0
        inside: Any = True
        local = []
        for part, start, stop in zip(parts, self._box.start, self._box.stop, strict=True):
            inside = inside & (part >= start) & (part < stop)
            # Clipped, because indices outside the box are looked up as well, and masked below.
            local.append(np.clip(part - start, 0, stop - start - 1))
        return np.where(inside, self._proposal[tuple(local)], 0).astype(np.uint8)

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
            before = np.asarray(self.stored[parts])
            self.stored[parts] = self._changed(parts, before, values)
            return
        ranges = [_forward(part, n) for part, n in zip(key, self.shape, strict=True)]
        parts = _grid(*ranges)
        before = np.asarray(self.stored[tuple(ranges)])
        lengths = [n for n, part in zip(before.shape, key, strict=True) if isinstance(part, slice)]
        values = np.broadcast_to(np.asarray(values), lengths).reshape(before.shape)
        self.stored[tuple(ranges)] = self._changed(parts, before, values)

    def _changed(
        self, parts: tuple[NDArray[Any], ...], painted: NDArray[Any], values: Any
    ) -> NDArray[np.uint8]:
        """What to write: new values where they differ from what was shown; background if erased."""
        values = np.broadcast_to(np.asarray(values, np.uint8), painted.shape)
        proposal = self._proposal_at(parts)
        # A value that equals what was shown changes nothing: there the proposal stays a proposal,
        # so that nothing is stored that the user has not painted.
        differ = values != np.where(painted == 0, proposal, painted)
        # Erased proposal: 1 is background (0 would show the proposal again).
        written = np.where((values == 0) & (np.asarray(proposal) > 0), 1, values)
        return np.where(differ, written, painted).astype(np.uint8)


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

"""How many voxels each found object shares with each true one, counted block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.errors import DataError

# Ids of found and true objects are packed into one uint64, because np.unique sorts numbers far
# faster than rows.
_BITS = np.uint64(32)
LARGEST_ID = 2**32 - 1
# Pairs that are collected before they are merged, 32 MiB of keys and counts.
_PENDING = 2**21


@dataclass(frozen=True)
class Contingency:
    """A sparse table of the pairs of ids that share voxels. Background has the id 0.

    Memory grows with the pairs that share voxels, not with the volume.

    Attributes:
        found: id of the found object of each pair, uint64; sorted, then by ``true``.
        true: id of the true object of each pair, uint64.
        voxels: voxels that the two share, int64, at least 1.
    """

    found: NDArray[np.uint64]
    true: NDArray[np.uint64]
    voxels: NDArray[np.int64]

    @classmethod
    def of(cls, objects: Array, truth: Array, box: Box | None = None) -> Contingency:
        """Count the voxels of two images of ids.

        Args:
            objects: (Z, Y, X) integer ids of found objects, 0 being background; read lazily.
            truth: the same of true objects.
            box: the part to count; all of it if None.

        Raises:
            DataError: the shapes differ, or an id is negative or above 2³² - 1.
        """
        if tuple(objects.shape) != tuple(truth.shape):
            raise DataError(
                f"The objects have shape {tuple(objects.shape)} and the true ones "
                f"{tuple(truth.shape)}: give two images of one volume."
            )
        keys, counts = _merged(_pairs(objects, truth, box or Box.whole(objects.shape)))
        return cls(keys >> _BITS, keys & np.uint64(LARGEST_ID), counts)

    @cached_property
    def found_sizes(self) -> NDArray[np.int64]:
        """Voxels of the found object of each pair."""
        return _sizes(self.found, self.voxels)

    @cached_property
    def true_sizes(self) -> NDArray[np.int64]:
        """Voxels of the true object of each pair."""
        return _sizes(self.true, self.voxels)

    @property
    def found_count(self) -> int:
        """Number of found objects."""
        return _count(self.found)

    @property
    def true_count(self) -> int:
        """Number of true objects."""
        return _count(self.true)

    def ious(self) -> NDArray[np.float64]:
        """The IoU of each found object with each true one that it meets."""
        both = (self.found > 0) & (self.true > 0)
        unions = self.found_sizes + self.true_sizes - self.voxels
        return np.asarray(self.voxels[both] / unions[both])

    def within_truth(self) -> Contingency:
        """The voxels of true objects alone."""
        inside = self.true > 0
        return Contingency(self.found[inside], self.true[inside], self.voxels[inside])


def _pairs(
    objects: Array, truth: Array, box: Box
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """The packed pairs of each block and their voxels."""
    for part in blocks(box, block_shape(objects)):
        pairs = _ids(objects, part) << _BITS | _ids(truth, part)
        # Most voxels are background on both sides: counting them apart spares sorting them.
        inside = pairs[pairs > 0]
        keys, counts = np.unique(inside, return_counts=True)
        outside = pairs.size - inside.size
        yield keys, counts
        if outside:
            yield np.zeros(1, np.uint64), np.array([outside])


def _ids(array: Array, part: Box) -> NDArray[np.uint64]:
    values = np.asarray(array[part.slices])
    if values.size and (values.min() < 0 or values.max() > LARGEST_ID):
        wrong = values.min() if values.min() < 0 else values.max()
        raise DataError(
            f"The object id {wrong} is not allowed: number the objects from 1 to {LARGEST_ID}, "
            "with 0 as background."
        )
    return values.astype(np.uint64)


def _merged(
    parts: Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]],
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The sum of the voxels of each pair."""
    keys = np.empty(0, np.uint64)
    counts = np.empty(0, np.int64)
    pending = [(keys, counts)]
    for part in parts:
        pending.append(part)
        # As many as are merged already: so each pair is sorted a few times only.
        if sum(len(part_keys) for part_keys, _ in pending) > max(_PENDING, len(keys)):
            keys, counts = _added([(keys, counts), *pending])
            pending = []
    return _added([(keys, counts), *pending])


def _added(
    parts: list[tuple[NDArray[np.uint64], NDArray[np.int64]]],
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    keys, position = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    sums = np.zeros(len(keys), np.int64)
    # bincount would add in floating point, which is inexact from 2^53 on.
    np.add.at(sums, position, np.concatenate([part[1] for part in parts]))
    return keys, sums


def _sizes(ids: NDArray[np.uint64], voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each pair, the voxels of all pairs with the same id."""
    values, position = np.unique(ids, return_inverse=True)
    sums = np.zeros(len(values), np.int64)
    np.add.at(sums, position, voxels)
    return sums[position]


def _count(ids: NDArray[np.uint64]) -> int:
    return len(np.unique(ids[ids > 0]))

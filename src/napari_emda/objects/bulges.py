"""Bulges of objects, and which of them are one object."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_emda.objects.basins import HALF_PIXEL, highest_by_pair


@dataclass
class Bulges:
    """Bulges from 1 on, as they are found in blocks, and the necks between them.

    Attributes:
        count: of bulges so far.
    """

    count: int = 0
    # Bulge 0 is the background.
    _heights: list[NDArray[np.float32]] = field(default_factory=lambda: [np.zeros(1, np.float32)])
    _positions: list[NDArray[np.int64]] = field(default_factory=lambda: [np.full(1, -1)])
    _sizes: list[NDArray[np.int64]] = field(default_factory=lambda: [np.zeros(1, np.int64)])
    _links: list[NDArray[np.uint32]] = field(default_factory=lambda: [np.empty((2, 0), np.uint32)])
    _pairs: list[NDArray[np.uint64]] = field(default_factory=lambda: [np.empty(0, np.uint64)])
    _passes: list[NDArray[np.float32]] = field(default_factory=lambda: [np.empty(0, np.float32)])

    def add(
        self,
        heights: NDArray[np.float32],
        positions: NDArray[np.int64],
        sizes: NDArray[np.int64],
    ) -> None:
        """Add the bulges of a block: their tops' heights and positions, and their voxels."""
        self.count += len(heights)
        self._heights.append(heights)
        self._positions.append(positions)
        self._sizes.append(sizes)

    def link(self, some: NDArray[np.uint32], others: NDArray[np.uint32]) -> None:
        """Say which bulges are parts of one."""
        pairs = np.unique(some.astype(np.uint64) << np.uint64(32) | others)
        low = np.uint64(2**32 - 1)
        self._links.append(np.stack([pairs >> np.uint64(32), pairs & low]).astype(np.uint32))

    def add_passes(self, pairs: NDArray[np.uint64], heights: NDArray[np.float32]) -> None:
        """Add the passes between pairs of bulges, see `napari_emda.objects.basins.passes`."""
        self._pairs.append(pairs)
        self._passes.append(heights)

    def joined(self, neck: float, minimum_size: int) -> NDArray[np.uint32]:
        """The object of each bulge so far, numbered from 1 in the order of their first tops.

        Passes are taken from the highest to the lowest, so that each bulge joins where its neck is
        widest. At equal heights the positions of the tops decide, and never the blocks.

        Args:
            neck: two parts stay apart if the neck is narrower than this share of the narrower one.
            minimum_size: in voxels; smaller parts join their neighbour at the widest neck.
        """
        bulge_of, heights, sizes = self._whole()
        pairs, levels = self._between(bulge_of)
        forest = _Forest(heights, sizes)
        for (a, b), level in zip(pairs, levels, strict=True):
            forest.join_if_wide(a, b, level, neck)
        if minimum_size > 1:
            for a, b in pairs:
                forest.join_if_small(a, b, minimum_size)
        # Whole bulges are in the order of their tops, so an object's first one decides.
        roots = forest.roots()
        objects, ids = np.unique(roots[1:], return_inverse=True)
        first = np.full(len(objects), len(roots))
        np.minimum.at(first, ids, np.arange(len(ids)))
        rank = np.empty(len(objects), np.uint32)
        rank[np.argsort(first)] = np.arange(1, len(objects) + 1)
        return np.concatenate([np.zeros(1, np.uint32), rank[ids]])[bulge_of]

    def _whole(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """The whole bulge of each part of one, and heights and sizes of whole bulges.

        Whole bulges are numbered in the order of their tops in the volume.
        """
        some, others = np.concatenate(self._links, axis=1)
        shape = (self.count + 1, self.count + 1)
        graph = coo_array((np.ones(len(some), bool), (some, others)), shape=shape)
        group = connected_components(graph, directed=False)[1]
        heights = np.concatenate(self._heights)
        positions = np.concatenate(self._positions)
        # Of all parts, the one with the top is the highest; on level ground, the last one.
        order = np.lexsort((positions, heights, group))
        last = np.append(np.flatnonzero(np.diff(group[order])), len(order) - 1)
        highest = order[last]
        by_position = np.argsort(positions[highest])
        number = np.empty(len(highest), np.int64)
        number[by_position] = np.arange(len(highest))
        sizes = np.zeros(len(highest), np.int64)
        np.add.at(sizes, number[group], np.concatenate(self._sizes))
        return number[group], heights[highest][by_position], sizes

    def _between(self, bulge_of: NDArray[np.int64]) -> tuple[list[tuple[int, int]], list[float]]:
        """Pairs of whole bulges with their passes, from the highest to the lowest."""
        parts = np.concatenate(self._pairs)
        low = np.uint64(2**32 - 1)
        ends = np.stack([bulge_of[parts >> np.uint64(32)], bulge_of[parts & low]])
        ends.sort(axis=0)
        apart = ends[0] != ends[1]
        a, b = ends[:, apart].astype(np.uint64)
        keys, levels = highest_by_pair(a << np.uint64(32) | b, np.concatenate(self._passes)[apart])
        order = np.lexsort((keys, -levels))
        a, b = keys[order] >> np.uint64(32), keys[order] & low
        return list(zip(a.tolist(), b.tolist(), strict=True)), levels[order].tolist()


class _Forest:
    """Bulges that grow together to objects: a union-find structure."""

    def __init__(self, heights: NDArray[np.float32], sizes: NDArray[np.int64]) -> None:
        self._parents = list(range(len(heights)))
        self._heights = heights.tolist()
        self._sizes = sizes.tolist()

    def _root(self, bulge: int) -> int:
        parents = self._parents
        while parents[bulge] != bulge:
            parents[bulge] = parents[parents[bulge]]
            bulge = parents[bulge]
        return bulge

    def join_if_wide(self, a: int, b: int, level: float, neck: float) -> None:
        """Join two objects that meet at a pass of a height, unless the neck is narrow."""
        a, b = self._root(a), self._root(b)
        lower = min(self._heights[a], self._heights[b])
        # A voxel is half a side nearer to the border of its object than to the next voxel.
        if level - HALF_PIXEL >= neck * (lower - HALF_PIXEL):
            self._join(a, b)

    def join_if_small(self, a: int, b: int, minimum_size: int) -> None:
        """Join two objects if one of them is small."""
        a, b = self._root(a), self._root(b)
        if min(self._sizes[a], self._sizes[b]) < minimum_size:
            self._join(a, b)

    def _join(self, a: int, b: int) -> None:
        if a == b:
            return
        if self._heights[a] < self._heights[b]:
            a, b = b, a
        self._parents[b] = a
        self._sizes[a] += self._sizes[b]

    def roots(self) -> NDArray[np.int64]:
        """The object of each bulge, by the number of one of its bulges."""
        return np.array([self._root(bulge) for bulge in range(len(self._parents))])

"""Clusters that a run without labels has found: how large they are, and the classes that they are named after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from napari_emda.data.array import Array
from napari_emda.data.blocks import chunk_shape, spread
from napari_emda.data.box import Box
from napari_emda.data.lazy import Lazy3D
from napari_emda.data.probabilities import class_ids
from napari_emda.errors import SettingsError

_SAMPLES = 64
"""Squares in which clusters are measured: their shares are then known to about a percent."""
_SIDE = 512

Names = Mapping[int, str]
"""Class by cluster; clusters count from 1."""


def parse_names(assignments: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """``["mitochondria=3,5"]`` as clusters by class; SettingsError when one cannot be read, or names anything twice."""
    named: dict[str, tuple[int, ...]] = {}
    for assignment in assignments:
        name, equals, numbers = assignment.rpartition("=")
        name = name.strip()
        try:
            clusters = tuple(int(number) for number in numbers.split(",") if number.strip())
        except ValueError:
            equals = ""
        if not equals or not name:
            raise SettingsError(
                f"'{assignment}' is not CLASS=CLUSTERS: write for example --class mitochondria=3,5."
            )
        if name in named:
            raise SettingsError(
                f"The class '{name}' is given twice: write all of its clusters at once, as {name}=3,5."
            )
        for other, members in named.items():
            if both := sorted({*members} & {*clusters}):
                raise SettingsError(
                    f"Cluster {both[0]} is given to '{other}' and to '{name}': choose one of them."
                )
        named[name] = clusters
    return named


def renamed(names: Names, given: Mapping[str, Sequence[int]]) -> dict[int, str]:
    """The names after each class that is given got exactly these clusters; other classes keep theirs."""
    kept = {cluster: name for cluster, name in names.items() if name not in given}
    return kept | {cluster: name for name, clusters in given.items() for cluster in clusters}


def check_names(names: Names, count: int, classes: Sequence[str]) -> None:
    """SettingsError when there is no such cluster or class.

    Args:
        names: to be checked.
        count: of clusters.
        classes: of the project, background first.
    """
    for cluster, name in names.items():
        if name not in classes[1:]:
            raise SettingsError(
                f"The project has no class '{name}' to name clusters after: use {_listed(classes[1:])}."
            )
        if not 1 <= cluster <= count:
            raise SettingsError(
                f"There is no cluster {cluster}: the run has clusters 1 to {count}."
            )


def _listed(names: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def shares(clusters: Array) -> NDArray[np.float64]:
    """Share of the voxels in each cluster, (k,), from up to 64 squares of 512 voxels spread over the volume.

    Args:
        clusters: stored probabilities, (k, z, y, x) uint8.
    """
    counts = np.zeros(clusters.shape[0] + 1)
    for box in spread(Box.whole(clusters.shape[1:]), min(_SAMPLES, clusters.shape[1]), _SIDE):
        ids = class_ids(np.asarray(clusters[(slice(None), *box.slices)]))
        counts += np.bincount(ids.ravel(), minlength=len(counts))
    return counts[1:] / max(counts.sum(), 1)


class NamedClusters:
    """Class probabilities: sums of those of the clusters named after each class. Read where it is sliced.

    Args:
        clusters: stored probabilities, (k, z, y, x) uint8; two or more.
        names: class by cluster.
        classes: of the project, background first.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, clusters: Array, names: Names, classes: Sequence[str]) -> None:
        self._clusters = clusters
        self._members = [
            [k - 1 for k, name in sorted(names.items()) if name == own] for own in classes[1:]
        ]
        self.shape = (len(self._members), *clusters.shape[1:])
        self.chunks = getattr(clusters, "chunks", None)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Slice like NumPy: the first entry (an integer or slice) says which classes."""
        which, *place = key if isinstance(key, tuple) else (key,)
        if isinstance(which, slice):
            return np.stack(
                [self._sum(index, place) for index in range(*which.indices(len(self._members)))]
            )
        return self._sum(which, place)

    def _sum(self, index: int, place: Sequence[Any]) -> NDArray[np.uint8]:
        members = self._members[index]
        if not members:
            return np.zeros_like(np.asarray(self._clusters[(0, *place)]))
        # stored probabilities of all clusters add up to 255 at most
        return np.sum(
            [np.asarray(self._clusters[(k, *place)]) for k in members], axis=0, dtype=np.uint8
        )


class NamedUncertainty(Lazy3D):
    """Entropy of class probabilities as a share of its maximum log C, (z, y, x) uint8. Read where it is sliced.

    Between clusters that are named alike there is no uncertainty, however alike they are.

    Args:
        named: probabilities of the classes.
    """

    def __init__(self, named: NamedClusters) -> None:
        z, y, x = named.shape[1:]
        super().__init__((z, y, x), np.uint8)
        self.chunks = chunk_shape(named)
        self._named = named

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        foreground = self._named[:, z, y, x] / np.float32(255)
        uncertainty = entr(foreground).sum(0) + entr(1 - foreground.sum(0))
        return np.asarray(
            np.rint(255 * np.clip(uncertainty / np.log(1 + len(foreground)), 0, 1)), np.uint8
        )

"""Clusters that a run found without labels: their sizes, and the classes they are named after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import spread
from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.data.probabilities import class_ids
from napari_emda.errors import SettingsError

# Clusters are measured in this many rectangles. 64 rectangles of 512 x 512 are 17 Mvoxel, read in
# a moment, and give the shares of the clusters to about a percent.
_SAMPLES = 64
# Pixels. The side of a stored chunk (`project.stored_prediction.CHUNK`), so that a rectangle
# decodes at most four chunks of each cluster.
_SIDE = 512

Names = Mapping[int, str]
"""Class by cluster; clusters count from 1."""


def parse_names(assignments: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read ``["mitochondria=3,5"]`` as clusters by class.

    Raises:
        SettingsError: an assignment cannot be read, or a class or a cluster occurs twice.
    """
    clusters_of: dict[str, tuple[int, ...]] = {}
    for assignment in assignments:
        # From the right, because the name of a class may contain "=".
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
        if name in clusters_of:
            raise SettingsError(
                f"The class '{name}' is given twice: write all of its clusters at once, as "
                f"{name}=3,5."
            )
        for other_name, other_clusters in clusters_of.items():
            shared = sorted({*other_clusters} & {*clusters})
            if shared:
                raise SettingsError(
                    f"Cluster {shared[0]} is given to '{other_name}' and to '{name}': choose one "
                    "of them."
                )
        clusters_of[name] = clusters
    return clusters_of


def renamed(names: Names, assigned: Mapping[str, Sequence[int]]) -> dict[int, str]:
    """Names after each assigned class got exactly these clusters; other classes keep theirs."""
    unchanged = {cluster: name for cluster, name in names.items() if name not in assigned}
    changed = {cluster: name for name, clusters in assigned.items() for cluster in clusters}
    return unchanged | changed


def check_names(names: Names, count: int, classes: Sequence[str]) -> None:
    """Check that the clusters and classes of names exist.

    Args:
        names: to be checked.
        count: of clusters.
        classes: of the project, background first.

    Raises:
        SettingsError: there is no such cluster or class.
    """
    for cluster, name in names.items():
        if name not in classes[1:]:
            raise SettingsError(
                f"The project has no class '{name}' to name clusters after: use "
                f"{_listed(classes[1:])}."
            )
        if not 1 <= cluster <= count:
            raise SettingsError(
                f"There is no cluster {cluster}: the run has clusters 1 to {count}."
            )


def _listed(names: Sequence[str]) -> str:
    """``a, b or c``."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def shares(clusters: Array, part: Coverage | None = None) -> NDArray[np.float64]:
    """Estimate the share of the voxels in each cluster.

    Up to 64 rectangles of 512 x 512 voxels, spread evenly over what is predicted, are read.

    Args:
        clusters: stored probabilities, (k, z, y, x) uint8.
        part: that is predicted; None for the whole volume.

    Returns:
        Shape (k,); the sum is below 1 where the background is most probable in some voxels.
    """
    counts = np.zeros(clusters.shape[0] + 1)
    if part is None or part.is_all:
        # More rectangles than sections would lie on top of each other in thin volumes.
        boxes = spread(Box.whole(clusters.shape[1:]), min(_SAMPLES, clusters.shape[1]), _SIDE)
    else:
        boxes = part.some_cells(_SAMPLES, _SIDE)
    for box in boxes:
        ids = class_ids(np.asarray(clusters[(slice(None), *box.slices)]))
        counts += np.bincount(ids.ravel(), minlength=len(counts))
    return counts[1:] / max(counts.sum(), 1)


class NamedClusters:
    """Class probabilities: the sum over the clusters named after each class; read where sliced.

    Args:
        clusters: stored probabilities, (k, z, y, x) uint8; two or more.
        names: class by cluster.
        classes: of the project, background first.

    Attributes:
        shape: (C - 1, z, y, x).
        chunks: those of ``clusters``.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, clusters: Array, names: Names, classes: Sequence[str]) -> None:
        self._clusters = clusters
        self._channels_of_class = [
            [cluster - 1 for cluster, name in sorted(names.items()) if name == class_name]
            for class_name in classes[1:]
        ]
        self.shape = (len(self._channels_of_class), *clusters.shape[1:])
        self.chunks = getattr(clusters, "chunks", None)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Slice like NumPy; the first entry, an integer or a slice, selects classes."""
        selected, *position = key if isinstance(key, tuple) else (key,)
        if isinstance(selected, slice):
            indices = range(*selected.indices(len(self._channels_of_class)))
            return np.stack([self._sum(index, position) for index in indices])
        return self._sum(selected, position)

    def _sum(self, index: int, position: Sequence[Any]) -> NDArray[np.uint8]:
        channels = self._channels_of_class[index]
        if not channels:
            # A class without clusters still has a channel, of the same shape as the others.
            return np.zeros_like(np.asarray(self._clusters[(0, *position)]))
        # uint8 cannot overflow: the stored probabilities of all clusters add up to 255 at most.
        return np.sum(
            [np.asarray(self._clusters[(channel, *position)]) for channel in channels],
            axis=0,
            dtype=np.uint8,
        )

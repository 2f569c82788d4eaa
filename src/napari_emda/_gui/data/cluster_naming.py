"""The clusters that a model has found, and their class names. No Qt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_emda._gui.common.palette import named_colour
from napari_emda._gui.process.catalogue import Catalogue
from napari_emda.data.array import Array
from napari_emda.data.probabilities import class_ids
from napari_emda.project.clusters import Names
from napari_emda.project.predictions import Prediction
from napari_emda.project.project import Project

# Share of the voxels in each cluster; cluster k is at index k - 1.
Shares = NDArray[np.float64]


@dataclass(frozen=True)
class ClusterRow:
    """A row of the table: a cluster, its share of the voxels, its class, and its colour."""

    cluster: int
    share: str
    name: str
    colour: str


class ClusterNaming:
    """The clusters of one run in one volume at a time; every change of a name is saved at once.

    Args:
        project: gives the class names.

    Attributes:
        run: that has found the clusters; empty before one is chosen.
        volume: in which they are shown; names apply to all volumes.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._shares: dict[tuple[str, str], Shares] = {}
        self.run = ""
        self.volume = ""

    def runs(self, catalogue: Catalogue) -> list[str]:
        """The runs that predict clusters, newest first."""
        return [
            run
            for run in reversed(self._project.runs.names())
            if not catalogue.learns_classes(self._project, run)
        ]

    def choose(self, run: str, volume: str) -> None:
        """Choose the run and the volume."""
        self.run = run
        self.volume = volume

    def prediction(self) -> Prediction | None:
        """The prediction of the volume by the run; None if there is none."""
        if not self.run or not self.volume:
            return None
        return self._project.predictions.of(self.run, self.volume)

    def clusters(self) -> Array | None:
        """Stored probabilities of the clusters, uint8 (k, z, y, x); None before a prediction."""
        prediction = self.prediction()
        return None if prediction is None else prediction.clusters

    def cluster_at(self, voxel: tuple[int, int, int]) -> int | None:
        """The cluster of a voxel; None outside the volume and where nothing is predicted yet."""
        clusters = self.clusters()
        if clusters is None:
            return None
        if not all(0 <= i < n for i, n in zip(voxel, clusters.shape[1:], strict=True)):
            return None
        z, y, x = voxel
        # 0 stands for a voxel without a prediction.
        return int(class_ids(np.asarray(clusters[:, z : z + 1, y, x]))[0]) or None

    # -- names -------------------------------------------------------------------------------

    def names(self) -> Names:
        """Class by cluster, of the named clusters; JobError if their file is damaged."""
        return self._project.run(self.run).cluster_names() if self.run else {}

    def toggle(self, cluster: int, name: str) -> None:
        """Give a cluster a class name, or remove that name: a second click undoes the first."""
        names = dict(self.names())
        if names.get(cluster) == name:
            del names[cluster]
        else:
            names[cluster] = name
        # On disk at once: naming is work that must not be lost.
        self._project.predictions.name_clusters(self.run, self.volume, names)

    # -- shares ------------------------------------------------------------------------------

    @property
    def shares(self) -> Shares | None:
        """Share of the voxels in each cluster; None before it is measured."""
        return self._shares.get((self.run, self.volume))

    def keep_shares(self, run: str, volume: str, measured: Shares) -> None:
        """Keep the measured shares of a run in a volume."""
        self._shares[run, volume] = measured

    def forget_shares(self, run: str, volume: str) -> None:
        """Forget the shares, because the prediction has changed."""
        self._shares.pop((run, volume), None)

    # -- the table -----------------------------------------------------------------------

    def rows(self, names: Names) -> list[ClusterRow]:
        """The rows of the table; none before a prediction."""
        clusters = self.clusters()
        measured = self.shares
        return [
            ClusterRow(
                cluster,
                # Measuring reads the whole volume in the background; until then, an ellipsis.
                "…" if measured is None else f"{measured[cluster - 1]:.1%}",
                names.get(cluster, ""),
                named_colour(cluster, names, self._project.classes),
            )
            for cluster in range(1, (0 if clusters is None else clusters.shape[0]) + 1)
        ]

    def in_words(self, names: Names) -> str:
        """Number and share of the clusters of each class, as a sentence; empty without names."""
        sentences = []
        # A dictionary keeps the order in which the classes were named.
        for name in dict.fromkeys(names.values()):
            members = [cluster for cluster, other in names.items() if other == name]
            clusters = "1 cluster" if len(members) == 1 else f"{len(members)} clusters"
            share = ""
            if self.shares is not None:
                share = f", {sum(self.shares[k - 1] for k in members):.1%} of the voxels"
            sentences.append(f"{name}: {clusters}{share}")
        return "; ".join(sentences) + "." if sentences else ""

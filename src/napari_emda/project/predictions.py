"""Predictions of runs: of the project's classes, or of clusters that can be named after them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.calibration import Calibrated, Calibration
from napari_emda.data.coverage import Coverage
from napari_emda.data.probabilities import Entropy, class_ids
from napari_emda.errors import JobError
from napari_emda.io.checked_store import open_array
from napari_emda.project.clusters import NamedClusters, Names, check_names
from napari_emda.project.region import Region
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.runs import Runs
from napari_emda.project.stored_calibration import calibration_in_use
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.project.undo import ClusterNames, Journal


@dataclass(frozen=True)
class Outputs:
    """The meaning of a model's outputs: the project's classes, or clusters found without labels.

    Attributes:
        names: of the outputs as the model knows them, background first.
        classes: of the project, background first.
        cluster_names: class by cluster, from 1, of the clusters that have a name.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    cluster_names: Names = field(default_factory=dict)

    @property
    def are_clusters(self) -> bool:
        """Whether the outputs are clusters instead of classes."""
        return self.names != self.classes

    @property
    def count(self) -> int:
        """Number of foreground classes, or of clusters."""
        return len(self.names) - 1

    @property
    def unnamed(self) -> bool:
        """Whether the outputs are clusters and none has a name: no class can be predicted."""
        return self.are_clusters and not self.cluster_names

    @property
    def reported(self) -> tuple[str, ...]:
        """Names of what is shown and exported, background first.

        These are the classes; clusters as long as none of them has a name.
        """
        return self.names if self.unnamed else self.classes

    @property
    def verb(self) -> str:
        """What a prediction has done to a volume: "predicted" or "sorted into 20 clusters"."""
        return f"sorted into {self.count} clusters" if self.are_clusters else "predicted"


@dataclass(frozen=True)
class Prediction:
    """A run's prediction of a volume. Arrays are read where they are sliced.

    Attributes:
        stored: probabilities as they are on disk, uint8 (outputs, z, y, x).
        outputs: the meaning of the channels.
        entropy: of the outputs, uint8 (z, y, x), 255 being the maximum; None if it was not stored.
        object_maps: contours and distances, see `project.stored_prediction`, uint8 (2, z, y, x);
            None if the model learnt no objects.
        journal: says which part of the volume is predicted; None if all of it is.
        calibration: of the classes, by check points; None for none.
    """

    stored: Array
    outputs: Outputs
    entropy: Array | None = None
    object_maps: Array | None = None
    journal: StoredPrediction | None = None
    calibration: Calibration | None = None

    @property
    def predicted(self) -> Coverage:
        """The part of the volume that is predicted; elsewhere, the arrays hold nothing."""
        z, y, x = self.stored.shape[1:]
        if self.journal is None:
            return Coverage.of((z, y, x), [Box.whole((z, y, x))])
        part = self.journal.predicted
        # Where the journal cannot be trusted, it knows no volume either.
        return part if part.shape == (z, y, x) else Coverage.nothing((z, y, x))

    @property
    def classes(self) -> Array | None:
        """Probabilities of the project's classes, uint8 (C - 1, z, y, x).

        They are calibrated if a calibration is in use. With clusters, they follow from the names;
        None as long as no cluster has one.
        """
        if self.outputs.are_clusters:
            return self._named
        return (
            self.stored if self.calibration is None else Calibrated(self.stored, self.calibration)
        )

    @property
    def clusters(self) -> Array | None:
        """Probabilities of the clusters, uint8 (k, z, y, x); None if classes are predicted."""
        return self.stored if self.outputs.are_clusters else None

    @property
    def reported(self) -> Array:
        """Probabilities of what is shown and exported, see `Outputs.reported`."""
        classes = self.classes
        return self.stored if classes is None else classes

    @property
    def uncertainty(self) -> Array | None:
        """Uncertainty about the project's classes, uint8 (z, y, x).

        Uncertainty about the clusters as long as none has a name; None if it was not stored.
        """
        named = self._named
        # Which of two clusters of one class a voxel is in makes no difference.
        return self.entropy if named is None else Entropy(named)

    @property
    def _named(self) -> NamedClusters | None:
        if not self.outputs.cluster_names or not self.outputs.are_clusters:
            return None
        return NamedClusters(self.stored, self.outputs.cluster_names, self.outputs.classes)

    def class_ids(self, box: Box) -> NDArray[np.uint8] | None:
        """The project's class of each voxel of a box.

        None as long as no cluster has a name, or if the box is not predicted.
        """
        classes = self.classes
        if classes is None or not self.predicted.covers(box):
            return None
        return class_ids(np.asarray(classes[(slice(None), *box.slices)]))


class Predictions:
    """The predictions of all runs of a project.

    Args:
        folder: of the project.
        classes: of the project, background first.
        runs: of the project.
        journal: gets the names of clusters before they are changed.
    """

    def __init__(
        self, folder: Path, classes: tuple[str, ...], runs: Runs, journal: Journal
    ) -> None:
        self._folder = folder
        self._classes = classes
        self._runs = runs
        self._journal = journal

    def of(self, run: str, volume: str) -> Prediction | None:
        """A run's prediction of a volume, complete or not; None if there is none."""
        folder = RunFolder.of(self._folder, run)
        stored = _opened(folder.probabilities(volume))
        if stored is None:
            return None
        # The first version did not store the names.
        names: Any = stored.attrs.get("classes", self._classes)
        if not _are_outputs(names, stored):
            return None
        outputs = self.outputs(run, tuple(names))
        maps = _opened(folder.object_maps(volume))
        if maps is not None and not _are_maps(maps, stored):
            maps = None
        in_use = None if outputs.are_clusters else calibration_in_use(folder, volume)
        calibration = None if in_use is None else in_use.calibration
        entropy = _opened(folder.uncertainty(volume))
        journal = StoredPrediction(folder, volume)
        return Prediction(stored, outputs, entropy, maps, journal, calibration)

    def newest_run(self, volume: str) -> str | None:
        """The newest run that has begun to predict the classes of a volume."""
        return self._newest(volume, lambda prediction: prediction.classes is not None)

    def newest_clustering(self, volume: str) -> str | None:
        """The newest run that has begun to find clusters in a volume."""
        return self._newest(volume, lambda prediction: prediction.outputs.are_clusters)

    def _newest(self, volume: str, wanted: Callable[[Prediction], bool]) -> str | None:
        for run in reversed(self._runs.names()):
            prediction = self.of(run, volume)
            if prediction is not None and wanted(prediction):
                return run
        return None

    def in_region(self, region: Region) -> NDArray[np.uint8] | None:
        """Class ids that a region's run predicted in it; None if it did not predict the volume."""
        prediction = self.of(region.run, region.volume) if region.run else None
        return None if prediction is None else prediction.class_ids(region.voxels)

    def outputs(self, run: str, names: tuple[str, ...]) -> Outputs:
        """The meaning of a run's outputs.

        Args:
            run: its name.
            names: of the outputs, background first, as its checkpoint and its predictions have
                them.
        """
        if names == self._classes:
            return Outputs(names, self._classes)
        return Outputs(names, self._classes, RunFolder.of(self._folder, run).cluster_names())

    def name_clusters(self, run: str, volume: str, names: Names) -> Prediction:
        """Name clusters of a run after classes, instead of the earlier names; written at once.

        Args:
            run: one whose prediction of the volume is on disk.
            volume: name of the volume.
            names: class by cluster; all other clusters are background.

        Returns:
            The prediction with the new names.

        Raises:
            JobError: the run has found no clusters in this volume.
            SettingsError: there is no such cluster or class.
        """
        prediction = self.of(run, volume)
        if prediction is None or not prediction.outputs.are_clusters:
            raise JobError(
                f"The run '{run}' has found no clusters in '{volume}': choose a run of iic, and "
                "predict."
            )
        check_names(names, prediction.outputs.count, self._classes)
        before = prediction.outputs.cluster_names
        if dict(names) != dict(before):
            self._journal.add(ClusterNames(run, dict(before)))
        RunFolder.of(self._folder, run).write_cluster_names(names)
        outputs = replace(prediction.outputs, cluster_names=names)
        return replace(prediction, outputs=outputs)


def _are_outputs(names: object, stored: zarr.Array[Any]) -> bool:
    """Whether these can be the names of what an array holds, background first."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return False
    return stored.ndim == 4 and stored.dtype == np.uint8 and len(names) == stored.shape[0] + 1


def _are_maps(maps: zarr.Array[Any], stored: zarr.Array[Any]) -> bool:
    """Whether an array can hold the maps of objects that belong to probabilities."""
    return maps.dtype == np.uint8 and maps.shape == (2, *stored.shape[1:])


def _opened(path: Path) -> zarr.Array[Any] | None:
    try:
        return open_array(path) if path.exists() else None
    except (OSError, ValueError, KeyError):
        # Another process has just begun to write the array, or a crash left it incomplete.
        return None

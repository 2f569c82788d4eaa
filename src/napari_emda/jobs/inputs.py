"""What jobs name: a model, a volume, a prediction; and whether they can be used."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

from napari_emda.data.array import Array
from napari_emda.data.volume import Volume
from napari_emda.errors import JobError
from napari_emda.events import Event
from napari_emda.inference import checkpoint
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.project.job_files.base import ModelJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings


def check_writable(project: Project) -> None:
    """JobError when nothing can be written to the project."""
    if not os.access(project.folder, os.W_OK):
        raise JobError(
            f"The project '{project.folder}' is read-only: copy it to a folder that can be written."
        )


def model_of(project: Project, job: ModelJob) -> Path:
    """The file of the model that a job asks for; JobError when there is none."""
    return checkpoint.find(project.run(job.run), job.checkpoint)


def volume_of(project: Project, job: ModelJob) -> Volume:
    """The volume that a job asks for, by default the first target; JobError when there is none."""
    return project.volume(job.volume or project.target().name)


def ensure_predicted(
    project: Project, run: str, volume: str, model: str = "selected"
) -> Generator[Event]:
    """Predict a volume with one of a run's models, unless that was done already."""
    folder = project.run(run)
    path = checkpoint.find(folder, model)
    if not StoredPrediction(folder, volume).complete(checkpoint.read_header(path).model):
        predictor = Predictor.load(path)
        yield from predict(predictor, project.volume(volume), PredictSettings(), folder)


def check_predicts(folder: RunFolder, header: ModelHeader) -> None:
    """JobError when a run has learnt features alone."""
    if header.features_only:
        raise JobError(
            f"The run '{folder.name}' was trained without labels and predicts nothing: annotate "
            "some patches, and train a method from it."
        )


def check_clusters_named(project: Project, folder: RunFolder, header: ModelHeader) -> None:
    """JobError when a run tells clusters apart and none has a name.

    Asked before a long prediction, not after it.
    """
    if header.classes != project.classes and not project.names(folder.name):
        raise _unnamed(folder)


def class_probabilities(project: Project, folder: RunFolder, volume: str) -> Array:
    """What a run that has predicted a volume says of the project's classes.

    Returns:
        (C - 1, z, y, x) uint8, channel c being class c + 1.

    Raises:
        JobError: the run tells clusters apart and none has a name.
    """
    probabilities = project.probabilities(folder.name, volume)
    if probabilities is None:
        raise _unnamed(folder)
    return probabilities


def _unnamed(folder: RunFolder) -> JobError:
    return JobError(
        f"The run '{folder.name}' has found clusters that have no names yet: name some in Data, or "
        "with name-clusters, first."
    )

"""Carries a job out: the same in a thread, a child process or on a cluster node."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from napari_emda.data.volume import Array, Volume
from napari_emda.errors import JobError
from napari_emda.events import Event, Finished, Started
from napari_emda.export.results import export_probabilities
from napari_emda.inference import checkpoint
from napari_emda.inference.checkpoint import Header
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.stored_prediction import Prediction
from napari_emda.io.write import VOLUME_SUFFIXES, claim
from napari_emda.project.job_files import ExportJob, PredictJob, ScoreJob, SuggestJob
from napari_emda.project.project import Project
from napari_emda.settings.prediction import PredictSettings


def _writable(project: Project) -> Project:
    if not os.access(project.folder, os.W_OK):
        raise JobError(
            f"The project '{project.folder}' is read-only: copy it to a folder that can be written."
        )
    return project


def _model(project: Project, job: PredictJob | SuggestJob | ScoreJob | ExportJob) -> Path:
    """The model that a job asks for; JobError when there is none."""
    return checkpoint.find(project.run(job.run), job.checkpoint)


def _asked(project: Project, volume: str | None) -> Volume:
    return project.volume(volume or project.target().name)


def _predict(job: PredictJob) -> Iterator[Event]:
    project = Project.open(job.project)
    folder, volume = project.run(job.run), _asked(project, job.volume)
    predictor = Predictor.load(_model(project, job), job.settings.device, job.settings.precision)
    _check_learnt(folder, predictor.header)
    if job.out is not None:
        claim(job.out, VOLUME_SUFFIXES, overwrite=False)
    _writable(project)
    yield Started("predict", folder.name, str(predictor.compute), 0)
    yield from predict(predictor, volume, job.settings, folder)
    path = str(folder / "probabilities.zarr" / volume.name)
    if job.out is not None:
        probabilities = Prediction(folder, volume.name).probabilities
        kept: dict[str, Any] = {"volume": volume.name, "depth": volume.depth}
        yield from export_probabilities(probabilities, job.out, volume.spacing, volume.unit, **kept)
        path = job.out
    result = {"run": folder.name, "volume": volume.name, "probabilities": path}
    classes = predictor.header.classes
    done = "predicted" if classes == project.classes else f"sorted into {len(classes) - 1} clusters"
    yield Finished("done", f"'{volume.name}' is {done} with run {folder.name}.", result)


def predicted(
    project: Project, run: str | None, volume: str | None, model: str = "selected"
) -> Generator[Event]:
    """Predict a volume with a run's model unless that was done already."""
    folder, entry = project.run(run), _asked(project, volume)
    path = checkpoint.find(folder, model)
    if not Prediction(folder, entry.name).complete(checkpoint.read_header(path).model):
        yield from predict(Predictor.load(path), entry, PredictSettings(), folder)


def _check_learnt(folder: Path, header: Header) -> None:
    """JobError when a run has learnt features alone."""
    if header.features_only:
        raise JobError(
            f"The run '{folder.name}' was trained without labels and predicts nothing: annotate some patches, and "
            "train a method from it."
        )


def _check_named(project: Project, folder: Path, header: Header) -> None:
    """JobError when a run tells clusters apart that have no names: before a long prediction, not after it."""
    if header.classes != project.classes and not project.names(folder.name):
        raise _unnamed(folder)


def _unnamed(folder: Path) -> JobError:
    return JobError(
        f"The run '{folder.name}' has found clusters that have no names yet: name some in Data, or with name-clusters, "
        "first."
    )


def _named(project: Project, folder: Path, volume: str) -> Array:
    """What a run that has predicted a volume says of the project's classes; JobError when it tells clusters apart."""
    probabilities = project.probabilities(folder.name, volume)
    if probabilities is None:
        raise _unnamed(folder)
    return probabilities

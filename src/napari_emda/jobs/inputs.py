"""The model, volume and prediction that a job names, and whether they can be used."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.errors import EmdaError, JobError
from napari_emda.events import Event, Notice
from napari_emda.inference import checkpoint
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.origin import begun_with, origin_of_file, unusual
from napari_emda.inference.predict import part_around, predict
from napari_emda.inference.predictor import Predictor
from napari_emda.io.identity import file_identity
from napari_emda.jobs.workers.pool import JobWorkers
from napari_emda.project.job_files.base import ModelJob
from napari_emda.project.packing.crops import remark_on_crops
from napari_emda.project.predictions import Outputs, Prediction
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.project.unchanged_prediction import UnchangedPrediction
from napari_emda.settings.prediction import PredictSettings


def check_writable(project: Project) -> None:
    """JobError if the project's folder is read-only."""
    if not os.access(project.folder, os.W_OK):
        raise JobError(
            f"The project '{project.folder}' is read-only: copy it to a folder that can be written."
        )


def model_of(project: Project, job: ModelJob) -> Path:
    """The file of the model that a job uses; JobError if there is none."""
    return checkpoint.find(project.run(job.run), job.checkpoint)


def remarks(project: Project, run: str | None) -> Iterator[Notice]:
    """What to know of the images, and of a model that is used by default."""
    if text := remark_on_crops(project):
        yield Notice(text)
    if run is not None and run == project.runs.latest() and (text := project.runs.remark(run)):
        yield Notice(text)


def backed_up(project: Project) -> Iterator[Notice]:
    """Copy the annotations, as after each round; a copy that fails stops no job."""
    try:
        project.backups.make()
    except EmdaError as error:
        yield Notice(f"The annotations were not copied to a backup. {error}")
    except OSError as error:
        yield Notice(
            f"The annotations were not copied to a backup ({error.strerror}): make room on the "
            "disk of the project."
        )


def volume_of(project: Project, job: ModelJob) -> Volume:
    """The volume that a job uses, by default the first target; JobError if there is none."""
    return project.volumes.open(job.volume or project.volumes.target().name)


def ensure_predicted(
    project: Project,
    run: str,
    volume: str,
    model: str = "selected",
    box: Box | None = None,
    workers: JobWorkers | None = None,
) -> Generator[Event, None, tuple[int, ...]]:
    """Predict a volume with one of a run's models, unless the stored prediction is complete.

    A prediction of a part is completed with the settings that it was begun with.

    Args:
        project: of the run.
        run: its name.
        volume: name of the volume.
        model: which of the run's models.
        box: a part of the volume that is enough.
        workers: the processes that predict, if anything is missing; by default this one.

    Yields:
        A Notice if the stored prediction was made with other settings than the model asks for, or
        if only a part was predicted; the events of predicting.

    Returns:
        The state of the complete prediction, for `prediction_of`.

    Raises:
        JobError: the project is read-only and nothing is predicted, or another process predicts.
    """
    folder = project.run(run)
    path = checkpoint.find(folder, model)
    opened = project.volumes.open(volume)
    made_from = origin_of_file(path, opened)
    stored = StoredPrediction(folder, volume)
    # Before looking, so that whatever another process does afterwards is noticed.
    state = stored.state
    if stored.complete(made_from, box=box):
        if text := unusual(stored.header, checkpoint.read_header(path), opened):
            yield Notice(text)
        return state
    check_writable(project)
    settings = PredictSettings()
    if stored.is_of(made_from):
        settings = begun_with(stored.header, settings)
        share = stored.predicted.share
        if share > 0:
            what = "the rest" if box is None else f"what is missing in {box}"
            yield Notice(
                f"{percent(share)} of '{volume}' is predicted so far; {what} is predicted now."
            )
    wanted = None if box is None else part_around(opened, [box])
    settings = as_begun(settings, stored, path)
    others = None if workers is None else workers.open()
    if others is None:
        predictor = Predictor.load(path, settings.device, settings.precision)
    else:
        predictor = yield from others.load(path, settings)
    yield from predict(predictor, opened, settings, folder, wanted)
    return stored.state


def as_begun(settings: PredictSettings, stored: StoredPrediction, model: Path) -> PredictSettings:
    """Settings with the number format in which a model has begun a prediction.

    So it goes on with another processor, and with workers of other processors: in another format it
    would begin anew.

    Args:
        settings: of the prediction, with a precision of ``auto`` if it may be chosen.
        stored: what is predicted so far.
        model: file of the model.
    """
    header = stored.header
    is_free = settings.precision == "auto" and "precision" in header
    if not is_free or header.get("model_file") != file_identity(model):
        return settings
    return settings.model_copy(update={"precision": header["precision"]})


def percent(share: float) -> str:
    """A share of a volume; what is not all is never rounded to it, and a little never to none."""
    return f"{min(max(100 * share, 0.01), 99.99):.2g} %" if 0 < share < 1 else f"{share:.0%}"


def check_predicts(folder: RunFolder, header: ModelHeader) -> None:
    """JobError if a run has learnt features but no classes."""
    # Heads that saw no label would predict noise.
    if header.features_only:
        raise JobError(
            f"The run '{folder.name}' was trained without labels and predicts nothing: annotate "
            "some patches, and train a method from it."
        )


def check_has_classes(folder: RunFolder, outputs: Outputs) -> None:
    """JobError if a run predicts clusters and none of them has the name of a class."""
    if outputs.unnamed:
        raise JobError(
            f"The run '{folder.name}' has found clusters that have no names yet: say which of them "
            "belong to which class first."
        )


def unused_maps(prediction: Prediction, settings: object) -> Iterator[Notice]:
    """Whether the model knows where objects end, and the settings separate none."""
    if prediction.object_maps is not None and getattr(settings, "separate", None) == 0:
        yield Notice(
            "The model has learnt where objects end, and this is not used: choose separate=0.5, "
            "for example, to separate objects that touch."
        )


def prediction_of(
    project: Project, folder: RunFolder, volume: str, state: tuple[int, ...] | None = None
) -> Prediction:
    """A run's stored prediction of a volume.

    Args:
        project: of the run.
        folder: of the run.
        volume: name of the volume.
        state: of the prediction, as `ensure_predicted` returns it. In any other state, reading
            raises a JobError.

    Raises:
        JobError: it was deleted in the meantime.
    """
    prediction = project.predictions.of(folder.name, volume)
    if prediction is None:
        raise JobError(
            f"The prediction of '{volume}' by run '{folder.name}' is gone: predict it again."
        )
    if state is None:
        return prediction
    stored = StoredPrediction(folder, volume)
    maps = prediction.object_maps
    return replace(
        prediction,
        stored=UnchangedPrediction(prediction.stored, stored, state),
        object_maps=None if maps is None else UnchangedPrediction(maps, stored, state),
    )

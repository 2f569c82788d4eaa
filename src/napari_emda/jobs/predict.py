"""Predicting a volume with a run's model."""

from __future__ import annotations

from collections.abc import Iterator

from napari_emda.events import Event, Finished, Started
from napari_emda.export.results import export_probabilities
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.stored_prediction import Prediction
from napari_emda.io.write import VOLUME_SUFFIXES, claim
from napari_emda.jobs.inputs import check_predicts, check_writable, model_of, volume_of
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.project.job_files import PredictJob
from napari_emda.project.project import Project


def run(job: PredictJob, _: PreviewRequest) -> Iterator[Event]:
    """Segment a volume; what was predicted before is kept.

    Raises:
        EmdaError: there is no such run or volume, or the result cannot be written.
    """
    project = Project.open(job.project)
    folder = project.run(job.run)
    volume = volume_of(project, job)
    predictor = Predictor.load(model_of(project, job), job.settings.device, job.settings.precision)
    check_predicts(folder, predictor.header)
    if job.out is not None:
        claim(job.out, VOLUME_SUFFIXES, overwrite=False)
    check_writable(project)
    yield Started("predict", folder.name, str(predictor.compute), 0)
    yield from predict(predictor, volume, job.settings, folder)
    path = str(folder / "probabilities.zarr" / volume.name)
    if job.out is not None:
        probabilities = Prediction(folder, volume.name).probabilities
        yield from export_probabilities(probabilities, job.out, volume.grid, volume=volume.name)
        path = job.out
    result = {"run": folder.name, "volume": volume.name, "probabilities": path}
    classes = predictor.header.classes
    done = "predicted" if classes == project.classes else f"sorted into {len(classes) - 1} clusters"
    yield Finished("done", f"'{volume.name}' is {done} with run {folder.name}.", result)

"""Predicting a volume with a run's model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from napari_emda.events import Event, Finished, Started, phases
from napari_emda.export.base import Result
from napari_emda.export.probabilities import ProbabilitiesExporter
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.jobs.inputs import check_predicts, check_writable, model_of, remarks, volume_of
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.project.job_files import PredictJob
from napari_emda.project.project import Project
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.project.unchanged_prediction import UnchangedPrediction


def run(job: PredictJob, _: PreviewRequest) -> Iterator[Event]:
    """Segment a volume; blocks that are predicted already are kept.

    Yields:
        Started, Phase, TileDone after each block, Finished with ``run``, ``volume`` and the path of
        the ``probabilities``.

    Raises:
        EmdaError: there is no such run or volume, or the result cannot be written.
    """
    project = Project.open(job.project)
    folder = project.run(job.run)
    volume = volume_of(project, job)
    model = model_of(project, job)
    predictor = Predictor.load(model, job.settings.device, job.settings.precision)
    check_predicts(folder, predictor.header)
    classes = predictor.header.classes
    exporter = ProbabilitiesExporter(ProbabilitiesExporter.Settings())
    # A wrong file name must fail now and not after a prediction of hours.
    if job.out is not None:
        project.claim(job.out, exporter.suffixes(), overwrite=False)
        exporter.check(Path(job.out), classes[1:])
    check_writable(project)
    yield Started("predict", folder.name, str(predictor.compute), 0)
    yield from remarks(project, folder.name)
    # Writing a block costs little against the network.
    to_file = [("Writing the file", 0.1)] if job.out is not None else []
    plan = phases(("Predicting", 1.0), *to_file)
    yield next(plan)
    yield from predict(predictor, volume, job.settings, folder)
    path = str(folder.probabilities(volume.name))
    if job.out is not None:
        yield next(plan)
        stored = StoredPrediction(folder, volume.name)
        probabilities = UnchangedPrediction(stored.probabilities, stored, stored.state)
        class_ids = exporter.class_ids(classes[1:], None)
        exported = Result(folder.name, model, volume, classes[1:], class_ids, probabilities)
        yield from exporter.export(exported, job.out)
        path = job.out
    result = {"run": folder.name, "volume": volume.name, "probabilities": path}
    outputs = project.predictions.outputs(folder.name, classes)
    yield Finished("done", f"'{volume.name}' is {outputs.verb} with run {folder.name}.", result)

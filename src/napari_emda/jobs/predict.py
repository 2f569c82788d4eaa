"""Predicting a volume with a run's model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from napari_emda.data.box import Box
from napari_emda.errors import SettingsError
from napari_emda.events import Event, Finished, Started, phases
from napari_emda.export.base import Result
from napari_emda.export.probabilities import ProbabilitiesExporter
from napari_emda.inference import checkpoint
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.jobs.inputs import (
    as_begun,
    check_predicts,
    check_writable,
    model_of,
    percent,
    prediction_of,
    remarks,
    volume_of,
)
from napari_emda.jobs.part import part_of
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.jobs.workers.pool import open_workers
from napari_emda.project.job_files import PredictJob
from napari_emda.project.project import Project
from napari_emda.project.stored_prediction import StoredPrediction


def run(job: PredictJob, _: PreviewRequest) -> Iterator[Event]:
    """Segment a volume or a part of it; blocks that are predicted already are kept.

    Yields:
        Started, Phase, TileDone after each block, Finished with ``run``, ``volume`` and the path of
        the ``probabilities``.

    Raises:
        EmdaError: there is no such run or volume, the part cannot be predicted, or the result
            cannot be written.
    """
    project = Project.open(job.project)
    folder = project.run(job.run)
    volume = volume_of(project, job)
    model = model_of(project, job)
    header = checkpoint.read_header(model)
    check_predicts(folder, header)
    classes = header.classes
    exporter = ProbabilitiesExporter(ProbabilitiesExporter.Settings())
    # A wrong file name must fail now and not after a prediction of hours.
    if job.out is not None:
        project.claim(job.out, exporter.suffixes(), overwrite=False)
        exporter.check(Path(job.out), classes[1:])
        if job.mask is not None:
            raise SettingsError(
                "A file holds a whole box, of which a mask leaves parts out: choose either a file "
                "or a mask."
            )
    # Reading a mask takes a while.
    wanted = part_of(volume, job.box, job.mask)
    check_writable(project)
    stored = StoredPrediction(folder, volume.name)
    settings = as_begun(job.settings, stored, model)
    with open_workers(job.where, project.folder) as workers:
        if workers is None:
            predictor = Predictor.load(model, settings.device, settings.precision)
        device = str(predictor.compute if workers is None else workers)
        yield Started("predict", folder.name, device, 0)
        yield from remarks(project, folder.name)
        # Writing a block costs little against the network.
        to_file = [("Writing the file", 0.1)] if job.out is not None else []
        plan = phases(("Predicting", 1.0), *to_file)
        if workers is not None:
            predictor = yield from workers.load(model, settings)
        yield next(plan)
        yield from predict(predictor, volume, settings, folder, wanted)
    path = str(folder.probabilities(volume.name))
    if job.out is not None:
        yield next(plan)
        prediction = prediction_of(project, folder, volume.name, stored.state)
        clusters = prediction.clusters
        probabilities = prediction.reported if clusters is None else clusters
        class_ids = exporter.class_ids(classes[1:], None)
        exported = Result(folder.name, model, volume, classes[1:], class_ids, probabilities)
        if job.box:
            exported = exported.in_box(Box.parse(job.box, volume.shape))
        yield from exporter.export(exported, job.out)
        path = job.out
    share = stored.predicted.share
    result = {
        "run": folder.name,
        "volume": volume.name,
        "probabilities": path,
        "predicted_share": round(share, 6),
    }
    outputs = project.predictions.outputs(folder.name, classes)
    what = f"'{volume.name}'" if share == 1 else f"{percent(share)} of '{volume.name}'"
    yield Finished("done", f"{what} is {outputs.verb} with run {folder.name}.", result)

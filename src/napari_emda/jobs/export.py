"""Writing a result to a file of the user's choice."""

from __future__ import annotations

from collections.abc import Iterator

from napari_emda.data.block_runner import IN_TURN, BlockRunner
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.errors import SettingsError
from napari_emda.events import Event, Finished, Started, phases
from napari_emda.export.base import CarriedEdits, Result, exporters
from napari_emda.inference import checkpoint
from napari_emda.jobs.inputs import (
    check_has_classes,
    check_predicts,
    ensure_predicted,
    model_of,
    prediction_of,
    remarks,
    unused_maps,
    volume_of,
)
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.jobs.workers.pool import JobWorkers
from napari_emda.project.job_files import ExportJob
from napari_emda.project.project import Project
from napari_emda.project.stored_calibration import described


def run(job: ExportJob, _: PreviewRequest) -> Iterator[Event]:
    """Write a run's prediction of a volume, or its model, in the format of an exporter.

    Yields:
        Started, Phase, TileDone while predicting and exporting, Finished with the ``path``.

    Raises:
        EmdaError: there is no such run, volume or class, or the file cannot be written.
    """
    project = Project.open(job.project)
    with JobWorkers(job.where, project.folder) as workers:
        yield from _run(job, project, workers)


def _run(job: ExportJob, project: Project, workers: JobWorkers) -> Iterator[Event]:
    cls = exporters[job.what]
    exporter = cls(cls.Settings.parse(job.settings))
    folder = project.run(job.run)
    volume = _volume_of(project, job, needs_prediction=cls.needs_prediction)
    box = _box_of(job, volume, takes_box=cls.takes_box)
    # Everything that can be refused is refused before the prediction, which may take hours.
    path = project.claim(job.to, cls.suffixes(), overwrite=job.overwrite)
    if job.where.elsewhere:
        # Workers may have been started in another folder.
        path = path.absolute()
    model = model_of(project, job)
    header = checkpoint.read_header(model)
    check_predicts(folder, header)
    outputs = project.predictions.outputs(folder.name, header.classes)
    if cls.needs_names:
        check_has_classes(folder, outputs)
    classes = outputs.reported[1:]
    class_ids = cls.class_ids(classes, job.class_name)
    exporter.check(path, [classes[k - 1] for k in class_ids])
    yield Started("export", folder.name, "cpu", 0)
    yield from remarks(project, folder.name)
    # Without a network, the file is written in a fraction of the time of a prediction.
    plan = phases(("Predicting", 1.0), ("Writing the file", 0.3))
    predicting = next(plan)
    prediction = None
    object_maps = None
    runner: BlockRunner = IN_TURN
    if cls.needs_prediction:
        yield predicting
        state = yield from ensure_predicted(
            project, folder.name, volume.name, job.checkpoint, box, workers
        )
        stored = prediction_of(project, folder, volume.name, state)
        prediction = stored.reported
        object_maps = stored.object_maps
        yield from unused_maps(stored, exporter.settings)
        runner = yield from workers.runner(volume, path.parent)
    yield next(plan)
    edits = CarriedEdits(
        {name: project.object_edits.of(volume.name, name) for name in classes},
        described(folder, volume.name),
        dict(outputs.cluster_names),
    )
    result = Result(
        folder.name, model, volume, classes, class_ids, prediction, edits, object_maps, runner
    )
    if box is not None:
        result = result.in_box(box)
    yield from exporter.export(result, path, overwrite=job.overwrite)
    part = "" if box is None else f" in {box}"
    text = f"Exported {job.what} of '{volume.name}'{part} (run {folder.name}) to {job.to}."
    remarks_on_file = (edits.sentence, exporter.lost(result, path))
    yield Finished("done", " ".join(filter(None, [text, *remarks_on_file])), {"path": job.to})


def _volume_of(project: Project, job: ExportJob, *, needs_prediction: bool) -> Volume:
    """The volume of a job; of a project without a target, models are exported all the same."""
    volumes = project.volumes
    if job.volume or needs_prediction or volumes.targets() or not volumes.entries:
        return volume_of(project, job)
    return volumes.open(volumes.entries[0].name)


def _box_of(job: ExportJob, volume: Volume, *, takes_box: bool) -> Box | None:
    """The part that is exported; None for the whole volume, or for what is not of a volume."""
    if not job.box:
        return None
    if not takes_box:
        raise SettingsError(
            f"'{job.what}' is not of a part of the volume, which would cut objects: leave out the "
            "box, or export mask or probabilities."
        )
    return Box.parse(job.box, volume.shape)

"""What a teacher predicts of the targets, before a network learns it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any, TypeVar

from napari_emda.data.box import Box
from napari_emda.data.volume import Domain, Volume
from napari_emda.errors import JobError
from napari_emda.events import Event, Started, phases
from napari_emda.inference import checkpoint
from napari_emda.jobs.inputs import check_predicts, ensure_predicted, prediction_of
from napari_emda.jobs.prepare_training import VolumesOf
from napari_emda.methods.base import methods
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.settings.requirements import FIXED, Available

Returned = TypeVar("Returned")


def is_taught(job: TrainJob) -> bool:
    """Whether a training learns what another run predicts."""
    return methods[job.method].taught


def with_teacher(project: Project, job: TrainJob) -> TrainJob:
    """The job with all that follows from its teacher: name, pixel size and start.

    Raises:
        JobError: there is no run to learn from, or it predicts other classes.
    """
    cls = methods[job.method]
    settings: Any = cls.Settings.parse(job.method_settings)
    fixed = [name for name in project.runs.names() if is_fixed(project, name)]
    teacher = settings.teacher or (fixed[-1] if fixed else job.start_from)
    if not teacher:
        cls.requirements.check(job.method, Available())
    folder = project.run(teacher)
    header = checkpoint.read_header(checkpoint.find(folder))
    check_predicts(folder, header)
    if header.classes != project.classes:
        raise JobError(
            f"The run '{folder.name}' predicts {', '.join(header.classes)}, and the project has "
            f"the classes {', '.join(project.classes)}: choose another teacher."
        )
    training = job.settings
    own = project.volumes.target().grid.pixel_size
    # It has seen nothing finer, and a network learns faster from fewer pixels.
    if not training.pixel_size and job.start_from in (None, teacher) and header.pixel_size > own:
        training = training.model_copy(update={"pixel_size": header.pixel_size})
    return job.model_copy(
        update={
            "method_settings": settings.model_copy(update={"teacher": folder.name}).model_dump(),
            "settings": training,
            # A teacher of another kind lends no weights, and its own would be a strange start.
            "start_from": None if job.start_from == folder.name else job.start_from,
        }
    )


def is_fixed(project: Project, run: str) -> bool:
    """Whether a run is the model of another program."""
    job = project.run(run).training()
    return job is not None and job.method == FIXED


def returned_by(events: Generator[Event, None, Returned]) -> Returned:
    """What a generator returns, without its events."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


def taught_volumes(project: Project, job: TrainJob) -> Generator[Event, None, VolumesOf]:
    """Let the teacher predict what the training sees of the targets, unless it has done so.

    Args:
        project: of the job.
        job: from `with_teacher`.

    Yields:
        Started, Phase, the events of predicting.

    Returns:
        What opens the volumes of a domain, with the teacher's predictions.
    """
    teacher = str(job.method_settings["teacher"])
    opened = []
    yield Started("predict", teacher, "cpu", 0)
    names = [entry.name for entry in project.volumes.entries if entry.domain == "target"]
    plan = phases(*(("Predicting with the teacher", 1.0) for _ in names))
    for name in names:
        yield next(plan)
        volume = project.volumes.open(name)
        box = Box.parse(job.settings.target_box, volume.shape)
        state = yield from ensure_predicted(project, teacher, name, box=box)
        prediction = prediction_of(project, project.run(teacher), name, state)
        opened.append(replace(volume, taught=prediction.reported))

    def volumes_of(domain: Domain) -> list[Volume]:
        return opened if domain == "target" else project.volumes.open_all(domain)

    return volumes_of

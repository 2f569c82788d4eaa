"""Training a method, and its result in words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from napari_emda.errors import JobError
from napari_emda.events import Advanced, Event, Finished, Notice, Phase, Started, Stepped
from napari_emda.inference import checkpoint
from napari_emda.inference.encoder_weights import encoder_of
from napari_emda.jobs.inputs import backed_up, check_writable, remarks
from napari_emda.jobs.measured_shares import with_measured_shares
from napari_emda.jobs.prepare_training import VolumesOf, prepare
from napari_emda.jobs.preview import PreviewRequest, PreviewWriter
from napari_emda.jobs.ranks import OtherRanks, check_devices, devices_left
from napari_emda.jobs.teaching import is_taught, taught_volumes, with_teacher
from napari_emda.project import comparison
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.training import model_selection
from napari_emda.training.loop import fit
from napari_emda.training.state import TrainingState
from napari_emda.training.trainer import Training


def run(job: TrainJob, request: PreviewRequest) -> Iterator[Event]:
    """Train in a new run's folder, or continue a run that was stopped.

    Yields:
        Started, Phase, the events of `napari_emda.training.loop.fit` and previews, Finished.

    Raises:
        EmdaError: the job does not fit the project; no folder is made then.
    """
    began = time.perf_counter()
    project = Project.open(job.project)
    is_new = job.resume is None
    with ExitStack() as stack:
        if job.resume is None:
            job, said = with_measured_shares(project, job)
            job = with_teacher(project, job) if is_taught(job) else job
            folder = None
        else:
            check_writable(project)
            folder = project.run(job.resume)
            stack.enter_context(folder.training_alone())
            job, said = _resumed(folder, job)
        check_devices(job)
        volumes_of: VolumesOf | None = None
        if is_taught(job):
            volumes_of = yield from taught_volumes(project, job)
        others = None
        if (job.devices or 1) > 1:
            others = stack.enter_context(OtherRanks(job, folder))
        training, volumes = prepare(project, job, folder, volumes_of, ranks=job.devices or 1)
        if others is not None:
            others.wait_until_ready()
        if folder is None:
            check_writable(project)
            folder = training.folder = project.runs.new(job.method)
            folder.write_job(_as_stored(job, training))
            stack.enter_context(folder.training_alone())
        if others is not None:
            stack.enter_context(others.training_with(training))
        training.hurry = request.hurry.is_set
        training.stop_asked = request.stop_asked
        yield Started("train", folder.name, _devices(training), job.settings.steps)
        yield from remarks(project, job.start_from if is_new else None)
        yield from backed_up(project)
        if is_new:
            said += [*_remarks_on_model(training), *training.sampler.remarks()]
            said += filter(None, [encoder_of(training.header)])
        yield from map(Notice, said)
        previews = PreviewWriter(training, volumes, request, folder)
        yield from _fit(project, training, folder, previews, began)


def _fit(
    project: Project, training: Training, folder: RunFolder, previews: PreviewWriter, began: float
) -> Iterator[Event]:
    """Train, log and preview; ``began`` is when the job began, for the seconds in the result."""
    last = Stepped(folder.saved_step, training.settings.steps, {}, 0.0)
    # Closed here also if the log cannot be written: the training then saves what it has learnt, and
    # an error of that reaches the user.
    with folder.open_log() as log, closing(fit(training, previews.phases)) as events:
        for event in events:
            # Before the event is passed on: whoever stops the job at it finds it in the log.
            # Phases and parts of them tell nothing about the model.
            if not isinstance(event, Phase | Advanced):
                log.write(event.to_json() + "\n")
            last = event if isinstance(event, Stepped) else last
            yield previews.phases.weighed(event) if isinstance(event, Advanced) else event
            # While the network is measured, it cannot be used for anything else.
            if not isinstance(event, Advanced):
                yield from previews.due(last.step)
        finished = _finished(project, training, folder, last, time.perf_counter() - began)
        log.write(finished.to_json() + "\n")
    yield from previews.last(checkpoint.find(folder), last.step)
    yield finished


def _remarks_on_model(training: Training) -> list[str]:
    """What a model that is adapted does not say of its source, in a sentence."""
    method = training.method
    if method.requirements.model == "none" or method.taught or "source" in training.header.profiles:
        return []
    return [
        "The model does not say how its source looked at this pixel size, so that grey values and "
        "the amount of each class stay as the model predicts them."
    ]


def _as_stored(job: TrainJob, training: Training) -> TrainJob:
    """The job without the path of a pretrained encoder, whose name and hash the model has."""
    if not job.network_settings.get("weights"):
        return job
    return job.model_copy(update={"network_settings": training.header.network.settings})


def _devices(training: Training) -> str:
    """What the training computes on."""
    count = "" if training.ranks is None else f"{training.ranks.count} x "
    return f"{count}{training.compute}"


def _resumed(folder: RunFolder, asked: TrainJob) -> tuple[TrainJob, list[str]]:
    """The job of a run that is continued; the project may have been moved since.

    Behind it, a sentence if it goes on with fewer devices because there are no more.
    """
    job = folder.job()
    if not isinstance(job, TrainJob):
        raise JobError(f"'{folder.name}' is not a training: choose a run that is one.")
    here = asked.devices or devices_left(job)
    said = []
    if asked.devices is None and here < (job.devices or 1):
        said = [f"The run was trained on {job.devices} devices, and goes on with {here} here."]
    return job.model_copy(update={"project": asked.project, "devices": here}), said


def _finished(
    project: Project, training: Training, folder: RunFolder, last: Stepped, seconds: float
) -> Finished:
    """The end: a warning or the next step; behind it, which model was kept and why."""
    model = checkpoint.find(folder)
    scores = TrainingState.read(model).scores
    result = {
        "run": folder.name,
        "step": last.step,
        "selected_step": checkpoint.read_header(model).step,
        "losses": last.losses,
        "seconds": round(seconds, 2),
        "device": _devices(training),
    }
    collapsed = model_selection.is_out_of_bounds(scores)
    alarms = [model_selection.warning(scores) if collapsed else "", training.method.alarm()]
    warnings = [alarm for alarm in alarms if alarm]
    details = [what_was_kept(model)]
    if training.flat:
        details.insert(0, f"It ended early, at step {last.step}: the model no longer improved.")
    if collapsed:
        details.insert(0, model_selection.WARNING_DETAILS)
    if warnings:
        result["warnings"] = warnings
    outcome_text = ""
    if training.validator is not None:
        outcome = comparison.by_score(project, folder.name, partial(score_of, project))
        runs = comparison.pair(project, folder.name)
        result |= {"scores": scores, "helped": outcome.helped, "source_only": runs and runs[1]}
        details.append(outcome.details)
        outcome_text = outcome.text
    # One remedy at a time: a model that finds nothing need not be compared.
    text = " ".join(warnings) or outcome_text
    return Finished(
        "done",
        f"Run {folder.name} is trained. {text or _next(training)}",
        result,
        " ".join(sentence for sentence in details if sentence),
    )


def _next(training: Training) -> str:
    """What comes after a training, in words that fit the dock and the command line alike."""
    if training.method.finds_clusters:
        return "Next, look at its clusters, and name those that you need."
    return "Next, suggest patches to correct, or predict the whole volume."


def what_was_kept(model: Path) -> str:
    """Which model of a run a file holds, and why that one was kept, in sentences."""
    header = checkpoint.read_header(model)
    if not header.selected:
        return f"The model of the last step ({header.step}) was kept."
    settings = TrainingState.read(model).settings
    return model_selection.sentence(header.selected, settings.steps, settings.keep)


def score_of(project: Project, run: str) -> float | None:
    """The label-free score of a run's kept model; None if it was never validated."""
    return TrainingState.read(checkpoint.find(project.run(run))).scores.get("score")

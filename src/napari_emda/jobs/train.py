"""Training a method, and what came of it in words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from napari_emda.errors import JobError
from napari_emda.events import Event, Finished, Started, Stepped
from napari_emda.inference import checkpoint
from napari_emda.jobs.inputs import check_writable
from napari_emda.jobs.prepare_training import prepare
from napari_emda.jobs.preview import PreviewRequest, PreviewWriter
from napari_emda.project import comparison
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.training import model_selection
from napari_emda.training.loop import fit
from napari_emda.training.state import TrainingState
from napari_emda.training.trainer import Training


def run(job: TrainJob, request: PreviewRequest) -> Iterator[Event]:
    """Train in a new run's folder, or go on with a run that was stopped.

    Raises:
        EmdaError: the job does not fit the project; no folder is made then.
    """
    began = time.perf_counter()
    project = Project.open(job.project)
    folder = None
    if job.resume is not None:
        folder = project.run(job.resume)
        before = folder.job()
        if not isinstance(before, TrainJob):
            raise JobError(f"'{job.resume}' is not a training run: name one.")
        job = before.model_copy(update={"project": job.project})
    training, volumes = prepare(project, job, folder)
    done = 0 if folder is None else checkpoint.read_header(checkpoint.find(folder, "last")).step
    if folder is None:
        check_writable(project)
        training.folder = folder = project.runs.new(job.method)
        folder.write_job(job)
    yield Started("train", folder.name, str(training.compute), job.settings.steps)
    preview_writer = PreviewWriter(training, volumes, request, folder)
    last = Stepped(done, job.settings.steps, {}, 0.0)
    with folder.open_log() as log:
        for event in fit(training):
            log.write(event.to_json() + "\n")
            last = event if isinstance(event, Stepped) else last
            yield event
            yield from preview_writer.due(last.step)
        finished = _outcome(project, training, folder, last, time.perf_counter() - began)
        log.write(finished.to_json() + "\n")
    yield from preview_writer.last(checkpoint.find(folder), last.step)
    yield finished


def _outcome(
    project: Project, training: Training, folder: RunFolder, last: Stepped, seconds: float
) -> Finished:
    """What a training has come to: what was kept and why, whether it is any good, and whether adapting helped."""
    model = checkpoint.find(folder)
    kept = checkpoint.read_header(model)
    scores = TrainingState.read(model).scores
    result = {
        "run": folder.name,
        "step": last.step,
        "selected_step": kept.step,
        "losses": last.losses,
        "seconds": round(seconds, 2),
        "device": str(training.compute),
    }
    sentences = [f"Run {folder.name} is trained; kept: {what_was_kept(model)}."]
    if training.flat:
        sentences.insert(0, f"Stopped at step {last.step}, since nothing better came.")
    fallen = model_selection.warning(scores) if model_selection.is_out_of_bounds(scores) else ""
    warnings = [warning for warning in (fallen, training.method.alarm()) if warning]
    sentences += warnings
    result |= {"warnings": warnings} if warnings else {}
    if training.validator is not None:
        found = comparison.by_score(project, folder.name, partial(_score_of, project))
        runs = comparison.pair(project, folder.name)
        result |= {"scores": scores, "helped": found.helped, "source_only": runs and runs[1]}
        sentences.append(found.text)
    return Finished("done", " ".join(sentences), result)


def what_was_kept(model: Path) -> str:
    """Which model of a run lies in a file that is to be used, and why that."""
    kept = checkpoint.read_header(model)
    if not kept.selected:
        return f"the model of the last step ({kept.step})"
    settings = TrainingState.read(model).settings
    return model_selection.sentence(kept.selected, settings.steps, settings.keep)


def _score_of(project: Project, run: str) -> float | None:
    return TrainingState.read(checkpoint.find(project.run(run))).scores.get("score")

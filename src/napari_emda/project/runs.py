"""What the runs of a project are and have come to, read from plain files without torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from napari_emda.errors import EmdaError, JobError
from napari_emda.project.job_files import TrainJob, read_job
from napari_emda.project.project import Project
from napari_emda.settings.training import TrainSettings

FEW_VALIDATIONS = 4
"""Of a retraining: looking at the target takes about as long as three steps, and somebody waits."""


_TAIL = 2**20
"""Bytes at the end of a log that surely hold a checkpoint's line: some ten thousand lines."""


def latest(project: Project) -> str | None:
    """The newest run with a model."""
    runs = project.runs()
    return runs[-1] if runs else None


def train_job(project: Project, run: str) -> TrainJob | None:
    """How a run was started; None when its job file is gone or damaged."""
    try:
        job = read_job(project.folder / "runs" / run / "job.json")
    except EmdaError:
        return None
    return job if isinstance(job, TrainJob) else None


def in_words(job: TrainJob) -> str:
    """What a training is."""
    start = f", going on from {job.start_from}" if job.start_from is not None else ""
    return f"{job.method}, {job.settings.steps} steps, profile {job.settings.profile}{start}"


def saved_step(folder: Path) -> int:
    """The step of a run's last checkpoint, as its log tells."""
    saved = [
        int(entry.get("step", 0))
        for entry in log(folder, last=_TAIL)
        if entry.get("event") == "saved"
    ]
    return saved[-1] if saved else 0


def log(folder: Path, last: int | None = None) -> list[dict[str, Any]]:
    """The events that a run has logged, or those in its ``last`` bytes; lines that are cut off are passed over."""
    entries = []
    try:
        with (folder / "log.jsonl").open("rb") as file:
            if last is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - last))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def unfinished(project: Project) -> tuple[str, int, int] | None:
    """The newest run if it was cut short: its name, the step of its checkpoint, the steps it was to have."""
    run = latest(project)
    job = train_job(project, run) if run is not None else None
    if run is None or job is None:
        return None
    folder = project.folder / "runs" / run
    step = saved_step(folder)
    return (
        (run, step, job.settings.steps)
        if 0 < step < job.settings.steps and not finished(folder)
        else None
    )


def finished(folder: Path) -> bool:
    """Whether a run came to its end, be it early because nothing better came."""
    return any(entry.get("event") == "finished" for entry in log(folder, last=_TAIL))


def checkpoints(project: Project, run: str) -> list[str]:
    """The models of a run: the one to be used, the last, and the validated ones that are kept, the latest first."""
    kept = (project.folder / "runs" / run / "candidates").glob("*.safetensors")
    steps = sorted((int(path.stem) for path in kept if path.stem.isdigit()), reverse=True)
    return ["selected", "last", *map(str, steps)]


def resume_job(project: Project, run: str) -> TrainJob:
    """The job that goes on with a run; JobError when its job file is gone."""
    job = train_job(project, run)
    if job is None:
        raise JobError(f"The run '{run}' has lost its job file: start a new training from it.")
    return job.model_copy(update={"resume": run, "project": str(project.folder)})


def retrain_job(project: Project, method: str, steps: int) -> TrainJob:
    """The job that starts from the latest run's network, with its settings; JobError when there is no run."""
    run = latest(project)
    if run is None:
        raise JobError("There is no model to start from: train one first.")
    before = train_job(project, run)
    settings = before.settings_for(method) if before is not None else TrainSettings()
    fewer = min(settings.validations, FEW_VALIDATIONS)
    method_settings = (
        before.method_settings if before is not None and before.method == method else {}
    )
    return TrainJob(
        project=str(project.folder),
        method=method,
        method_settings=method_settings,
        start_from=run,
        settings=settings.model_copy(update={"steps": steps, "validations": fewer}),
    )


def predicted_with(project: Project, volume: str) -> str | None:
    """The newest run that has begun to predict the classes of a volume."""
    return next(
        (run for run in reversed(project.runs()) if project.probabilities(run, volume) is not None),
        None,
    )


def clustered_with(project: Project, volume: str) -> str | None:
    """The newest run that has begun to find clusters in a volume."""
    return next(
        (run for run in reversed(project.runs()) if project.clusters(run, volume) is not None), None
    )


def labelled(project: Project) -> bool:
    """Whether there is anything to learn from: a source, or an accepted patch."""
    return any(entry.domain == "source" for entry in project.entries) or annotated(project)


def annotated(project: Project) -> bool:
    """Whether any patch was accepted."""
    return any(region.state in ("accepted", "partial") for region in project.regions())

"""What the runs of a project are and have come to, read from plain files without torch."""

from __future__ import annotations

from collections.abc import Callable

from napari_emda.errors import JobError
from napari_emda.project.job_files import TrainJob
from napari_emda.project.predictions import Prediction
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.requirements import Available
from napari_emda.settings.training import TrainSettings

FEW_VALIDATIONS = 4
"""Of a retraining: looking at the target takes about as long as three steps, and somebody waits."""


def latest(project: Project) -> str | None:
    """The newest run with a model."""
    runs = project.runs()
    return runs[-1] if runs else None


def in_words(job: TrainJob) -> str:
    """What a training is."""
    start = f", going on from {job.start_from}" if job.start_from is not None else ""
    return f"{job.method}, {job.settings.steps} steps, profile {job.settings.profile}{start}"


def unfinished(project: Project) -> tuple[str, int, int] | None:
    """The newest run if it was cut short: its name, the step of its checkpoint, the steps it was to have."""
    run = latest(project)
    job = project.run(run).training() if run is not None else None
    if run is None or job is None:
        return None
    folder = project.run(run)
    step, steps = folder.saved_step, job.settings.steps
    return (run, step, steps) if 0 < step < steps and not folder.finished else None


def resume_job(project: Project, run: str) -> TrainJob:
    """The job that goes on with a run; JobError when its job file is gone."""
    job = RunFolder.of(project.folder, run).training()
    if job is None:
        raise JobError(f"The run '{run}' has lost its job file: start a new training from it.")
    return job.model_copy(update={"resume": run, "project": str(project.folder)})


def retrain_job(project: Project, method: str, steps: int) -> TrainJob:
    """The job that starts from the latest run's network, with its settings; JobError when there is no run."""
    run = latest(project)
    if run is None:
        raise JobError("There is no model to start from: train one first.")
    before = project.run(run).training()
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
        network_settings=before.network_settings if before is not None else {},
        settings=settings.model_copy(update={"steps": steps, "validations": fewer}),
    )


def predicted_with(project: Project, volume: str) -> str | None:
    """The newest run that has begun to predict the classes of a volume."""
    return _newest(project, volume, lambda prediction: prediction.classes is not None)


def clustered_with(project: Project, volume: str) -> str | None:
    """The newest run that has begun to find clusters in a volume."""
    return _newest(project, volume, lambda prediction: prediction.outputs.are_clusters)


def _newest(project: Project, volume: str, wanted: Callable[[Prediction], bool]) -> str | None:
    for run in reversed(project.runs()):
        prediction = project.predictions.of(run, volume)
        if prediction is not None and wanted(prediction):
            return run
    return None


def annotated(project: Project) -> bool:
    """Whether any patch was accepted."""
    return any(region.state in ("accepted", "partial") for region in project.regions())


def available(project: Project) -> Available:
    """What a project has that methods and strategies may need."""
    domains = {entry.domain for entry in project.entries}
    return Available(
        domains=domains,
        labelled="source" in domains or annotated(project),
        annotated=annotated(project),
        run=latest(project) or "",
    )

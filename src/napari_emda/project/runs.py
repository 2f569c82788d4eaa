"""The runs of a project: trainings with their models, read from plain files without torch."""

from __future__ import annotations

from pathlib import Path

from napari_emda.errors import JobError
from napari_emda.project.job_files import TrainJob
from napari_emda.project.run_folder import RUNS, RunFolder, run_number

# Validations of a retraining. Four of them take as long as 25 training steps, the 20 of a training
# would take longer than the 100 steps of a retraining (docs/benchmarks.md), and the user waits.
FEW_VALIDATIONS = 4


class Runs:
    """The runs of a project.

    Args:
        folder: of the project.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Names of the runs that have a model, oldest first."""
        folders = [RunFolder(path) for path in (self._folder / RUNS).glob("*")]
        trained = [run for run in folders if run.checkpoint.is_file()]
        return [run.name for run in sorted(trained, key=lambda run: run.order)]

    def latest(self) -> str | None:
        """The newest run with a model."""
        names = self.names()
        return names[-1] if names else None

    def new(self, method: str) -> RunFolder:
        """Make the next run's folder, ``runs/003-ynet``."""
        runs = self._folder / RUNS
        runs.mkdir(exist_ok=True)
        while True:
            numbers = [run_number(path.name) or 0 for path in runs.iterdir()]
            folder = runs / f"{max(numbers, default=0) + 1:03d}-{method}"
            try:
                folder.mkdir()
                return RunFolder(folder)
            except FileExistsError:
                continue  # another process has just made this folder

    def unfinished(self) -> tuple[str, int, int] | None:
        """The newest run if it was interrupted.

        Returns:
            Its name, the step of its checkpoint, and the steps that were asked for.
        """
        run = self.latest()
        if run is None:
            return None
        folder = RunFolder.of(self._folder, run)
        job = folder.training()
        if job is None:
            return None
        step = folder.saved_step
        steps = job.settings.steps
        # A training that stopped early is finished, although steps are left.
        return (run, step, steps) if 0 < step < steps and not folder.finished else None

    def resume_job(self, run: str) -> TrainJob:
        """The job that continues a run; JobError when its job file is gone."""
        job = RunFolder.of(self._folder, run).training()
        if job is None:
            raise JobError(f"The run '{run}' has lost its job file: start a new training from it.")
        # The project may have been moved since the job file was written.
        return job.model_copy(update={"resume": run, "project": str(self._folder)})

    def retrain_job(self, method: str, steps: int) -> TrainJob:
        """The job that starts from the latest run's network, with its settings.

        Raises:
            JobError: there is no run.
        """
        run = self.latest()
        if run is None:
            raise JobError("There is no model to start from: train one first.")
        previous = RunFolder.of(self._folder, run).training()
        if previous is None:
            # The job file is lost, but the network can still be trained, with default settings.
            previous = TrainJob(project=str(self._folder), method=method)
        settings = previous.settings_for(method)
        validations = min(settings.validations, FEW_VALIDATIONS)
        return TrainJob(
            project=str(self._folder),
            method=method,
            # Another method has other settings.
            method_settings=previous.method_settings if previous.method == method else {},
            start_from=run,
            network_settings=previous.network_settings,
            settings=settings.model_copy(update={"steps": steps, "validations": validations}),
        )

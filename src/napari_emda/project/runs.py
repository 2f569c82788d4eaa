"""The runs of a project: trainings with their models, read from plain files without torch."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from napari_emda.errors import JobError
from napari_emda.io.atomic import make_folder, sync
from napari_emda.io.safe_files import inside, refuse_link
from napari_emda.project.job_files import TrainJob
from napari_emda.project.run_folder import RUNS, RunFolder, run_number

# Validations of a retraining. Four of them take as long as 25 training steps, the 20 of a training
# would take longer than the 100 steps of a retraining (docs/benchmarks.md), and the user waits.
FEW_VALIDATIONS = 4

IMPORTED = "imported"
"""Name, where others have their method, of a run that is a model from elsewhere."""
_IMPORT = re.compile(rf"[0-9]+-{IMPORTED}")
# What an import writes; what it had begun to write is hidden.
_OF_IMPORT = re.compile(r"origin\.json|job\.json|checkpoint\.safetensors|\..*-partial.*")


class Runs:
    """The runs of a project.

    Args:
        folder: of the project.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Names of the runs that have a model, oldest first."""
        folders = _folders_in(inside(self._folder, RUNS))
        trained = [run for run in folders if run.checkpoint.is_file()]
        return [run.name for run in sorted(trained, key=lambda run: run.order)]

    def has(self, name: str) -> bool:
        """Whether there is a run of this name with a model."""
        try:
            return self._of(name).checkpoint.is_file()
        except JobError:  # a link, or a name that leads elsewhere
            return False

    def latest(self) -> str | None:
        """The newest run that was trained to its end; without any, the newest with a model.

        A training that was interrupted after some steps must not take the place of a good model
        unless the user asks for it. Neither does a run that is being trained.
        """
        names = self.names()
        finished = (name for name in reversed(names) if self._of(name).finished)
        return next(finished, names[-1] if names else None)

    def offered(self) -> list[str]:
        """Names for a list to choose from: first that of `latest`, then newest first."""
        latest = self.latest()
        newest_first = list(reversed(self.names()))
        return sorted(newest_first, key=lambda name: name != latest)

    def remark(self, run: str) -> str:
        """What the user should know of a run that was not chosen but is the default.

        Returns:
            One sentence; empty if the run is the newest and was trained to its end.
        """
        newest = self.names()[-1]
        if self._of(newest).finished:
            return ""
        interruption = self._of(newest).interruption or "still being trained"
        if newest == run:
            return f"The model of {run} is used, although the training was {interruption}."
        return f"The model of {run} is used, because {newest} was {interruption}."

    def _of(self, name: str) -> RunFolder:
        return RunFolder.of(self._folder, name)

    def new(self, method: str) -> RunFolder:
        """Make the next run's folder, ``runs/003-ynet``."""
        runs = inside(self._folder, RUNS)
        make_folder(runs)
        for run in _folders_in(runs):
            # A training that was killed and is never resumed would leave it there for good.
            run.clear_leftovers()
        while True:
            numbers = [run_number(path.name) or 0 for path in runs.iterdir()]
            folder = runs / f"{max(numbers, default=0) + 1:03d}-{method}"
            try:
                folder.mkdir()
                # The files in it are synced when they are written, and would be lost with it.
                sync(runs)
                return RunFolder(folder)
            except FileExistsError:
                continue  # another process has just made this folder

    def are_imports(self) -> bool:
        """Whether there is nothing but unchanged models from elsewhere, or the beginning of one."""
        runs = inside(self._folder, RUNS)
        return all(
            _IMPORT.fullmatch(path.name)
            and not path.is_symlink()
            and path.is_dir()
            and all(_OF_IMPORT.fullmatch(file.name) for file in path.iterdir())
            for path in (runs.iterdir() if runs.is_dir() else ())
        )

    def remove_imports(self) -> None:
        """Remove models from elsewhere, where there is nothing else."""
        if self.are_imports():
            shutil.rmtree(inside(self._folder, RUNS), ignore_errors=True)

    def interrupted(self) -> list[str]:
        """The runs that were interrupted, newest first; they can be resumed."""
        return [name for name in reversed(self.names()) if self._of(name).interruption]

    @property
    def newest_was_interrupted(self) -> bool:
        """Whether the newest run with a model was interrupted."""
        return bool(names := self.names()) and names[-1] in self.interrupted()

    def in_words(self, run: str) -> str:
        """A run for a list: its name, and where its training was interrupted."""
        interruption = self._of(run).interruption
        return f"{run} ({interruption})" if interruption else run

    def resume_job(self, run: str) -> TrainJob:
        """The job that continues a run; JobError when its job file is gone."""
        job = self._of(run).training()
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
        previous = self._of(run).training()
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


def _folders_in(runs: Path) -> list[RunFolder]:
    """The folders of runs, with a model or without.

    Raises:
        JobError: there is a link that leads elsewhere, or a special file.
    """
    folders = []
    try:
        entries = list(os.scandir(runs))
    except OSError:
        return []
    for entry in entries:
        path = Path(entry.path)
        # What an entry is comes with its name: asking the disk for each of them takes long.
        if entry.is_dir(follow_symlinks=False):
            folders.append(RunFolder(path))
        elif not _is_alias(path, runs):
            refuse_link(path)
    return folders


def _is_alias(path: Path, runs: Path) -> bool:
    """Whether a path is a link to one of the runs, such as ``latest``, which is listed itself."""
    return path.is_symlink() and path.resolve().parent == runs.resolve()

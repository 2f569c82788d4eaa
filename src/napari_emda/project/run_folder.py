"""The folder of a run: the names of its files, and what needs no torch to read and write."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from napari_emda.errors import EmdaError, JobError
from napari_emda.io.atomic import write_text
from napari_emda.io.journal import end_last_line
from napari_emda.io.leftovers import clear_folder
from napari_emda.io.safe_files import inside, open_to_append_text, read_file
from napari_emda.io.unchanged import while_unchanged
from napari_emda.json_text import parse_json
from napari_emda.project.job_files import Job, TrainJob, read_job, write_job
from napari_emda.project.owner import Owner, owning
from napari_emda.project.run_state import RunState, state_of

RUNS = "runs"
"""The folder of all runs, in the project's."""
# Bytes at the end of a log that are read for the latest checkpoint: some ten thousand lines, many
# more than there are between two checkpoints. A whole log of a long training takes seconds.
_LOG_TAIL = 2**20


@dataclass(frozen=True)
class RunFolder:
    """``runs/003-ynet``, or any other folder for the files of one training.

    Attributes:
        path: of the folder.
    """

    path: Path

    @classmethod
    def of(cls, project: Path | str, name: str) -> RunFolder:
        """The folder of a run by its name, whether it exists or not.

        Raises:
            JobError: the name is that of no folder, or there is a link of this name.
        """
        return cls(inside(Path(project), RUNS, name))

    @property
    def name(self) -> str:
        """``003-ynet``."""
        return self.path.name

    @property
    def order(self) -> tuple[bool, int, str]:
        """Sort key: by number, 999 before 1000; runs without a number come last, by name."""
        number = run_number(self.name)
        return number is None, number or 0, self.name

    def _inside(self, *names: str) -> Path:
        """The path of a file of the run; JobError if it is a link."""
        return inside(self.path, *names)

    # -- models -----------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        """The model of the last step, with everything needed to continue the training."""
        return self._inside("checkpoint.safetensors")

    @property
    def selected(self) -> Path:
        """The model that the run uses, if it is another one than that of the last step."""
        return self._inside("selected.safetensors")

    def candidate(self, step: int) -> Path:
        """The model of a validated step; the best ones are kept."""
        return self._inside("candidates", f"{step}.safetensors")

    def candidates(self) -> list[int]:
        """The validated steps whose models are kept, in ascending order."""
        paths = self._inside("candidates").glob("*.safetensors")
        # A file that a crash left incomplete has another name.
        return sorted(int(path.stem) for path in paths if path.stem.isdecimal())

    def models(self) -> list[str]:
        """Values of ``--checkpoint``: the model used, the last one, kept steps (latest first)."""
        return ["selected", "last", *map(str, reversed(self.candidates()))]

    @property
    def origin_file(self) -> Path:
        """Where a model that was not trained in this project is from; see `model_import`."""
        return self._inside("origin.json")

    # -- how it was trained -----------------------------------------------------------------------

    @property
    def job_file(self) -> Path:
        """The job that made the run, with every setting."""
        return self._inside("job.json")

    def job(self) -> Job:
        """The job that made the run; JobError when the file is gone or damaged."""
        return _job_in(self.job_file)

    def training(self) -> TrainJob | None:
        """The training that made the run; None when the job file is gone or damaged."""
        try:
            job = self.job()
        except EmdaError:
            return None
        return job if isinstance(job, TrainJob) else None

    def write_job(self, job: Job) -> None:
        """Store the job that makes the run."""
        write_job(job, self.job_file)

    @property
    def _log_file(self) -> Path:
        return self._inside("log.jsonl")

    def open_log(self) -> TextIO:
        """The log of events, opened for appending lines."""
        # Buffered by line: the viewer reads the loss curve while the training writes it.
        end_last_line(self._log_file)
        return open_to_append_text(self._log_file)

    def log(self) -> list[dict[str, Any]]:
        """The events of the training; incomplete lines, left by a crash, are skipped."""
        return _events(_end_of(self._log_file, None))

    def last_logged(self) -> list[dict[str, Any]]:
        """The last events, back to the latest checkpoint at least."""
        return _events(_end_of(self._log_file, _LOG_TAIL))

    @property
    def saved_step(self) -> int:
        """The step of the last checkpoint; 0 before the first, or if it is damaged."""
        return self.state.step

    @property
    def state(self) -> RunState:
        """How far the training is, as its checkpoint says."""
        return state_of(self.checkpoint)

    @property
    def finished(self) -> bool:
        """Whether the training came to its end, at the last step or by stopping early."""
        state = self.state
        if state.step >= state.steps:
            return True
        # A training that stopped early says so in its log. One that was continued has gone on.
        ends = _ends_in(self._log_file)
        return bool(ends) and _step_of(ends[-1]) in (None, state.step)

    @property
    def interruption(self) -> str:
        """Where the training was interrupted: 'interrupted at step 10 of 150'; else empty."""
        if self.finished or self.being_trained:
            return ""
        return f"interrupted at step {self.state.step} of {self.state.steps}"

    # -- who writes -------------------------------------------------------------------------------

    @property
    def _trainer_file(self) -> Path:
        return self._inside("trained-by.json")

    @property
    def being_trained(self) -> bool:
        """Whether a process is training the run now."""
        owner = Owner.read(self._trainer_file)
        return owner is not None and owner.alive

    @property
    def is_written(self) -> bool:
        """Whether a process trains the run, or predicts with it, now."""
        predicting = self.path.glob("predicted-by-*.json")
        owners = [Owner.read(path) for path in (self._trainer_file, *predicting)]
        return any(owner is not None and owner.alive for owner in owners)

    @contextmanager
    def training_alone(self) -> Iterator[None]:
        """A block in which no other process may train the run; JobError if one does."""
        with owning(self._trainer_file, f"The run '{self.name}'"):
            self.clear_leftovers()
            yield

    def clear_leftovers(self) -> None:
        """Remove what trainings that were killed have left of models and other files."""
        for folder in (self.path, self.path / "candidates"):
            clear_folder(folder)

    def predicting_alone(self, volume: str) -> AbstractContextManager[None]:
        """A block in which no other process may predict the volume with the run's models."""
        path = self._predicted_by(volume)
        return owning(path, f"The prediction of '{volume}' by run '{self.name}'")

    def predicting(self, volume: str) -> Owner | None:
        """The process that is predicting the volume, see `predicting_alone`; None if none is."""
        return Owner.read(self._predicted_by(volume))

    def _predicted_by(self, volume: str) -> Path:
        return self._inside(f"predicted-by-{volume}.json")

    # -- texts ------------------------------------------------------------------------------------

    def add_to_child_log(self, text: str) -> None:
        """Append what the process of a job printed to ``job.log``."""
        with open_to_append_text(self._inside("job.log")) as file:
            file.write(text)

    def preview(self, kind: str) -> Path:
        """An array that the viewer shows until the next one: ``preview`` or ``translated``."""
        return self._inside(f"{kind}.npy")

    # -- predictions ------------------------------------------------------------------------------

    def probabilities(self, volume: str) -> Path:
        """The zarr array of a volume's probabilities, see `project.stored_prediction`."""
        return self._inside("probabilities.zarr", volume)

    def uncertainty(self, volume: str) -> Path:
        """The zarr array of a volume's uncertainty."""
        return self._inside("uncertainty.zarr", volume)

    def object_maps(self, volume: str) -> Path:
        """The zarr array of a volume's maps of objects."""
        return self._inside("object_maps.zarr", volume)

    def journal(self, volume: str) -> Path:
        """The list of a volume's blocks that are predicted."""
        return self._inside(f"predicted-{volume}.jsonl")

    def calibration(self, volume: str) -> Path:
        """The calibration of a volume's prediction, see `project.stored_calibration`."""
        return self._inside(f"calibration-{volume}.json")

    def objects(self, volume: str) -> Path:
        """The folder of a volume's objects, see `napari_emda.jobs.objects`."""
        return self._inside("objects", volume)

    # -- clusters ---------------------------------------------------------------------------------

    @property
    def _names_file(self) -> Path:
        return self._inside("names.json")

    def cluster_names(self) -> dict[int, str]:
        """Class by cluster, from 1; empty if no cluster has a name.

        Raises:
            JobError: the file is damaged or cannot be read.
        """
        try:
            values = parse_json(read_file(self._names_file))
            return {int(cluster): str(name) for cluster, name in values.items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise JobError(
                f"'{self._names_file}' cannot be read ({error.strerror}): check its permissions "
                "and its disk."
            ) from None
        except (ValueError, AttributeError):
            raise JobError(
                f"'{self._names_file}' is damaged: delete it and name the clusters again."
            ) from None

    def write_cluster_names(self, names: Mapping[int, str]) -> None:
        """Store the class of each named cluster; all others are background."""
        # Keys of JSON objects are strings.
        values = {str(cluster): names[cluster] for cluster in sorted(names)}
        write_text(self._names_file, json.dumps(values, indent=2) + "\n")


def _step_of(finished: dict[str, Any]) -> int | None:
    """The step in the last event of a log; None where older versions wrote none."""
    result = finished.get("result")
    step = result.get("step") if isinstance(result, dict) else None
    return step if isinstance(step, int) else None


def run_number(name: str) -> int | None:
    """3 for ``003-ynet``; None for a name that does not begin with a number."""
    match = re.match("([0-9]{1,9})-", name)
    return int(match[1]) if match else None


# Read for every run whenever the lists of runs are filled.
_job_in = while_unchanged(read_job)


@while_unchanged
def _ends_in(log: Path) -> list[dict[str, Any]]:
    """The ends of trainings that are noted at the end of a log, the oldest first."""
    # Most lines are steps, and parsing all of them takes long.
    lines = [line for line in _end_of(log, _LOG_TAIL) if b"finished" in line]
    return [event for event in _events(lines) if event.get("event") == "finished"]


def _end_of(log: Path, size: int | None) -> list[bytes]:
    """The last lines of a log, up to a size in bytes, or all; none if it cannot be read."""
    try:
        with log.open("rb") as file:
            if size is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read().splitlines()
    except OSError:
        return []


def _events(lines: list[bytes]) -> list[dict[str, Any]]:
    # The first line may begin within a character, and the last one be incomplete: both are skipped.
    texts = (line.decode(errors="replace") for line in lines)
    return [entry for text in texts if isinstance(entry := _parsed(text), dict)]


def _parsed(line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError:
        return None

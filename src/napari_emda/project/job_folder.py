"""The folder of a job that runs in a process of its own, which may outlive the viewer."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_emda.errors import EmdaError, JobError
from napari_emda.io.safe_files import inside, open_to_append_text, refuse_link
from napari_emda.project.job_files import Job, read_job, write_job
from napari_emda.project.owner import Owner

# In the project's folder. Each job has a folder in it while it runs, and until the viewer has read
# how it ended.
_JOBS = "jobs"

READY = "ready"
"""The line by which a process that waits for a job says that it can take one."""


@dataclass(frozen=True)
class JobFolder:
    """The files by which a job and the viewer find each other.

    Attributes:
        path: of the folder.
    """

    path: Path

    @classmethod
    def new(cls, job: Job) -> JobFolder:
        """Make a folder for a job, in its project, and write the job file."""
        try:
            parent = inside(Path(job.project), _JOBS)
            parent.mkdir(exist_ok=True)
            folder = cls(Path(tempfile.mkdtemp(prefix=f"{job.kind}-", dir=parent)))
        except (OSError, JobError):
            # The project cannot be written, which the job itself reports in better words.
            folder = cls(Path(tempfile.mkdtemp(prefix="napari-emda-")))
        write_job(job, folder.job_file)
        return folder

    @classmethod
    def left_in(cls, project: Path) -> list[JobFolder]:
        """The folders of the jobs that a viewer has left behind, oldest first."""
        paths = [path for path in inside(project, _JOBS).glob("*") if path.is_dir()]
        for path in paths:
            refuse_link(path)
        return [cls(path) for path in sorted(paths, key=lambda path: path.stat().st_mtime)]

    @property
    def job_file(self) -> Path:
        """The job."""
        return inside(self.path, "job.json")

    @property
    def events(self) -> Path:
        """The events of a job that no viewer listens to any more, one a line."""
        return inside(self.path, "events.jsonl")

    @property
    def commands(self) -> Path:
        """The commands to such a job, one a line."""
        return inside(self.path, "commands.jsonl")

    @property
    def log(self) -> Path:
        """What the process printed."""
        return inside(self.path, "job.log")

    @property
    def process_file(self) -> Path:
        """The process that does the job."""
        return inside(self.path, "process.json")

    def job(self) -> Job | None:
        """The job; None if its file is damaged."""
        try:
            return read_job(self.job_file)
        except EmdaError:
            return None

    @property
    def owner(self) -> Owner | None:
        """The process of the job; None before it has started, or if its file is none of ours."""
        try:
            return Owner.read(self.process_file)
        except JobError:
            return None

    def say(self, command: str, values: dict[str, Any]) -> None:
        """Send a command to a job that no pipe leads to any more."""
        # In a project from elsewhere, the file may be a link, which is not followed.
        with (
            contextlib.suppress(OSError, JobError),
            open_to_append_text(self.commands) as file,
        ):
            file.write(json.dumps({"command": command, **values}) + "\n")

    def remove(self) -> None:
        """Remove the folder, and that of all jobs if it is the last."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.parent.name == _JOBS:
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()

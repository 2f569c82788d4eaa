"""The base class of jobs, the registry of all kinds of job, and job files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ValidationError

from napari_emda.errors import JobError, SettingsError
from napari_emda.io.atomic import write_text
from napari_emda.io.safe_files import read_file
from napari_emda.json_text import parse_json
from napari_emda.registry import Registry
from napari_emda.settings.base import Settings
from napari_emda.settings.where import Where


class Job(Settings):
    """Base of all kinds of job: the fields that describe what to do with a project.

    A kind is registered by its name, which is also its ``kind`` in the file. The module that does
    the work is named, not imported, so that the viewer can create a job without loading torch.

    Attributes:
        project: its folder.
        noun: the job in a sentence, as in "A training is running".
        preparing: the name of what it does before it has started.
        work: the module whose ``run(job, request)`` yields the events of the job.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    preparing: ClassVar[str] = "Getting ready"
    work: ClassVar[str]

    # Files of another format are refused: a cluster node may run another version than the dock.
    format: Literal[1] = 1
    kind: str
    project: str


jobs: Registry[type[Job]] = Registry(
    "job", "napari_emda.project.job_files", "napari_emda.jobs", Job
)


class ModelJob(Job):
    """Base of jobs that use a trained model.

    Attributes:
        run: the run whose model is used; by default the latest.
        checkpoint: which of its models: ``selected`` (the one that the run uses), ``last``, or a
            step whose model is kept.
        volume: name of the volume; by default the first target.
        where: the processes that predict.
    """

    run: str | None = None
    checkpoint: str = "selected"
    volume: str | None = None
    where: Where = Where()


def read_job(path: str | Path) -> Job:
    """Read a job file; JobError if it cannot be read or is not one."""
    try:
        # The user may name a link.
        text = read_file(Path(path).resolve())
    except OSError as error:
        raise JobError(
            f"The job file '{path}' cannot be read ({error.strerror}): name an existing one."
        ) from None
    job_class = _class_of(text, path)
    try:
        return job_class.model_validate_json(text)
    except ValidationError as error:
        # The first of the errors: one sentence is what the user can act on.
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"]) or "its text"
        problem = "is missing" if first["type"] == "missing" else f"is wrong ({first['msg']})"
        raise _not_a_job(path, place, problem) from None


def _class_of(text: bytes, path: str | Path) -> type[Job]:
    """The class of the job in a file."""
    try:
        values = parse_json(text)
    except ValueError as error:
        raise _not_a_job(path, "its text", f"is wrong ({error})") from None
    if not isinstance(values, dict):
        raise _not_a_job(path, "its text", "is wrong (it is not a JSON object)")
    if "kind" not in values:
        raise _not_a_job(path, "kind", "is missing")
    try:
        return jobs[str(values["kind"])]
    except SettingsError as error:
        raise _not_a_job(path, "kind", f"is wrong ({error})") from None


def _not_a_job(path: str | Path, place: str, problem: str) -> JobError:
    return JobError(
        f"'{path}' is not a job: '{place}' {problem}; compare it with the job.json of a run."
    )


def write_job(job: Job, path: Path) -> None:
    """Write a job file, whole or not at all."""
    write_text(path, job.model_dump_json(indent=2) + "\n")

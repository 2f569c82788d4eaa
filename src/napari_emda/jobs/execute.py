"""From a job to the events of its work, whatever its kind."""

from __future__ import annotations

from collections.abc import Generator
from importlib import import_module

from napari_emda.events import Event
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.project.job_files import Job


def execute(job: Job, request: PreviewRequest | None = None) -> Generator[Event]:
    """Carry a job out; to stop it, stop iterating.

    Args:
        job: of any kind that is registered.
        request: what the user is looking at, for jobs that show how they get on.

    Yields:
        Started, what the work says, and Finished at the end.

    Raises:
        EmdaError: the job or what it names cannot be used; nothing was changed on disk then.
    """
    yield from import_module(job.work).run(job, request or PreviewRequest())

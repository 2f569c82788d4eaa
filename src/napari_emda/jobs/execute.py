"""From a job of any kind to the events of its work."""

from __future__ import annotations

from collections.abc import Generator
from importlib import import_module

from napari_emda.events import Event
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.project.job_files import Job


def execute(job: Job, request: PreviewRequest | None = None) -> Generator[Event]:
    """Run a job; to stop it, stop iterating.

    Args:
        job: of any registered kind.
        request: the section that the user is looking at, for jobs that show previews.

    Yields:
        Started, the events of the work, and Finished at the end.

    Raises:
        EmdaError: the job, or something that it names, cannot be used. Nothing has been changed on
            disk then.
    """
    # By name, so that registering a kind of job, as the viewer does, does not import its work.
    yield from import_module(job.work).run(job, request or PreviewRequest())

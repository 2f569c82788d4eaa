"""Carries a job out: the same in a thread, a child process or on a cluster node."""

from __future__ import annotations

from collections.abc import Generator

from napari_emda.events import Event
from napari_emda.jobs.export import _export
from napari_emda.jobs.predict import _predict
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.jobs.score import _score
from napari_emda.jobs.suggest import suggestions
from napari_emda.jobs.train import _train
from napari_emda.project.job_files import (
    AnyJob,
    PredictJob,
    ScoreJob,
    SuggestJob,
    TrainJob,
)


def execute(job: AnyJob, request: PreviewRequest | None = None) -> Generator[Event]:
    """Carry a job out; to stop it, stop iterating.

    Yields:
        Started, what the work says, and Finished at the end.

    Raises:
        EmdaError: the job or what it names cannot be used; nothing was changed on disk then.
    """
    if isinstance(job, TrainJob):
        yield from _train(job, request or PreviewRequest())
    elif isinstance(job, PredictJob):
        yield from _predict(job)
    elif isinstance(job, SuggestJob):
        yield from suggestions(job)
    elif isinstance(job, ScoreJob):
        yield from _score(job)
    else:
        yield from _export(job)


# -- training ----------------------------------------------------------------------------------------------------


# -- using a model -----------------------------------------------------------------------------------------------

"""The command that checks whether the workers of a job can be used."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

from napari_emda.cli.console import (
    ClusterOption,
    JsonOption,
    ProjectArgument,
    SchedulerOption,
    WorkersOption,
    echo,
    print_result,
    where_of,
)
from napari_emda.cli.progress import watch
from napari_emda.errors import JobError, SettingsError
from napari_emda.events import Event, Finished
from napari_emda.project.project import Project
from napari_emda.settings.where import Where

# Seconds between two looks whether all processes have started.
_LOOK = 0.1


def check_workers(
    project: ProjectArgument,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = "",
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that workers can be used for a project."""
    where = where_of(workers, scheduler, cluster)
    if not where.elsewhere:
        raise SettingsError(
            "One worker is this program itself: say which ones to check, with --workers, "
            "--scheduler or --cluster."
        )
    with Project.open(project) as opened:
        result = watch(_answers(where, opened.folder))
    print_result(result, as_json=as_json, print_text=lambda: echo(str(result["text"])))


def _answers(where: Where, project: Path) -> Generator[Event]:
    # dask and torch take seconds.
    from napari_emda.jobs.workers.pool import open_workers

    with open_workers(where, project) as workers:
        assert workers is not None
        if where.scheduler and not workers.answering:
            raise JobError(
                f"The scheduler at '{where.scheduler}' has no workers yet: start one (dask worker "
                f"{where.scheduler} --resources napari-emda=1)."
            )
        yield from workers.prepare()
        # Those of a queue may come hours later; these start now.
        while not where.scheduler and not where.cluster and workers.answering < where.workers:
            time.sleep(_LOOK)
        count = workers.answering
        who = "1 worker answers, sees" if count == 1 else f"{count} workers answer, see"
        have = "has" if count == 1 else "have"
        text = f"{who} this project and {have} the same versions."
        yield Finished("done", text, {"workers": count, "text": text})

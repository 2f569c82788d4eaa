"""Whether a scheduler and its workers can be used, before anything is written."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distributed import Client
from distributed.comm.addressing import resolve_address

from napari_emda.errors import JobError, SettingsError
from napari_emda.jobs.workers import on_worker

# Seconds for a scheduler to answer. It has nothing to compute.
_ANSWER = "10s"


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of a running scheduler.

    Raises:
        SettingsError: nothing answers at the address, or something else than a scheduler.
    """
    try:
        with warnings.catch_warnings():
            # `check_workers` compares the versions, and says it in one sentence.
            warnings.simplefilter("ignore")
            # A client that cannot even begin to connect is not closed, of which dask tells on
            # standard error half a minute later.
            resolve_address(address)
            client = Client(address, timeout=_ANSWER, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            f"No scheduler answers at '{address}' ({_first_line(error)}): start one there (dask "
            "scheduler), or correct the address."
        ) from None
    with client:
        yield client


def check_workers(client: Client, project: Path) -> None:
    """Check that all workers are like this process and see the project.

    Raises:
        JobError: one has another version, or does not see the project.
    """
    # Functions of the standard library first: others cannot be sent to another version.
    pythons = client.run(platform.python_version)
    _compare(
        "Python", _minor(platform.python_version()), {w: _minor(v) for w, v in pythons.items()}
    )
    for name, package in (("dask", "distributed"), ("napari-emda", "napari-emda")):
        versions = client.run(importlib.metadata.version, package, on_error="return")
        _compare(name, importlib.metadata.version(package), versions)
    here = on_worker.seen_of(str(project))
    for worker, seen in client.run(on_worker.seen_of, str(project)).items():
        if seen != here:
            raise JobError(
                f"The worker {worker} does not see the project '{project}': put it on a disk that "
                "all computers share under the same path."
            )


def _minor(version: str) -> str:
    """3.12 of 3.12.4: what is sent between two such versions is understood."""
    return ".".join(version.split(".")[:2])


def _compare(name: str, here: str, answers: dict[str, Any]) -> None:
    """Compare a version with those of the workers, by their addresses; JobError if one differs."""
    for worker, version in answers.items():
        if version != here:
            lacks_it = isinstance(version, Exception)
            what = f"no {name}" if lacks_it else f"{name} {version} instead of {here}"
            raise JobError(
                f"The worker {worker} has {what}: install the same versions there as here, with "
                "pip install 'napari-emda[cluster]'."
            )


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]

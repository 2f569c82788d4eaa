"""The YAML file that says how to ask the queue of a cluster for workers."""

from __future__ import annotations

import inspect
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from napari_emda.errors import JobError, SettingsError
from napari_emda.io.safe_files import read_file
from napari_emda.registry import did_you_mean

# Importing dask-jobqueue lets Ctrl-C end the process as if its work were done.
_on_interrupt = signal.getsignal(signal.SIGINT)
import dask_jobqueue  # noqa: E402
from dask_jobqueue.core import Job, JobQueueCluster  # noqa: E402

signal.signal(signal.SIGINT, _on_interrupt)

# What napari-emda itself decides.
_DECIDED = {
    *("self", "n_workers", "job_cls", "loop", "silence_logs", "name", "asynchronous"),
    *("scheduler", "scheduler_cls", "config_name", "security", "nanny", "worker_command"),
}


@dataclass(frozen=True)
class ClusterFile:
    """What a cluster file says.

    Attributes:
        system: class of dask-jobqueue for this kind of queue.
        options: its arguments, such as ``queue``, ``cores``, ``memory`` and ``walltime``.
    """

    system: type[JobQueueCluster]
    options: dict[str, Any]


def read_cluster_file(path: Path) -> ClusterFile:
    """Read a cluster file.

    Raises:
        SettingsError: it cannot be read, has an unknown key or value, or the program that submits
            jobs is not there.
    """
    try:
        values = yaml.safe_load(read_file(path.resolve()))
    except OSError as error:
        raise SettingsError(
            f"The cluster file '{path}' cannot be read ({error.strerror}): name an existing one."
        ) from None
    except (yaml.YAMLError, JobError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise SettingsError(f"The cluster file '{path}' is not YAML: {reason}") from None
    if not isinstance(values, dict) or "system" not in values:
        raise SettingsError(
            f"The cluster file '{path}' does not name its queue: write system: slurm, for example."
        )
    systems = {
        name.removesuffix("Cluster").lower(): value
        for name, value in vars(dask_jobqueue).items()
        if name.endswith("Cluster") and value is not JobQueueCluster
    }
    name = str(values.pop("system")).lower()
    if name not in systems:
        raise SettingsError(
            f"The cluster file '{path}' names the system '{name}'. {did_you_mean(name, systems)}"
        )
    system = systems[name]
    known = _options_of(system)
    for key in values:
        if key not in known:
            raise SettingsError(
                f"The cluster file '{path}' has no key '{key}'. {did_you_mean(str(key), known)}"
            )
    command = str(job_of(system).submit_command).split()[0]
    if shutil.which(command) is None:
        raise SettingsError(
            f"There is no '{command}' on this computer: run the command where jobs of {name} are "
            "submitted, such as on the login node."
        )
    return ClusterFile(system, values)


def job_of(system: type[JobQueueCluster]) -> type[Job]:
    """The class of the jobs of a kind of queue."""
    job: type[Job] = vars(system)["job_cls"]
    return job


def _options_of(system: type[JobQueueCluster]) -> set[str]:
    """The keys that a file may have."""
    # Each class passes on to the next one what it does not know.
    names = {
        name
        for known in (JobQueueCluster, job_of(system), Job)
        for name, parameter in inspect.signature(known).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    return names - _DECIDED

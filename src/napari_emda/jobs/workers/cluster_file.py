"""The YAML file that says how to ask the queue of a cluster for workers."""

from __future__ import annotations

import inspect
import re
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
# Keys whose value is a list, each entry of which becomes a line or a word: letters of a text would.
_LISTS = {
    *("env_extra", "extra", "header_skip", "job_directives_skip", "job_extra"),
    *("job_extra_directives", "job_script_prologue", "worker_extra_args"),
    *("cancel_command_extra", "submit_command_extra"),
}
# Keys whose value counts something; without one, the queue or dask decides.
_COUNTS = ("cores", "job_cpu", "ncpus", "processes")
# With a value of pairs. HTCondor has some for its directives, too.
_PAIRS = ("scheduler_options",)
_PAIRS_OF_HTCONDOR = ("job_extra", "job_extra_directives")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML as most people take it.

    YAML 1.1 reads 12:00:00 as a number to the base of 60, which a queue takes for 43 200 minutes;
    a date as a date, and the name of a queue such as ``on`` as true.
    """


_Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"-?(0|[1-9][0-9]{0,17})", list("-0123456789")),
    ("float", r"-?[0-9]+\.[0-9]+", list("-0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), first)


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
        # The loader makes no objects: it is a safe one.
        values = yaml.load(read_file(path.resolve()), _Loader)
    except OSError as error:
        raise SettingsError(
            f"The cluster file '{path}' cannot be read ({error.strerror}): name an existing one."
        ) from None
    except (yaml.YAMLError, JobError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
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
    name = values.pop("system")
    name = name.lower() if isinstance(name, str) else ""
    if name not in systems:
        raise SettingsError(
            f"The cluster file '{path}' names the system '{name}'. {did_you_mean(name, systems)}"
        )
    system = systems[name]
    options = _options_of(system)
    for key in values:
        if key not in options:
            raise SettingsError(
                f"The cluster file '{path}' has no key '{key}'. {did_you_mean(str(key), options)}"
            )
    for key, value in values.items():
        if wanted := _wanted_of(key, value, name):
            raise SettingsError(
                f"The cluster file '{path}' gives '{key}' a value of another kind: write {wanted}."
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
        for cls in (JobQueueCluster, job_of(system), Job)
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    return names - _DECIDED


def _wanted_of(key: str, value: Any, system: str) -> str:
    """What the value of a key should be, with an example; empty if it is that.

    dask-jobqueue checks none of them. It writes whatever it is given into the job.
    """
    if value is None:
        return ""
    if key in _PAIRS or (system == "htcondor" and key in _PAIRS_OF_HTCONDOR):
        return "" if isinstance(value, dict) else "pairs, such as {key: value}"
    if key in _LISTS:
        is_list = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        return "" if is_list else 'a list of texts, such as ["--gres=gpu:1"]'
    if key in _COUNTS:
        return "" if type(value) is int and value > 0 else "a number from 1"
    if key == "shared_temp_directory":
        is_folder = isinstance(value, str) and Path(value).is_dir()
        return "" if is_folder else "the path of a folder that exists"
    if key == "memory":
        return "" if isinstance(value, str) else "a size with its unit, such as 32GB"
    return "" if isinstance(value, str | int | float) else "a text or a number"

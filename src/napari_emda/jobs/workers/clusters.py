"""Workers that are started for a job: on this computer, or by the queue of a cluster."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dask
import psutil
from distributed import Client, LocalCluster, Security, SpecCluster, Status

from napari_emda.errors import SettingsError
from napari_emda.inference.device import available_cores
from napari_emda.io.atomic import workspace
from napari_emda.jobs.workers.on_worker import RESOURCE

if TYPE_CHECKING:
    from dask_jobqueue.core import Job, JobQueueCluster

# Pages on the work for a browser would be open to everybody. A port is needed all the same: any
# that is free.
_NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
# Tasks run in a thread, and glibc returns what threads free to the kernel: it would fault the pages
# of each block in again, half of the time of a small network. One arena is that of the main thread,
# see `configure_process`.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
# Seconds between two looks whether the queue has taken the jobs.
_LOOK = 0.05
# Seconds for a cluster to end what is left of it.
_END = 5.0


@contextlib.contextmanager
def on_this_computer(workers: int) -> Iterator[Client]:
    """A client of so many processes of this computer, among which its cores are shared.

    They end with this process, however it ends. Only it can give them work: keys that are made for
    the occasion protect the connections from other users of the computer.
    """
    cluster = LocalCluster(
        # Started below: a worker that dies at its start would leave this without an answer.
        n_workers=0,
        threads_per_worker=max(1, available_cores() // workers),
        host="127.0.0.1",
        security=True,
        scheduler_kwargs=_NO_DASHBOARD,
        # From the start: of a worker that gets it later, waiting units would not hear.
        resources={RESOURCE: 1},
        # The memory is bounded by the size of a block; dask would end workers at its own limit.
        memory_limit=0,
        # What goes wrong is said by this process.
        silence_logs=logging.CRITICAL,
    )
    _silence_libraries()
    for name, value in _ENVIRONMENT.items():
        # Before a worker starts: glibc reads it once. `env` of dask would come later.
        dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": value})
    cluster.scale(workers)
    try:
        with Client(cluster, set_as_default=False) as client:
            yield client
    finally:
        # A worker would first end its block, which may take a minute, and nothing of a block counts
        # before it is reported.
        for nanny in cluster.workers.values():
            nanny.auto_restart = False
            # Without a number, psutil would take this process.
            if nanny.pid is not None:
                with contextlib.suppress(psutil.Error):
                    psutil.Process(nanny.pid).kill()
        with contextlib.suppress(TimeoutError):
            cluster.close(timeout=_END)


def renew(cluster: SpecCluster, workers: int) -> None:
    """Start workers anew that have died at their start, or whose jobs have ended."""
    for name, worker in list(cluster.workers.items()):
        if worker.status in (Status.failed, Status.closed):
            del cluster.workers[name]
    cluster.scale(workers)


def _silence_libraries() -> None:
    """Let nobody else tell of workers that have died: Python shows errors that dask drops."""
    for name in ("asyncio", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def of_queue(path: Path, workers: int, project: Path) -> Iterator[Client]:
    """A client of workers that the queue of a cluster is asked for; its jobs end with the block.

    Args:
        path: of the cluster file, see `cluster_file`.
        workers: to ask for.
        project: its folder, on a disk that the nodes see.

    Raises:
        SettingsError: the file is wrong, or the queue refuses the job.
    """
    # Loaded only where a queue is asked.
    from napari_emda.jobs.workers.cluster_file import read_cluster_file

    file = read_cluster_file(path)
    options = dict(file.options)
    shared = Path(options.pop("shared_temp_directory", None) or project)
    options["scheduler_options"] = _NO_DASHBOARD | options.get("scheduler_options", {})
    resources = ["--resources", f"{RESOURCE}=1"]
    exports = [f"export {name}={value}" for name, value in _ENVIRONMENT.items()]
    options["job_script_prologue"] = [*exports, *(options.get("job_script_prologue") or ())]
    options["worker_extra_args"] = [*(options.get("worker_extra_args") or ()), *resources]
    with workspace(shared / "workers") as folder:
        options["security"] = _security_in(folder)
        outcomes: list[RuntimeError | None] = []
        options["job_cls"] = _noting(file.system, outcomes)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cluster = file.system(silence_logs=logging.CRITICAL, **options)
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            raise _unusable(path, error) from None
        try:
            _silence_libraries()
            cluster.scale(workers)
            while len(outcomes) < len(cluster.worker_spec):
                time.sleep(_LOOK)
            for refusal in filter(None, outcomes):
                raise _unusable(path, refusal) from None
            with Client(cluster, set_as_default=False) as client:
                yield client
        finally:
            with contextlib.suppress(TimeoutError):
                cluster.close(timeout=_END)


def _noting(system: type[JobQueueCluster], outcomes: list[RuntimeError | None]) -> type[Job]:
    """The jobs of a kind of queue, which note what the queue says: dask would wait for ever.

    Args:
        system: the kind of queue.
        outcomes: takes None for each job that is submitted, and an error for each that is not.
    """
    from napari_emda.jobs.workers.cluster_file import job_of

    class NotedJob(job_of(system)):  # type: ignore[misc]
        async def _submit_job(self, script: str) -> str:
            try:
                said: str = await super()._submit_job(script)
            except RuntimeError as error:
                outcomes.append(error)
                # There is nothing to be closed at the end.
                self.status = Status.failed
                raise
            outcomes.append(None)
            return said

    return NotedJob


def _security_in(folder: Path) -> Security:
    """Keys that are made for the occasion, in files that the nodes read and other users do not."""
    keys = Security.temporary()
    files = {}
    for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
        files[name] = folder / f"{name}.pem"
        files[name].touch(mode=0o600)
        files[name].write_text(getattr(keys, name))
    roles = {
        f"tls_{role}_{what}": str(files[f"tls_worker_{what}"])
        for role in ("client", "scheduler", "worker")
        for what in ("cert", "key")
    }
    return Security(tls_ca_file=str(files["tls_ca_file"]), require_encryption=True, **roles)


def _unusable(path: Path, error: BaseException) -> SettingsError:
    text = str(error)
    # dask-jobqueue shows the whole command and all that it has printed.
    said = text.partition("stderr:")[2].strip() or text
    line = next(filter(None, map(str.strip, said.splitlines())), "no reason is known")
    return SettingsError(f"The cluster file '{path}' cannot be used: {line}")

"""Workers that are started for a job: on this computer, or by the queue of a cluster."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
from distributed import Client, LocalCluster

from napari_emda.errors import SettingsError
from napari_emda.inference.device import available_cores
from napari_emda.io.atomic import workspace

# Pages on the work for a browser would be open to everybody. A port is needed all the same: any
# that is free.
_NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
# Seconds for a cluster to end what is left of it.
_END = 5.0


@contextlib.contextmanager
def on_this_computer(workers: int) -> Iterator[Client]:
    """A client of so many processes of this computer, among which its cores are shared.

    They end with this process, however it ends. Only it can give them work: keys that are made for
    the occasion protect the connections from other users of the computer.
    """
    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=max(1, available_cores() // workers),
        host="127.0.0.1",
        security=True,
        scheduler_kwargs=_NO_DASHBOARD,
        # The memory is bounded by the size of a block; dask would end workers at its own limit.
        memory_limit=0,
        # What goes wrong is said by this process.
        silence_logs=logging.CRITICAL,
    )
    try:
        with Client(cluster, set_as_default=False) as client:
            yield client
    finally:
        # A worker would first end its block, which may take a minute, and nothing of a block counts
        # before it is reported.
        for nanny in cluster.workers.values():
            nanny.auto_restart = False
            with contextlib.suppress(psutil.Error, ValueError):
                psutil.Process(nanny.pid).kill()
        with contextlib.suppress(TimeoutError):
            cluster.close(timeout=_END)


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
    # dask-jobqueue is loaded only where it is needed.
    from napari_emda.jobs.workers.cluster_file import read_cluster_file

    file = read_cluster_file(path)
    # In it lie the keys that protect the connections, for the nodes to read.
    with workspace(project / "workers") as keys:
        keys.chmod(0o700)
        options = {"shared_temp_directory": str(keys), **file.options}
        options["scheduler_options"] = _NO_DASHBOARD | options.get("scheduler_options", {})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cluster = file.system(security=True, silence_logs=logging.CRITICAL, **options)
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            raise _unusable(path, error) from None
        try:
            try:
                cluster.scale(workers)
                # Waits until the jobs are submitted, and raises what the queue says.
                cluster.sync(cluster._correct_state)
            except RuntimeError as error:
                raise _unusable(path, error) from None
            with Client(cluster, set_as_default=False) as client:
                yield client
        finally:
            with contextlib.suppress(TimeoutError):
                cluster.close(timeout=_END)


def _unusable(path: Path, error: BaseException) -> SettingsError:
    text = str(error)
    # dask-jobqueue shows the whole command and all that it has printed.
    said = text.partition("stderr:")[2].strip() or text
    line = next(filter(None, map(str.strip, said.splitlines())), "no reason is known")
    return SettingsError(f"The cluster file '{path}' cannot be used: {line}")

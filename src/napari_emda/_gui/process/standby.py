"""A child process that waits for the next job, so that it begins at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

from napari_emda._gui.process.start import start_process
from napari_emda.project.job_folder import READY

# The interpreter of the viewer, so that the child finds the same packages.
COMMAND = (sys.executable, "-m", "napari_emda.jobs.standby")

# Seconds for a process to load everything, on a machine that is very busy.
_PATIENCE = 60.0
# Bytes of memory that must be free: the process takes about a sixth of it while it waits.
_FREE_MEMORY = 2 * 2**30


class Standby:
    """At most one process that has loaded torch and waits.

    It ends with the viewer, because its standard input then does. Without one, or when it was ended
    from outside, a job starts its own process and takes some seconds longer.

    Args:
        command: starts the process, see `napari_emda.jobs.standby`.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = tuple(command)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        # Set when the process has loaded everything.
        self._ready = threading.Event()
        self._lock = threading.Lock()
        self._closed = False
        self._surroundings = _surroundings()

    def prepare(self) -> None:
        """Start a process, unless one is waiting, or memory is short."""
        with self._lock:
            waiting = self._process is not None and self._process.poll() is None
            if (
                self._closed
                or (waiting and self._up_to_date)
                or psutil.virtual_memory().available < _FREE_MEMORY
            ):
                return
            self._end()
            self._surroundings = _surroundings()
            with contextlib.suppress(OSError):
                self._process = start_process(self._command, subprocess.DEVNULL)
                self._ready = threading.Event()
                self._reader = threading.Thread(
                    target=_wait_until_ready,
                    args=(self._process, self._ready),
                    daemon=True,
                    name="napari-emda standby",
                )
                self._reader.start()

    def _end(self) -> None:
        """End the process that waits, if there is one."""
        process = self._process
        self._process = None
        if process is not None:
            process.kill()
            _clean_up(process, self._reader)

    @property
    def ready(self) -> bool:
        """Whether a job can begin at once."""
        process = self._process
        waiting = process is not None and process.poll() is None
        return waiting and self._ready.is_set() and self._up_to_date

    @property
    def _up_to_date(self) -> bool:
        """Whether a process that starts now would find what the waiting one has found."""
        return self._surroundings == _surroundings()

    @property
    def process_id(self) -> int | None:
        """The id of the waiting process; None if there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def take(self) -> subprocess.Popen[str] | None:
        """The process, which is the caller's from now on; None if there is none that can be used.

        One that is still loading is waited for, which takes less time than to start another one:
        call it from a worker thread.
        """
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None or not self._up_to_date:
                return None
            self._process = None
            ready = self._ready
            reader = self._reader
        if reader is not None:
            reader.join(_PATIENCE)
        if ready.is_set():
            return process
        process.kill()
        _clean_up(process, reader)
        return None

    def close(self) -> None:
        """End the process; none is started any more."""
        with self._lock:
            self._closed = True
            process = self._process
            self._process = None
        if process is not None:
            process.kill()
            # A process that holds much memory takes a while to end: the window need not wait.
            threading.Thread(
                target=_clean_up,
                args=(process, self._reader),
                daemon=True,
                name="napari-emda standby ends",
            ).start()


def _surroundings() -> tuple[dict[str, str], str]:
    """What a process takes over from the viewer: devices, threads and paths may depend on it."""
    # The folder may have been removed.
    try:
        folder = str(Path.cwd())
    except OSError:
        folder = ""
    return dict(os.environ), folder


def _clean_up(process: subprocess.Popen[str], reader: threading.Thread | None) -> None:
    """Wait until a process that was killed is gone, and close its pipes."""
    process.wait()
    # Its thread reads the end of the output now, and must not find the pipe closed.
    if reader is not None:
        reader.join()
    for pipe in (process.stdin, process.stdout):
        # Closing flushes, and nobody reads any more.
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


def _wait_until_ready(process: subprocess.Popen[str], ready: threading.Event) -> None:
    # Libraries may print something before. At the end of output the process is gone.
    with contextlib.suppress(OSError, ValueError):
        for line in iter(process.stdout.readline, "") if process.stdout else ():
            if line.strip() == READY:
                ready.set()
                return

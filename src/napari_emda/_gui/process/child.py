"""A job in a child process: lines out, lines in, and a certain end."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import IO, Any

import psutil

from napari_emda._gui.process.standby import Standby
from napari_emda._gui.process.start import start_process
from napari_emda.errors import EmdaError
from napari_emda.project.job_folder import JobFolder
from napari_emda.project.owner import Owner
from napari_emda.project.run_folder import RunFolder

# Follows the last line of a child in the queue.
_END = object()


class Child:
    """A job in a child process.

    Args:
        command: to start; ``{job}`` stands for the job file.
        folder: holds the job file and the log; `clean` removes it.
        standby: may have a process that waits for the job.
    """

    def __init__(
        self, command: Sequence[str], folder: JobFolder, standby: Standby | None = None
    ) -> None:
        self.folder = folder
        self._standby = standby
        self._command = [part.replace("{job}", str(folder.job_file)) for part in command]
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        # Commands until the process has answered: they are said again to one that takes its place.
        self._said: list[str] = [json.dumps({"command": "attend"}) + "\n"]
        self._answered = False
        self._ended = False
        self._left = False
        self._lines: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def launch(self) -> None:
        """Start the process and the thread that reads it; called in the worker thread."""
        # Without the lock: one that is still loading is waited for.
        waiting = self._standby.take() if self._standby is not None else None
        with self._lock:
            # The viewer may have closed before the worker thread came this far.
            if self._ended:
                if waiting is not None:
                    waiting.kill()
                    waiting.wait()
                    _close_both(waiting)
                self._lines.put(_END)
                return
            if waiting is not None:
                _write(waiting, json.dumps({"job": str(self.folder.job_file)}) + "\n")
            process = self._begin(waiting or self._start())
        # A daemon, because it may wait for a line of the child when Python wants to exit.
        threading.Thread(
            target=self._follow,
            args=(process, waiting is not None),
            daemon=True,
            name="napari-emda child",
        ).start()

    def _start(self) -> subprocess.Popen[str]:
        with self.folder.log.open("w") as log:
            return start_process(self._command, log)

    def _begin(self, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        """Make a process that of the job; the lock must be held."""
        self._process = process
        # The next viewer finds the process by this file, however this one ends.
        with contextlib.suppress(psutil.Error, OSError):
            Owner.of(process.pid).write(self.folder.process_file)
        # First "attend", which makes the child end when its standard input closes, that is, with
        # the viewer.
        for line in self._said:
            _write(process, line)
        if self._left:
            _close(process.stdin)
        return process

    def _follow(self, process: subprocess.Popen[str], waited: bool) -> None:
        """Read a process to its end.

        One that had waited may have been ended from outside just when it got the job, as the system
        does when memory runs out; then the job gets a process of its own.
        """
        self._read(process)
        # A job that goes on by itself has closed its output, and is waited for only to be reaped.
        if waited and not self._answered and not self._left and process.wait():
            again = None
            # Without another one, the end of the first is that of the job.
            with self._lock, contextlib.suppress(OSError):
                again = None if self._ended else self._begin(self._start())
            if again is not None:
                _close_both(process)
                process = again
                self._read(process)
        self._end_of(process)

    def _read(self, process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in process.stdout or ():
                self._answered = True
                self._lines.put(line)

    def _end_of(self, process: subprocess.Popen[str]) -> None:
        # A job that goes on by itself has closed its output, and is waited for only to be reaped.
        if not self._left:
            process.wait()
        # Locked, so that no command is written to a pipe while it is closed.
        with self._lock:
            _close_both(process)
        self._lines.put(_END)
        process.wait()

    def say(self, command: str, **values: Any) -> None:
        """Send a command; before the process has started, it is kept and sent later."""
        line = json.dumps({"command": command, **values}) + "\n"
        with self._lock:
            if not self._answered:
                self._said.append(line)
            if self._process is not None:
                _write(self._process, line)

    def take(self, seconds: float) -> list[str] | None:
        """The lines that have come, after waiting at most ``seconds``; None at the end."""
        try:
            first = self._lines.get(timeout=seconds)
        except queue.Empty:
            return []
        if first is _END:
            return None
        lines = [first]
        while not self._lines.empty():
            line = self._lines.get()
            if line is _END:
                # Put back: these lines first, the end at the next call.
                self._lines.put(_END)
                break
            lines.append(line)
        return lines

    # -- the end ---------------------------------------------------------------------------------

    def leave(self) -> None:
        """Let the job go on by itself."""
        self._left = True
        self.say("detach")
        self._close_input()

    def hang_up(self) -> None:
        """Let the child save and end by itself, however long that takes."""
        self._left = True
        self._close_input()
        with self._lock:
            # Never started: there is nothing to save.
            self._ended = self._process is None

    def discard(self) -> None:
        """End the process without saving; returns when it has ended."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _close_input(self) -> None:
        with self._lock:
            if self._process is not None:
                _close(self._process.stdin)

    @property
    def process_id(self) -> int | None:
        """The id of the running process; None if none is running."""
        return (
            self._process.pid
            if self._process is not None and self._process.poll() is None
            else None
        )

    def exit_reason(self) -> str:
        """How the process ended, as the end of a sentence."""
        code = self._process.poll() if self._process is not None else None
        # On POSIX a negative code is the signal that ended the process.
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
            return f"was ended from outside ({name}{hint})"
        return f"ended unexpectedly{last_words(self.folder)}"

    def keep_log(self, run: RunFolder) -> None:
        """Append the log to that of the run, where it can be read after the viewer is closed."""
        keep_log(self.folder, run)

    def clean(self) -> None:
        """Remove the temporary folder."""
        self.folder.remove()


def last_words(folder: JobFolder) -> str:
    """The last line that a job has printed, in brackets; empty if there is none."""
    try:
        lines = [
            line.strip()
            for line in folder.log.read_text(errors="replace").splitlines()
            if line.strip()
        ]
    except (OSError, EmdaError):
        return ""
    return f" ({lines[-1][:160]})" if lines else ""


def keep_log(folder: JobFolder, run: RunFolder) -> None:
    """Append what a job has printed to the log of its run."""
    with contextlib.suppress(OSError, EmdaError):
        text = folder.log.read_text(errors="replace")
        if text and run.path.is_dir():
            run.add_to_child_log(text)


def _write(process: subprocess.Popen[str], line: str) -> None:
    # An error means that the process has ended, which the reading thread reports.
    with contextlib.suppress(OSError, ValueError):
        if process.stdin is not None:
            process.stdin.write(line)
            process.stdin.flush()


def _close_both(process: subprocess.Popen[str]) -> None:
    _close(process.stdout)
    _close(process.stdin)


def _close(pipe: IO[str] | None) -> None:
    # Closing flushes: an error means that the process has ended and left a line unread.
    with contextlib.suppress(OSError, ValueError):
        if pipe is not None:
            pipe.close()

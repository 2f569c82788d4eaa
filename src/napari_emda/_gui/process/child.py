"""A job in a child process: lines out, lines in, and a certain end."""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from napari_emda.project.run_folder import RunFolder

# Seconds that a child has to save and exit when the viewer closes, before it is terminated. Longer,
# closing the viewer would seem to hang; shorter, a training would lose its last steps.
PATIENCE = 1.2
# Follows the last line of a child in the queue.
_END = object()


class Child:
    """A job in a child process.

    Args:
        command: to start.
        folder: holds the job file and the log; `clean` removes it.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._command = list(command)
        self._folder = folder
        self.log = folder / "job.log"
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        # Commands that come before the worker thread has started the process.
        self._unsent: list[str] = []
        self._ended = False
        self._lines: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def launch(self) -> None:
        """Start the process and the thread that reads it; called in the worker thread."""
        with self.log.open("w") as log, self._lock:
            # The viewer may have closed before the worker thread came this far.
            if self._ended:
                self._lines.put(_END)
                return
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                errors="replace",
                bufsize=1,
            )
            # "attend" makes the child end when its standard input closes, that is, with the viewer.
            for line in [json.dumps({"command": "attend"}) + "\n", *self._unsent]:
                _write(self._process, line)
        # A daemon, because it may wait for a line of the child when Python wants to exit.
        threading.Thread(
            target=self._read, args=(self._process,), daemon=True, name="napari-emda child"
        ).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in process.stdout or ():
                self._lines.put(line)
        process.wait()
        # Locked, so that no command is written to a pipe while it is closed.
        with self._lock:
            _close(process.stdout)
            _close(process.stdin)
        self._lines.put(_END)

    def say(self, command: str, **values: Any) -> None:
        """Send a command; before the process has started, it is kept and sent later."""
        line = json.dumps({"command": command, **values}) + "\n"
        with self._lock:
            if self._process is None:
                self._unsent.append(line)
            else:
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

    def end(self, patience: float = PATIENCE) -> None:
        """Close the pipe, so that the child saves and exits; kill it if that takes too long.

        Returns when the process has ended.
        """
        with self._lock:
            self._ended = True
            process = self._process
            if process is None or process.poll() is not None:
                return
            _close(process.stdin)
        # Every step is harder than the last one, and only `kill` cannot be ignored.
        for stop, seconds in ((None, patience), (process.terminate, 0.3), (process.kill, None)):
            if stop is not None:
                stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                return

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
        return f"ended unexpectedly{self._last_words()}"

    def _last_words(self) -> str:
        try:
            lines = [
                line.strip()
                for line in self.log.read_text(errors="replace").splitlines()
                if line.strip()
            ]
        except OSError:
            return ""
        return f" ({lines[-1][:160]})" if lines else ""

    def keep_log(self, run: RunFolder) -> None:
        """Append the log to that of the run, where it can be read after the viewer is closed."""
        with contextlib.suppress(OSError):
            text = self.log.read_text(errors="replace")
            if text and run.path.is_dir():
                run.add_to_child_log(text)

    def clean(self) -> None:
        """Remove the temporary folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _write(process: subprocess.Popen[str], line: str) -> None:
    # An error means that the process has ended, which the reading thread reports.
    with contextlib.suppress(OSError, ValueError):
        if process.stdin is not None:
            process.stdin.write(line)
            process.stdin.flush()


def _close(pipe: IO[str] | None) -> None:
    # Closing flushes: an error means that the process has ended and left a line unread.
    with contextlib.suppress(OSError, ValueError):
        if pipe is not None:
            pipe.close()

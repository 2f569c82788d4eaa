"""A job in a process of its own: lines out, lines in, and a sure end."""

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

PATIENCE = 1.2
"""Seconds that a child has to save and end when the viewer closes; then it is killed."""
_END = object()
"""Put behind the last line that a child has said."""


class Child:
    """A job in a process of its own.

    Args:
        command: what to start; ``{job}`` stands for the job file.
        folder: for the job file and the log, removed by `clean`.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._command = list(command)
        self._folder = folder
        self.log = folder / "job.log"
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._unsent: list[str] = []
        self._ended = False
        self._lines: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def launch(self) -> None:
        """Start the process and the thread that reads it. Called from the worker thread."""
        with self.log.open("w") as log, self._lock:
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
            for line in [json.dumps({"command": "attend"}) + "\n", *self._unsent]:
                _write(self._process, line)
        threading.Thread(
            target=self._read, args=(self._process,), daemon=True, name="napari-emda child"
        ).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in process.stdout or ():
                self._lines.put(line)
        process.wait()
        with self._lock:
            _close(process.stdout)
            _close(process.stdin)
        self._lines.put(_END)

    def say(self, command: str, **values: Any) -> None:
        """Send a command; before the process is up it is kept for later."""
        line = json.dumps({"command": command, **values}) + "\n"
        with self._lock:
            if self._process is None:
                self._unsent.append(line)
            else:
                _write(self._process, line)

    def take(self, seconds: float) -> list[str] | None:
        """The lines that came, waiting at most ``seconds``; None at the end."""
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
                self._lines.put(_END)
                break
            lines.append(line)
        return lines

    def end(self, patience: float = PATIENCE) -> None:
        """Close the pipe, so that the child saves and ends; kill it when it takes too long.

        Returns when the child is gone.
        """
        with self._lock:
            self._ended = True
            process = self._process
            if process is None or process.poll() is not None:
                return
            _close(process.stdin)
        for stop, seconds in ((None, patience), (process.terminate, 0.3), (process.kill, None)):
            if stop is not None:
                stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                return

    @property
    def process_id(self) -> int | None:
        """Of the running process."""
        return (
            self._process.pid
            if self._process is not None and self._process.poll() is None
            else None
        )

    def exit_reason(self) -> str:
        """How the process ended, as a half sentence."""
        code = self._process.poll() if self._process is not None else None
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
        """Append the log to the run's own, so that it outlives the viewer."""
        with contextlib.suppress(OSError):
            text = self.log.read_text(errors="replace")
            if text and run.path.is_dir():
                run.add_to_child_log(text)

    def clean(self) -> None:
        """Remove the temporary folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _write(process: subprocess.Popen[str], line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # it has ended: the reader will tell
        if process.stdin is not None:
            process.stdin.write(line)
            process.stdin.flush()


def _close(pipe: IO[str] | None) -> None:
    with contextlib.suppress(
        OSError, ValueError
    ):  # the other end is gone, with a line half written
        if pipe is not None:
            pipe.close()

"""A job in a child process: events are written and commands are read as JSON lines."""

from __future__ import annotations

import _thread
import contextlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from napari_emda.data.box import Box
from napari_emda.data.names import in_one_line
from napari_emda.errors import ExitCode, explained
from napari_emda.events import (
    Event,
    Failed,
    Finished,
    Started,
    Stepped,
    Stopping,
    Validated,
    time_to_stop,
)
from napari_emda.inference import checkpoint
from napari_emda.inference.device import configure_process
from napari_emda.io import error_log
from napari_emda.io.safe_files import open_to_append_text
from napari_emda.jobs.execute import execute
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.jobs.stop_signals import stop_signals
from napari_emda.jobs.train import what_was_kept
from napari_emda.json_text import parse_json
from napari_emda.project.job_files import Job, TrainJob, read_job
from napari_emda.project.job_folder import JobFolder
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder

# Seconds between two looks for new commands in a file: a click is answered at once, and the disk
# is left alone.
_FOLLOW = 0.2


class EventWriter:
    """Writes events to standard output, or to a file when nobody reads that any more.

    Everything else that is printed goes to standard error from now on. A line that some library
    prints would otherwise be taken for an event. Any thread may write.

    Args:
        file: for the events once nobody reads standard output.

    Attributes:
        outlives_reader: whether to go on in the file when the reader is gone.
        started: the start of the job; None before it.
    """

    def __init__(self, file: Path) -> None:
        self._output: TextIO = sys.stdout
        sys.stdout = sys.stderr
        self._file = file
        self._in_file = False
        self._lock = threading.Lock()
        self.outlives_reader = False
        self.started: Started | None = None

    def write(self, event: Event) -> None:
        """Write one line. It is flushed, because the reader waits for it."""
        with self._lock:
            self._write(event)
            self.started = event if isinstance(event, Started) else self.started

    def _write(self, event: Event) -> None:
        line = event.to_json() + "\n"
        try:
            self._output.write(line)
            self._output.flush()
        except BrokenPipeError:
            if self._in_file or not self.outlives_reader:
                raise
            self._open_file()
            self._output.write(line)
            self._output.flush()

    def to_file(self) -> None:
        """Write to the file from now on, beginning with the start of the job."""
        with self._lock:
            if not self._in_file:
                self._open_file()

    def _open_file(self) -> None:
        # Whoever reads the pipe sees its end, instead of waiting for the end of the job.
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), self._output.fileno())
        self._in_file = True
        self._output = open_to_append_text(self._file)
        if self.started is not None:
            self._write(self.started)

    def end_before_start(self, last: Finished, leave: Callable[[int], None]) -> None:
        """Write the last event and leave, unless the job has started by now."""
        with self._lock:
            if self.started is None:
                self._write(last)
                leave(ExitCode.STOPPED)


class Commands:
    """Commands while a job runs, as JSON lines from standard input.

    - ``pause``, ``resume``.
    - ``stop``: save and end; said again, end with what is saved by then.
    - ``discard``: end at once without saving.
    - ``preview`` with ``volume`` and ``box`` (z0, z1, y0, y1, x0, x1).
    - ``attend``: from now on, the end of input stops the job. It means that the process that
      started the job is gone.
    - ``detach``: from now on, the job goes on by itself. Events go to ``events.jsonl`` beside the
      job file, and after the end of input commands come from ``commands.jsonl`` there.

    Args:
        request: gets the views of ``preview`` commands.
        writer: of the events.
        file: with the commands after the end of input.

    Attributes:
        asked: whether the job is to end.
        saves: whether it saves its work first, and must not be interrupted.
    """

    def __init__(self, request: PreviewRequest, writer: EventWriter, file: Path) -> None:
        self._request = request
        self._writer = writer
        self._file = file
        # A signal handler runs between two instructions of the main thread, which may hold the lock
        # of a `queue.Queue` just then and would wait for itself. Only this queue is reentrant.
        self._queue = queue.SimpleQueue[str]()
        self._attended = False
        self._detached = False
        self._announced = False
        self.asked = False
        self.saves = False
        self.stopping = False
        self.paused = False
        # Steps per second at the last report, which tells how long stopping takes.
        self.rate = 0.0
        # In a thread, because reading a line blocks until there is one.
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self._take(line)
        # Without ``attend`` it means nothing: batch systems start jobs with their input closed.
        if not self._attended and not self._detached:
            return
        # The next viewer that opens the project reads there how the job ended.
        self._writer.to_file()
        if not self._detached:
            self._on_stop()
        self._follow()

    def _follow(self) -> None:
        """Take commands from the file."""
        position = 0
        while True:
            with contextlib.suppress(OSError), self._file.open("rb") as file:
                file.seek(position)
                for line in file:
                    # The other process may not have written the whole line yet.
                    if not line.endswith(b"\n"):
                        break
                    position += len(line)
                    self._take(line.decode(errors="replace"))
            time.sleep(_FOLLOW)

    def _take(self, line: str) -> None:
        try:
            command = parse_json(line)
            self._receive(command["command"], command)
        except (ValueError, KeyError, TypeError, OverflowError):
            sys.stderr.write(f"not a command: {line[:80]!r}\n")

    def _receive(self, name: str, values: dict[str, Any]) -> None:
        if name == "preview":
            box = Box.from_bounds([int(bound) for bound in values["box"]])
            self._request.set(values["volume"], box)
        elif name == "attend":
            self._attended = True
            self._writer.outlives_reader = True
        elif name == "detach":
            self._detached = True
            self._writer.to_file()
            # Nobody is there to end a pause.
            self._queue.put("resume")
        elif name == "discard":
            _leave(ExitCode.STOPPED)
        elif name == "stop":
            self._on_stop()
        else:
            self._queue.put(name)

    def _on_stop(self) -> None:
        if self._announced:
            # Said again: whoever stops the job waits for it.
            self._request.hurry.set()
        self._writer.end_before_start(_nothing_done(), _leave)
        self.announce()
        self.stop()
        if not self.saves:
            # As a signal does: the next event may be minutes away.
            _thread.interrupt_main()

    def announce(self) -> None:
        """Say, once, that the job is being stopped."""
        if not self._announced:
            self._announced = True
            # The reader may be gone, which the main thread finds out by itself.
            with contextlib.suppress(OSError):
                self._writer.write(Stopping(time_to_stop(self.rate)))

    def process(self) -> None:
        """Carry out the commands that have arrived; while paused, wait for more."""
        while not self.stopping:
            try:
                command = self._queue.get(block=self.paused)
            except queue.Empty:
                return
            self.stopping = command == "stop"
            self.paused = command == "pause" or (self.paused and command != "resume")

    def stop(self) -> None:
        """The command ``stop``, for signal handlers."""
        self.asked = True
        self._queue.put("stop")

    def hang_up(self) -> None:
        """For the signal that the terminal is closed: it means nothing to a detached job."""
        if not self._detached:
            stop_signals.receive()


def _leave(status: int) -> None:
    """End the process at once, whatever its other threads do."""
    sys.stderr.flush()
    os._exit(status)


def run(job: Path) -> ExitCode:
    """Run a job file; every outcome is an event, and errors are Failed events."""
    writer = EventWriter(JobFolder(job.parent).events)
    try:
        return _run(job, writer)
    except KeyboardInterrupt:
        writer.write(_nothing_done())
        return ExitCode.STOPPED
    except BrokenPipeError as error:
        # The reader is gone, so nobody can be told.
        error_log.note(error)
        return ExitCode.INTERNAL_ERROR
    except Exception as error:  # noqa: BLE001 - whatever it is, the viewer must hear of it
        return _report(error, writer)


def _report(error: Exception, writer: EventWriter) -> ExitCode:
    """Write the last event of a job that has failed; the exit status."""
    error_for_user = explained(error)
    if error_for_user is not error:
        # Behind the sentence, for the log of the job.
        traceback.print_exception(error)
    text = error_log.internal(error) if error_for_user is None else str(error_for_user)
    # A name from a file may hold anything.
    writer.write(Failed(in_one_line(text), mistake=error_for_user is not None))
    return ExitCode.INTERNAL_ERROR if error_for_user is None else ExitCode.INVALID_INPUT


def _run(path: Path, writer: EventWriter) -> ExitCode:
    job = read_job(path)
    configure_process()
    request = PreviewRequest()
    commands = Commands(request, writer, JobFolder(path.parent).commands)
    request.stop_asked = lambda: commands.asked
    stop_signals.install(commands.stop)
    # Windows has no such signal.
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: commands.hang_up())
    run = ""
    step = 0
    events = execute(job, request)
    try:
        with stop_signals.noted() as keep, contextlib.closing(events):
            for event in events:
                writer.write(event)
                if isinstance(event, Started) and event.what == "train":
                    keep()
                    commands.saves = True
                run = event.run if isinstance(event, Started) else run
                step = event.step if isinstance(event, Stepped | Validated) else step
                commands.rate = event.rate if isinstance(event, Stepped) else commands.rate
                if isinstance(event, Finished):
                    break
                commands.process()
                if commands.stopping:
                    commands.announce()
                    # Closing the generator lets a training save its state.
                    events.close()
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        commands.announce()
        writer.write(_stopped(job, run, step))
        return ExitCode.STOPPED
    return ExitCode.DONE


def _nothing_done() -> Finished:
    return Finished("stopped", "Stopped before the first step: there is nothing to keep yet.")


def _stopped(job: Job, run: str, step: int) -> Finished:
    if not isinstance(job, TrainJob):
        return Finished("stopped", "Stopped; the work so far is kept.", {"run": run, "step": step})
    # Without a run, the job has not started.
    saved = RunFolder.of(job.project, run).saved_step if run else 0
    if not saved:
        return replace(_nothing_done(), result={"run": run, "step": 0})
    model = checkpoint.find(Project.open(job.project).run(run))
    header = checkpoint.read_header(model)
    text = f"Stopped at step {saved}; the work so far is kept, and can be used or resumed."
    result = {"run": run, "step": saved, "selected_step": header.step}
    return Finished("stopped", text, result, what_was_kept(model))

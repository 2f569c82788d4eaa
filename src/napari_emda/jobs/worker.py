"""A job in a child process: events are written and commands are read as JSON lines."""

from __future__ import annotations

import json
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from napari_emda.data.box import Box
from napari_emda.errors import EmdaError, ExitCode
from napari_emda.events import Event, Failed, Finished, Started, Stepped
from napari_emda.inference import checkpoint
from napari_emda.inference.device import configure_process
from napari_emda.jobs.execute import execute
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.jobs.train import what_was_kept
from napari_emda.project.job_files import Job, TrainJob, read_job
from napari_emda.project.project import Project


class Commands:
    """Commands from standard input while a job runs, as JSON lines.

    - ``pause``, ``resume``, ``stop``.
    - ``preview`` with ``volume`` and ``box`` (z0, z1, y0, y1, x0, x1).
    - ``attend``: from now on, the end of input stops the job. It means that the process that
      started the job is gone.

    Args:
        request: gets the views of ``preview`` commands.
    """

    def __init__(self, request: PreviewRequest) -> None:
        self._request = request
        # A signal handler runs between two instructions of the main thread, which may hold the lock
        # of a `queue.Queue` just then and would wait for itself. Only this queue is reentrant.
        self._queue = queue.SimpleQueue[str]()
        self.stopping = False
        self.paused = False
        # In a thread, because reading a line blocks until there is one.
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        attended = False
        for line in sys.stdin:
            try:
                command = json.loads(line)
                attended = attended or command["command"] == "attend"
                self._receive(command)
            except (ValueError, KeyError, TypeError):
                sys.stderr.write(f"not a command: {line[:80]!r}\n")
        # Without ``attend`` it means nothing: batch systems start jobs with their input closed.
        if attended:
            self._queue.put("stop")

    def _receive(self, command: dict[str, Any]) -> None:
        if command["command"] == "preview":
            box = Box.from_bounds([int(bound) for bound in command["box"]])
            self._request.set(command["volume"], box)
        else:
            self._queue.put(command["command"])

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
        self._queue.put("stop")


class EventWriter:
    """Writes events to standard output.

    Everything else that is printed goes to standard error from now on. A line that some library
    prints would otherwise be taken for an event.
    """

    def __init__(self) -> None:
        self._output = sys.stdout
        sys.stdout = sys.stderr

    def write(self, event: Event) -> None:
        """Write one line. It is flushed, because the reader waits for it."""
        self._output.write(event.to_json() + "\n")
        self._output.flush()


def run(job: Path) -> ExitCode:
    """Run a job file; every outcome is an event, and errors are Failed events."""
    writer = EventWriter()
    try:
        return _run(job, writer)
    except EmdaError as error:
        writer.write(Failed(str(error), mistake=True))
        return ExitCode.INVALID_INPUT
    except BrokenPipeError:
        # The reader is gone, so nobody can be told.
        return ExitCode.INTERNAL_ERROR
    except Exception as error:  # noqa: BLE001 - whatever it is, the viewer must hear of it
        traceback.print_exc()
        text = (
            f"Internal error ({type(error).__name__}: {error}): see the log, and please report it."
        )
        writer.write(Failed(text, mistake=False))
        return ExitCode.INTERNAL_ERROR


def _run(path: Path, writer: EventWriter) -> ExitCode:
    job = read_job(path)
    configure_process()
    request = PreviewRequest()
    commands = Commands(request)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: commands.stop())
    run = ""
    step = 0
    events = execute(job, request)
    for event in events:
        writer.write(event)
        run = event.run if isinstance(event, Started) else run
        step = event.step if isinstance(event, Stepped) else step
        if isinstance(event, Finished):
            return ExitCode.DONE
        commands.process()
        if commands.stopping:
            # Closing the generator lets a training save its state.
            events.close()
            writer.write(_stopped(job, run, step))
            return ExitCode.STOPPED
    return ExitCode.DONE


def _stopped(job: Job, run: str, step: int) -> Finished:
    where = f" at step {step}" if step else ""
    text = f"Stopped{where}; the work so far is kept."
    result: dict[str, Any] = {"run": run, "step": step}
    if isinstance(job, TrainJob) and step:
        model = checkpoint.find(Project.open(job.project).run(run))
        header = checkpoint.read_header(model)
        result["selected_step"] = header.step
        text += f" Model to use: {what_was_kept(model)}." if header.selected else ""
    return Finished("stopped", text, result)

"""A job in a child process: events go out, commands come in, as JSON lines."""

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
from napari_emda.errors import EmdaError
from napari_emda.events import Event, Failed, Finished, Started, Stepped
from napari_emda.inference import checkpoint
from napari_emda.inference.device import configure_process
from napari_emda.jobs.execute import execute
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.jobs.train import what_was_kept
from napari_emda.project.job_files import Job, TrainJob, read_job
from napari_emda.project.project import Project

DONE, FAULT, MISTAKE, STOPPED = 0, 1, 2, 3


class Commands:
    """What comes in on standard input while a job runs: JSON lines, read in a thread.

    ``attend``: from now on the end of input means that whoever started the job is gone: stop. ``pause``, ``resume``,
    ``stop``. ``preview`` with ``volume`` and ``box`` (z0, z1, y0, y1, x0, x1).
    """

    def __init__(self, request: PreviewRequest) -> None:
        self._view, self._queue = request, queue.Queue[str]()
        self.stopping = self.paused = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        attended = False
        for line in sys.stdin:
            try:
                command = json.loads(line)
                attended = attended or command["command"] == "attend"
                self._obey(command)
            except (ValueError, KeyError, TypeError):
                sys.stderr.write(f"not a command: {line[:80]!r}\n")
        if attended:
            self._queue.put("stop")

    def _obey(self, command: dict[str, Any]) -> None:
        if command["command"] == "preview":
            self._view.set(command["volume"], Box.from_bounds([int(v) for v in command["box"]]))
        else:
            self._queue.put(command["command"])

    def take(self) -> None:
        """Obey what has come in; waits while paused."""
        while not self.stopping:
            try:
                word = self._queue.get(block=self.paused)
            except queue.Empty:
                return
            self.stopping = word == "stop"
            self.paused = word == "pause" or (self.paused and word != "resume")

    def stop(self) -> None:
        """As the command ``stop``; for signals."""
        self._queue.put("stop")


class EventWriter:
    """Says events on what was standard output; everything else that is printed goes to standard error."""

    def __init__(self) -> None:
        self._output, sys.stdout = sys.stdout, sys.stderr

    def write(self, event: Event) -> None:
        """One line, at once."""
        self._output.write(event.to_json() + "\n")
        self._output.flush()


def run(job: Path) -> int:
    """Carry a job file out; returns the exit status: 0 done, 2 the caller's mistake, 3 stopped, 1 our fault."""
    writer = EventWriter()
    try:
        return _run(job, writer)
    except EmdaError as error:
        writer.write(Failed(str(error), mistake=True))
        return MISTAKE
    except BrokenPipeError:
        return FAULT
    except Exception as error:  # noqa: BLE001 - whatever it is, the viewer must hear of it
        traceback.print_exc()
        text = f"The job failed by an error of ours ({type(error).__name__}: {error}): see the log, and report it."
        writer.write(Failed(text, mistake=False))
        return FAULT


def _run(path: Path, writer: EventWriter) -> int:
    job = read_job(path)
    configure_process()
    request = PreviewRequest()
    commands = Commands(request)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: commands.stop())
    run, step = "", 0
    events = execute(job, request)
    for event in events:
        writer.write(event)
        run = event.run if isinstance(event, Started) else run
        step = event.step if isinstance(event, Stepped) else step
        if isinstance(event, Finished):
            return DONE
        commands.take()
        if commands.stopping:
            events.close()
            writer.write(_stopped(job, run, step))
            return STOPPED
    return DONE


def _stopped(job: Job, run: str, step: int) -> Finished:
    where = f" at step {step}" if step else ""
    text = f"Stopped{where}; what was done is kept."
    result: dict[str, Any] = {"run": run, "step": step}
    if isinstance(job, TrainJob) and step:
        model = checkpoint.find(Project.open(job.project).run(run))
        kept = checkpoint.read_header(model)
        result["selected_step"] = kept.step
        text += f" To be used: {what_was_kept(model)}." if kept.selected else ""
    return Finished("stopped", text, result)

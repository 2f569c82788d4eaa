"""The child process as a generator of events, and the worker thread around it."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari.qt.threading import create_worker
from psygnal import Signal

from napari_emda._gui.process.child import Child
from napari_emda.errors import EmdaError
from napari_emda.events import Event, Failed, Finished, Started, from_json
from napari_emda.project.job_files import Job, write_job
from napari_emda.project.run_folder import RunFolder

COMMAND = (sys.executable, "-m", "napari_emda", "run", "{job}", "--json")
BEAT = 0.1
"""Seconds between deliveries to the viewer: events that come faster arrive together."""


@dataclass(frozen=True)
class ChildDied:
    """A child is gone without a last word; ``reason`` is a half sentence."""

    reason: str


Item = Event | ChildDied


def watch(child: Child) -> Iterator[tuple[Item, ...]]:
    """Run a child: batches of events, of which the last is a `Finished`, `Failed` or `ChildDied`.

    Yields at least ten times a second, with nothing in it when nothing came, so that whoever
    iterates can leave.
    """
    ended = False
    try:
        child.launch()
        while (lines := child.take(BEAT)) is not None:
            started = time.monotonic()
            events = tuple(event for line in lines if (event := _event(line)) is not None)
            ended = ended or any(isinstance(event, Finished | Failed) for event in events)
            yield events
            time.sleep(max(0.0, BEAT - (time.monotonic() - started)) if lines else 0)
    except (OSError, RuntimeError) as error:  # a RuntimeError would be lost in napari's worker
        yield (ChildDied(f"could not be started ({error})"),)
        return
    if not ended:
        yield (ChildDied(child.exit_reason()),)


def _event(line: str) -> Event | None:
    """What a line says; None for what other libraries print."""
    try:
        return from_json(line)
    except EmdaError:
        return None


@dataclass(frozen=True)
class Outcome:
    """What background work came to: a value, or a sentence that says why there is none."""

    value: Any = None
    error: str = ""


def _guarded(work: Callable[[], Any]) -> Outcome:
    try:
        return Outcome(work())
    except EmdaError as error:
        return Outcome(error=str(error))
    except (
        OSError,
        RuntimeError,
        ValueError,
        MemoryError,
    ) as error:  # napari's worker would lose a RuntimeError
        return Outcome(
            error=(
                f"That did not work ({error}): see that the files can be read and the disk has "
                "room."
            )
        )


def in_background(
    work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[str], None]
) -> None:
    """Work in a napari worker thread; ``done`` or ``failed`` is called in the main thread."""

    def deliver(outcome: Outcome) -> None:
        if outcome.error:
            failed(outcome.error)
        else:
            done(outcome.value)

    create_worker(_guarded, work, _connect={"returned": deliver})


class Runner:
    """At most one job at a time, in a child process watched by a napari worker thread.

    Signals come in the main thread.

    Args:
        command: what to start; ``{job}`` stands for the job file.
    """

    started = Signal(object)
    """A job began."""
    happened = Signal(object)
    """An event arrived."""
    ended = Signal(object)
    """A job is over: its last event, `Finished` or `Failed`."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = tuple(command)
        self.job: Job | None = None
        self.last_job: Job | None = None
        self.run = ""
        self.paused = False
        self._child: Child | None = None
        self._last: Finished | Failed | None = None

    @property
    def busy(self) -> str:
        """Why no other job can start now, in one sentence; empty when one can."""
        if self.job is None:
            return ""
        return f"A {self.job.noun} is running: wait for its end or stop it."

    @property
    def process_id(self) -> int | None:
        """Of the running child."""
        return self._child.process_id if self._child is not None else None

    def start(self, job: Job) -> None:
        """Start a job; the caller has seen that none is running."""
        assert self.job is None
        folder = Path(tempfile.mkdtemp(prefix="napari-emda-"))
        write_job(job, folder / "job.json")
        child = Child(
            [part.replace("{job}", str(folder / "job.json")) for part in self._command], folder
        )
        self.job = job
        self.run = ""
        self.paused = False
        self._last = None
        self._child = child
        create_worker(
            watch,
            child,
            _connect={
                "yielded": lambda batch: self._receive(child, batch),
                "aborted": child.end,
                "finished": lambda: self._finish(child),
            },
        )
        self.started.emit(job)

    def say(self, command: str, **values: Any) -> None:
        """Send the running child a command: pause, resume, stop, preview."""
        if self._child is not None:
            self.paused = {"pause": True, "resume": False}.get(command, self.paused)
            self._child.say(command, **values)

    def _receive(self, child: Child, batch: tuple[Item, ...]) -> None:
        for event in batch:
            if child is not self._child or self.job is None:
                return
            if isinstance(event, Started):
                self.run = event.run
            if isinstance(event, ChildDied):
                text = f"The {self.job.noun} {event.reason}; {self._remedy(self.job)}"
                self._last = Failed(text, mistake=False)
            elif isinstance(event, Finished | Failed):
                self._last = event
            else:
                self.happened.emit(event)

    def _finish(self, child: Child) -> None:
        if child is not self._child or self.job is None:
            return
        job = self.job
        last = self._last or Failed(
            f"The {job.noun} ended unexpectedly; {self._remedy(job)}", mistake=False
        )
        if self.run:
            child.keep_log(RunFolder.of(job.project, self.run))
        child.clean()
        self._child = None
        self.job = None
        self.last_job = job
        self.ended.emit(last)

    def _remedy(self, job: Job) -> str:
        if job.kind == "train" and RunFolder.of(job.project, self.run).checkpoint.is_file():
            return "press Resume to go on from the last checkpoint."
        return "start it again."

    def close(self) -> None:
        """End the child now, saving what it has; nothing is emitted any more."""
        child = self._child
        self._child = None
        self.job = None
        if child is not None:
            child.end()
            child.clean()

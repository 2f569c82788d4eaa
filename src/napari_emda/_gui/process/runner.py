"""The child process as a generator of events, and the worker thread around it."""

from __future__ import annotations

import enum
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari.qt.threading import create_worker
from psygnal import Signal

from napari_emda._gui.process.child import Child
from napari_emda._gui.process.left_child import LeftChild
from napari_emda._gui.process.standby import Standby
from napari_emda.data.names import in_one_line
from napari_emda.errors import EmdaError, explained, with_article
from napari_emda.events import (
    Event,
    Failed,
    Finished,
    Started,
    Stepped,
    TileDone,
    from_json,
    time_to_stop,
)
from napari_emda.io import error_log
from napari_emda.project.job_files import Job, TrainJob
from napari_emda.project.job_folder import JobFolder
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.runs import Runs

# The interpreter of the viewer, so that the child finds the same packages.
COMMAND = (sys.executable, "-m", "napari_emda", "run", "{job}", "--json")
# Seconds between deliveries to the viewer. Events that come faster arrive together: ten updates a
# second look continuous, and drawing a plot for each of hundreds would block the viewer.
BEAT = 0.1


@dataclass(frozen=True)
class ChildDied:
    """A child ended without a last event; ``reason`` is the end of a sentence."""

    reason: str


Item = Event | ChildDied


class Ending(enum.Enum):
    """What becomes of a running job when napari closes."""

    KEEP = "keep"
    """It saves its work and ends."""
    LEAVE = "leave"
    """It goes on by itself; `Runner.attach` finds it again."""
    DISCARD = "discard"
    """It ends at once, and nothing of it is kept."""


def watch(child: Child | LeftChild) -> Iterator[tuple[Item, ...]]:
    """Run a child and yield batches of its events; the last one is Finished, Failed or ChildDied.

    Yields about ten times a second, an empty batch if nothing came, so that the iterating thread
    can be stopped.
    """
    ended = False
    try:
        child.launch()
        while (lines := child.take(BEAT)) is not None:
            started = time.monotonic()
            events = tuple(event for line in lines if (event := _event(line)) is not None)
            ended = ended or any(isinstance(event, Finished | Failed) for event in events)
            yield events
            # Lets events gather; without lines, `take` has waited already.
            time.sleep(max(0.0, BEAT - (time.monotonic() - started)) if lines else 0)
    except (OSError, RuntimeError) as error:
        # Caught here, because napari's worker swallows a RuntimeError.
        yield (ChildDied(f"could not be started ({error})"),)
        return
    if not ended:
        yield (ChildDied(child.exit_reason()),)


def _event(line: str) -> Event | None:
    """The event in a line; None for lines that other libraries print."""
    try:
        return from_json(line)
    except EmdaError:
        return None


@dataclass(frozen=True)
class Outcome:
    """The result of background work: a value, or a sentence that says why there is none."""

    value: Any = None
    error: str = ""


def _guarded(work: Callable[[], Any]) -> Outcome:
    try:
        return Outcome(work())
    except (EmdaError, OSError, RuntimeError, ValueError, MemoryError, ImportError) as error:
        # Caught here, because napari's worker swallows a RuntimeError.
        sentence = explained(error)
        if sentence is not error:
            error_log.note(error)
        text = f"That did not work ({error}): check that the files can be read."
        return Outcome(error=in_one_line(text if sentence is None else str(sentence)))


def in_background(
    work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[str], None]
) -> None:
    """Call ``work`` in a worker thread, then ``done`` or ``failed`` in the main thread."""

    def deliver(outcome: Outcome) -> None:
        if outcome.error:
            failed(outcome.error)
        else:
            done(outcome.value)

    create_worker(_guarded, work, _connect={"returned": deliver})


class Runner:
    """At most one job at a time, in a child process watched by a napari worker thread.

    Signals are emitted in the main thread.

    Args:
        command: starts a job; ``{job}`` stands for the job file.

    Attributes:
        job: that is running; None if none is.
        last_job: that ended last.
        run: name of the run that the job works on; empty until the job has started.
        paused: whether the job is paused.
        standby: a process that waits for the next job, see `warm_up`; None for tests.
        progress: the latest event that says how far the job is; None before it.
    """

    started = Signal(object)
    """A job began."""
    happened = Signal(object)
    """An event arrived."""
    ended = Signal(object)
    """A job ended: its last event, `Finished` or `Failed`."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = tuple(command)
        # It runs the program itself; other commands are for tests.
        self.standby = Standby() if self._command == COMMAND else None
        self.job: Job | None = None
        self.last_job: Job | None = None
        self.run = ""
        self.paused = False
        self.progress: Stepped | TileDone | None = None
        self._child: Child | LeftChild | None = None
        self._last: Finished | Failed | None = None
        self._project: Path | None = None

    @property
    def busy(self) -> str:
        """Why no other job can start now, in one sentence; empty if one can."""
        if self.job is None:
            return ""
        return f"{with_article(self.job.noun)} is running: wait for its end or stop it."

    @property
    def attached(self) -> bool:
        """Whether an earlier viewer has started the job, see `attach`."""
        return isinstance(self._child, LeftChild)

    @property
    def process_id(self) -> int | None:
        """The id of the running child process; None if none is running."""
        return self._child.process_id if self._child is not None else None

    @property
    def time_to_stop(self) -> float:
        """Seconds that the job needs to save its work; 0 if that is not known."""
        return time_to_stop(self.progress.rate) if isinstance(self.progress, Stepped) else 0.0

    def start(self, job: Job) -> None:
        """Start a job; the caller must have checked `busy`."""
        self._watch(Child(self._command, JobFolder.new(job), self.standby), job)

    def warm_up(self) -> None:
        """Have a process wait for the next job, so that it begins at once."""
        if self.standby is not None:
            self.standby.prepare()

    def attach(self, project: Path) -> None:
        """Take over the jobs, one by one, that an earlier viewer has left in a project.

        They may be running, or have ended in the meantime. Those that come later are taken over
        when the running job ends.
        """
        self._project = project
        if self.job is not None:
            return
        for folder in JobFolder.left_in(project):
            job = folder.job()
            if job is not None and folder.owner is not None:
                # The project may have been moved since the job file was written.
                self._watch(LeftChild(folder), job.model_copy(update={"project": str(project)}))
                return
            # It never started.
            folder.remove()

    def _watch(self, child: Child | LeftChild, job: Job) -> None:
        assert self.job is None
        self.job = job
        self.run = ""
        self.paused = False
        self.progress = None
        self._last = None
        self._child = child
        # The callbacks carry their child, so that what a closed one still delivers is ignored.
        create_worker(
            watch,
            child,
            _connect={
                "yielded": lambda batch: self._receive(child, batch),
                "finished": lambda: self._finish(child),
            },
        )
        self.started.emit(job)

    def say(self, command: str, **values: Any) -> None:
        """Send the running child a command: pause, resume, stop, preview."""
        if self._child is not None:
            self.paused = {"pause": True, "resume": False}.get(command, self.paused)
            self._child.say(command, **values)

    def _receive(self, child: Child | LeftChild, batch: tuple[Item, ...]) -> None:
        for event in batch:
            if child is not self._child or self.job is None:
                return
            if isinstance(event, Started):
                self.run = _plain_name(event.run)
                # By the end of this job, the next one can begin at once.
                self.warm_up()
            if isinstance(event, Stepped | TileDone):
                self.progress = event
            # Kept until the worker has finished: only then another job may start.
            if isinstance(event, ChildDied):
                text = f"The {self.job.noun} {event.reason}; {self._remedy(self.job)}"
                self._last = Failed(text, mistake=False)
            elif isinstance(event, Finished | Failed):
                self._last = event
            else:
                self.happened.emit(event)

    def _finish(self, child: Child | LeftChild) -> None:
        # napari ends the worker when it quits: the child is then still there.
        if child is not self._child or self.job is None or child.process_id is not None:
            return
        job = self.job
        last = self._last or Failed(
            f"The {job.noun} ended unexpectedly; {self._remedy(job)}", mistake=False
        )
        # The folder of the job is removed; what Python has printed may explain a crash later.
        if self.run:
            child.keep_log(RunFolder.of(job.project, self.run))
        child.clean()
        self._child = None
        self.job = None
        self.last_job = job
        self.ended.emit(last)
        if self._project is not None:
            self.attach(self._project)
        self.warm_up()

    def _remedy(self, job: Job) -> str:
        if not isinstance(job, TrainJob):
            return "start it again."
        # Of a job that ended together with its viewer, not even the run is known.
        resumable = (
            RunFolder.of(job.project, self.run).checkpoint.is_file()
            if self.run
            else self.attached and Runs(Path(job.project)).interrupted()
        )
        return "press Resume to go on from the last checkpoint." if resumable else "start it again."

    def close(self, ending: Ending = Ending.KEEP) -> None:
        """Part with the running job; no signal is emitted any more.

        Args:
            ending: what becomes of the job. A job that saves its work does so by itself: nobody
                waits for it here.
        """
        if self.standby is not None:
            self.standby.close()
        # Forgotten first: what its worker thread still delivers is then ignored.
        child = self._child
        job = self.job
        self._child = None
        self._project = None
        self.job = None
        if child is None or job is None:
            return
        if ending is Ending.KEEP:
            child.hang_up()
        elif ending is Ending.LEAVE:
            child.leave()
        else:
            child.discard()
            child.clean()
            self._forget_run(job)

    def _forget_run(self, job: Job) -> None:
        # A run that is continued holds what was learnt before, which is not discarded.
        if isinstance(job, TrainJob) and job.resume is None and self.run:
            shutil.rmtree(RunFolder.of(job.project, self.run).path, ignore_errors=True)


def _plain_name(run: str) -> str:
    """The name of a run, or nothing if it leads out of the folder of runs."""
    # The file of events may come with a project from elsewhere.
    return run if Path(run).name == run and run not in ("", ".", "..") else ""

"""Progress of a job, with buttons to pause and stop it."""

from __future__ import annotations

import time
from collections.abc import Callable

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_emda._gui.common.widgets import Sentence, button, column, row
from napari_emda._gui.process.progress_bar import ProgressBar
from napari_emda._gui.process.runner import Runner
from napari_emda.events import Advanced, Event, Phase, Started, Stepped, Stopping, TileDone
from napari_emda.jobs.time_left import TimeLeft, duration, left_in_words
from napari_emda.project.job_files import TrainJob

# Milliseconds between two updates of times on view: they count whole seconds.
_TICK = 1000

# Seconds after which a phase is shown with its duration, so that one sees that it goes on.
_LONG = 3


class JobStrip(QWidget):
    """Progress of one kind of job: its phase, the time left, and its buttons.

    Hidden while no such job runs. For a training it also shows its method and settings, because the
    form above may have been set to others since.

    Args:
        runner: of the jobs.
        kind: of the jobs that are shown, such as ``train``.
        stop: the text of the button that stops the job.
        pause: whether the job can be paused.
        clock: seconds from any zero; tests give their own.

    Attributes:
        what: the job in words.
        bar: share of the whole job that is done, in steps or blocks of it; it moves to and fro
            while the share is unknown.
        phase: what the job does now.
    """

    def __init__(
        self,
        runner: Runner,
        kind: str,
        *,
        stop: str,
        pause: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._runner = runner
        self._kind = kind
        self._clock = clock
        self._left = TimeLeft(clock)
        self._stopping_since: float | None = None
        self._announced = ""  # about how long stopping takes, in words
        self.what = Sentence()
        self.bar = ProgressBar()
        self.bar.setTextVisible(True)
        self.phase = Sentence()
        self.pause = button("Pause", "Pause the job; it keeps its memory.", self._pause)
        if not pause:
            self.pause.hide()
        self.stop = button(
            stop, "End the job after its current step; its results are kept.", self._stop
        )
        column(self, self.what, self.bar, self.phase, row(None, self.pause, self.stop))
        self._ticks = QTimer(self)
        self._ticks.setInterval(_TICK)
        self._ticks.timeout.connect(self._show)
        self.hide()
        runner.started.connect(self._on_started)
        runner.happened.connect(self._on_event)
        runner.ended.connect(self._on_ended)

    def _is_shown_job(self) -> bool:
        return self._runner.job is not None and self._runner.job.kind == self._kind

    @property
    def time_left(self) -> float | None:
        """Seconds that the job still takes, as shown; None before they are known."""
        return self._left.shown_seconds()

    # -- what happens ------------------------------------------------------------------------

    def _on_started(self, job: object) -> None:
        if not self._is_shown_job():
            return
        self._left.restart()
        self._stopping_since = None
        self._announced = ""
        self.what.show_text(job.in_words() if isinstance(job, TrainJob) else "")
        self.pause.setText("Pause")
        for control in (self.pause, self.stop):
            control.setEnabled(True)
        self._show()
        self._ticks.start()
        self.show()

    def _on_event(self, event: Event) -> None:
        if not self._is_shown_job():
            return
        self._left.see(event)
        if isinstance(event, Stopping):
            self._announced = f" (about {duration(event.seconds)})" if event.seconds else ""
            self._begin_stopping()
        elif isinstance(event, Advanced | Phase | Started | Stepped | TileDone):
            self._show()

    def _on_ended(self, last: object) -> None:
        self._ticks.stop()
        self.hide()

    # -- what is shown -----------------------------------------------------------------------

    def _show(self) -> None:
        """Show the current state; also once a second, because times go on without events."""
        if self._stopping_since is not None:
            self._show_stopping(self._stopping_since)
            return
        self._left.pause(self._runner.paused)
        self._show_bar()
        self._show_phase()

    def _show_stopping(self, since: float) -> None:
        # Nothing else, whatever the job still says: the stop would seem to be lost.
        saves = "saving what was learnt" if self._kind == "train" else "what is done is kept"
        self.bar.setRange(0, 0)
        self.bar.setFormat("Stopping")
        seconds = round(self._clock() - since)
        passed = f" {seconds} s" if seconds else ""
        self.phase.show_text(f"Stopping: {saves} …{passed}{self._announced}")

    def _show_bar(self) -> None:
        left = self._left
        fraction = left.fraction()
        if fraction is None and not self._runner.paused:
            # A bar without a range moves to and fro.
            self.bar.setRange(0, 0)
            self.bar.setFormat(self._name())
            return
        total = max(1, left.total)
        self.bar.setRange(0, total)
        # In steps, but of the whole: at the last step, what comes after it is still to be done.
        self.bar.setValue(int((fraction or 0.0) * total))
        count = [f"{left.done} of {left.total} {left.unit}"] if left.total else []
        seconds = left.shown_seconds()
        if seconds is not None:
            count.append(f"{left_in_words(seconds)} left")
        self.bar.setFormat("Paused" if self._runner.paused else " · ".join(count))

    def _show_phase(self) -> None:
        if self._runner.paused:
            left = self._left
            self.phase.show_text(f"{left.done} of {left.total} {left.unit}" if left.total else "")
            return
        seconds = round(self._left.in_phase)
        # Steps and blocks show by themselves that the work goes on.
        counts = self._left.counting and self._left.fraction() is not None
        passed = f" {seconds} s" if seconds >= _LONG and not counts else ""
        self.phase.show_text(f"{self._name()} …{passed}")

    def _name(self) -> str:
        job = self._runner.job
        return self._left.phase or (job.preparing if job is not None else "")

    # -- buttons -----------------------------------------------------------------------------

    def _pause(self) -> None:
        self._runner.say("resume" if self._runner.paused else "pause")
        self.pause.setText("Resume" if self._runner.paused else "Pause")
        self._show()

    def _stop(self) -> None:
        self._runner.say("stop")
        self._begin_stopping()

    def _begin_stopping(self) -> None:
        if self._stopping_since is None:
            self._stopping_since = self._clock()
        for control in (self.pause, self.stop):
            control.setEnabled(False)
        self._show()

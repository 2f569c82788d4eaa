"""Progress of a job, with buttons to pause and stop it."""

from __future__ import annotations

import time

from qtpy.QtWidgets import QProgressBar, QWidget

from napari_emda._gui.common.widgets import Sentence, button, column, row
from napari_emda._gui.process.runner import Runner
from napari_emda.events import Started, Stepped, TileDone
from napari_emda.project.job_files import TrainJob

# Seconds up to which a time is given in minutes; longer ones are easier to read in hours.
_LONGEST_IN_MINUTES = 90 * 60


def duration(seconds: float) -> str:
    """A time in words: 45 s, 3 min, 2.5 h."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < _LONGEST_IN_MINUTES:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


class JobStrip(QWidget):
    """Progress and remaining time of one kind of job, and its buttons; hidden while none runs.

    For a training it also shows its method and settings, because the form above may have been set
    to others since.
    """

    def __init__(self, runner: Runner, kind: str, *, stop: str, pause: bool = False) -> None:
        super().__init__()
        self._runner = runner
        self._kind = kind
        self._first: tuple[int, float] | None = None
        self.what = Sentence()
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.pause = button("Pause", "Pause the job; it keeps its memory.", self._pause)
        if not pause:
            self.pause.hide()
        self.stop = button(
            stop, "End the job after its current step; its results are kept.", self._stop
        )
        column(self, self.what, self.bar, row(None, self.pause, self.stop))
        self.hide()
        runner.started.connect(self._on_started)
        runner.happened.connect(self._on_event)
        runner.ended.connect(self._on_ended)

    def _is_shown_job(self) -> bool:
        return self._runner.job is not None and self._runner.job.kind == self._kind

    def _on_started(self, job: object) -> None:
        if self._is_shown_job():
            self._first = None
            self.what.show_text(job.in_words() if isinstance(job, TrainJob) else "")
            # Not (0, 0), with which Qt draws a busy bar without text.
            self.bar.setRange(0, 1)
            self.bar.setValue(0)
            self.bar.setFormat("Getting ready …")
            for control in (self.pause, self.stop):
                control.setEnabled(True)
            self.show()

    def _on_event(self, event: object) -> None:
        if not self._is_shown_job():
            return
        self.pause.setText("Resume" if self._runner.paused else "Pause")
        if isinstance(event, Started):
            self.bar.setFormat(f"Started on {event.device}")
        elif isinstance(event, Stepped):
            left = (event.steps - event.step) / event.rate if event.rate else None
            self._advance(event.step, event.steps, left, "steps")
        # A prediction continues with what is on disk, so its speed is measured here.
        elif isinstance(event, TileDone):
            self._advance(event.done, event.total, self._time_left(event), "blocks")

    def _time_left(self, event: TileDone) -> float | None:
        """Remaining seconds, from the speed of this job; None before it is known."""
        # A continued prediction begins with blocks that are done already and took no time.
        now = time.monotonic()
        if self._first is None:
            self._first = (event.done, now)
        done_at_first, began = self._first
        done = event.done - done_at_first
        return (now - began) / done * (event.total - event.done) if done else None

    def _advance(self, done: int, total: int, left: float | None, unit: str) -> None:
        self.bar.setRange(0, max(1, total))
        self.bar.setValue(done)
        progress = [f"{done} of {total} {unit}"]
        if self._runner.paused:
            progress.append("paused")
        elif left is not None:
            progress.append(f"{duration(left)} left")
        self.bar.setFormat(" · ".join(progress))

    def _on_ended(self, last: object) -> None:
        self.hide()

    def _pause(self) -> None:
        self._runner.say("resume" if self._runner.paused else "pause")
        self.pause.setText("Resume" if self._runner.paused else "Pause")
        self.bar.setFormat("Paused" if self._runner.paused else "Resuming …")

    def _stop(self) -> None:
        self._runner.say("stop")
        self.bar.setFormat("Stopping; results are kept …")
        for control in (self.pause, self.stop):
            control.setEnabled(False)

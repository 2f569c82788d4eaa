"""Progress of a job with the buttons that steer it."""

from __future__ import annotations

import time

from qtpy.QtWidgets import QProgressBar, QWidget

from napari_emda._gui.common.widgets import Sentence, button, column, row
from napari_emda._gui.process.runner import Runner
from napari_emda.events import Started, Stepped, TileDone
from napari_emda.project.job_files import TrainJob

_LONGEST_IN_MINUTES = 90 * 60
"""Seconds; a longer time is read more easily in hours."""


def duration(seconds: float) -> str:
    """A time in words: 45 s, 3 min, 2.5 h."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < _LONGEST_IN_MINUTES:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


class JobStrip(QWidget):
    """Progress of one kind of job, the time left, and buttons to steer it; hidden while none runs.

    Of a training it says what it is: the form above may be set to another one, as while retraining.
    """

    def __init__(self, runner: Runner, kind: str, *, stop: str, pause: bool = False) -> None:
        super().__init__()
        self._runner = runner
        self._kind = kind
        self._first: tuple[int, float] | None = None
        self.what = Sentence()
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.pause = button("Pause", "Hold the job, keeping its memory.", self._pause)
        if not pause:
            self.pause.hide()
        self.stop = button(
            stop, "End the job after what it is doing; what it has is kept.", self._stop
        )
        column(self, self.what, self.bar, row(None, self.pause, self.stop))
        self.hide()
        runner.started.connect(self._on_started)
        runner.happened.connect(self._on_event)
        runner.ended.connect(self._on_ended)

    def _mine(self) -> bool:
        return self._runner.job is not None and self._runner.job.kind == self._kind

    def _on_started(self, job: object) -> None:
        if self._mine():
            self._first = None
            self.what.show_text(job.in_words() if isinstance(job, TrainJob) else "")
            self.bar.setRange(0, 1)
            self.bar.setValue(0)
            self.bar.setFormat("Getting ready …")
            for control in (self.pause, self.stop):
                control.setEnabled(True)
            self.show()

    def _on_event(self, event: object) -> None:
        if not self._mine():
            return
        self.pause.setText("Resume" if self._runner.paused else "Pause")
        if isinstance(event, Started):
            self.bar.setFormat(f"Started on {event.device}")
        elif isinstance(event, Stepped):
            left = (event.steps - event.step) / event.rate if event.rate else None
            self._advance(event.step, event.steps, left, "steps")
        elif isinstance(event, TileDone):
            self._advance(event.done, event.total, self._time_left(event), "blocks")

    def _time_left(self, event: TileDone) -> float | None:
        """Seconds, from the blocks of this job: those that were there before took no time."""
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
        self.bar.setFormat("Paused" if self._runner.paused else "Going on …")

    def _stop(self) -> None:
        self._runner.say("stop")
        self.bar.setFormat("Stopping and keeping what there is …")
        for control in (self.pause, self.stop):
            control.setEnabled(False)

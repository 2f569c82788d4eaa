"""Progress of a job with the buttons that steer it."""

from __future__ import annotations

import time

from qtpy.QtWidgets import QProgressBar, QWidget

from napari_emda._gui.common.widgets import Sentence, button, column, row
from napari_emda._gui.process.runner import Runner
from napari_emda.events import Started, Stepped, TileDone
from napari_emda.project.job_files import TrainJob
from napari_emda.project.runs import in_words


def duration(seconds: float) -> str:
    """A time in words: 45 s, 3 min, 2.5 h."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class JobStrip(QWidget):
    """Progress of one kind of job, with the time left and the buttons that steer it; hidden while none runs.

    Of a training it says what it is: the form above may be set to another one, as while retraining.
    """

    def __init__(self, runner: Runner, kind: str, *, stop: str, pause: bool = False) -> None:
        super().__init__()
        self._runner, self._kind = runner, kind
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
            self.what.show_text(in_words(job) if isinstance(job, TrainJob) else "")
            self.bar.setRange(0, 1)
            self.bar.setValue(0)
            self.bar.setFormat("Getting ready …")
            for each in (self.pause, self.stop):
                each.setEnabled(True)
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
            now = time.monotonic()
            self._first = self._first or (event.done, now)
            done = event.done - self._first[0]
            left = (now - self._first[1]) / done * (event.total - event.done) if done else None
            self._advance(event.done, event.total, left, "blocks")

    def _advance(self, done: int, total: int, left: float | None, unit: str) -> None:
        self.bar.setRange(0, max(1, total))
        self.bar.setValue(done)
        time_left = (
            "paused" if self._runner.paused else "" if left is None else f"{duration(left)} left"
        )
        self.bar.setFormat(f"{done} of {total} {unit}" + (f" · {time_left}" if time_left else ""))

    def _on_ended(self, last: object) -> None:
        self.hide()

    def _pause(self) -> None:
        self._runner.say("resume" if self._runner.paused else "pause")
        self.pause.setText("Resume" if self._runner.paused else "Pause")
        self.bar.setFormat("Paused" if self._runner.paused else "Going on …")

    def _stop(self) -> None:
        self._runner.say("stop")
        self.bar.setFormat("Stopping and keeping what there is …")
        for each in (self.pause, self.stop):
            each.setEnabled(False)

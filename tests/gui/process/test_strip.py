"""What the strip says while a job runs, with events and a clock of the test."""

import pytest
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_emda._gui.process.strip import JobStrip
from napari_emda.events import Finished, Notice, Phase, Started, Stepped, Stopping, TileDone
from napari_emda.project.job_files import PredictJob, TrainJob
from napari_emda.settings.training import TrainSettings


class FakeRunner:
    started = Signal(object)
    happened = Signal(object)
    ended = Signal(object)

    def __init__(self):
        self.job = None
        self.paused = False
        self.said = []

    def say(self, command):
        self.said.append(command)
        self.paused = {"pause": True, "resume": False}.get(command, self.paused)


class Stage:
    """A strip on the screen, with a job that the test plays."""

    def __init__(self, qtbot, job):
        self.now = 0.0
        self.runner = FakeRunner()
        self.strip = JobStrip(
            self.runner, job.kind, stop="Stop and keep", pause=True, clock=lambda: self.now
        )
        qtbot.addWidget(self.strip)
        self.runner.job = job
        self.runner.started.emit(job)

    def happens(self, event, seconds=0.0):
        self.now += seconds
        self.runner.happened.emit(event)

    def click(self, control):
        QTest.mouseClick(control, Qt.MouseButton.LeftButton)

    @property
    def moves(self):
        """Whether the bar moves to and fro."""
        return self.strip.bar.maximum() == 0


@pytest.fixture
def training(qtbot):
    return Stage(qtbot, TrainJob(project="p", method="auto", settings=TrainSettings(steps=40)))


def play(stage, steps=40, until=40):
    """Two seconds a step, and an end phase that is expected to be as long as twenty steps."""
    stage.happens(Started("train", "001-auto", "cpu", steps), 5)
    ahead = {"Choosing the model": 20.0}
    stage.happens(Phase("Training", float(steps), ahead, counted=True))
    for step in range(4, until + 1, 4):
        stage.happens(Stepped(step, steps, {"total": 1.0}, 0.5), 8)


def test_each_phase_is_named_and_the_bar_moves_while_nothing_is_known(training):
    assert training.moves
    assert training.strip.phase.text() == "Reading the images …"
    training.now += 12
    training.strip._ticks.timeout.emit()
    assert training.strip.phase.text() == "Reading the images … 12 s"
    assert training.moves


def test_the_end_phase_is_part_of_the_bar_and_of_the_time_left(training):
    play(training, until=20)
    assert training.strip.phase.text() == "Training …"
    assert training.strip.bar.format() == "20 of 40 steps · 80 s left"
    play_rest = [(step, 8) for step in range(24, 41, 4)]
    for step, seconds in play_rest:
        training.happens(Stepped(step, 40, {"total": 1.0}, 0.5), seconds)
    # All steps are done: a third of the time is still to come, and is said.
    training.happens(Phase("Choosing the model", 20.0))
    assert training.strip.phase.text() == "Choosing the model …"
    assert training.strip.bar.format() == "40 of 40 steps · 40 s left"
    assert training.strip.bar.value() / training.strip.bar.maximum() == pytest.approx(
        0.66, abs=0.04
    )
    before = training.strip.bar.value()
    training.now += 20
    training.strip._ticks.timeout.emit()
    assert training.strip.bar.format() == "40 of 40 steps · 20 s left"
    assert training.strip.phase.text() == "Choosing the model … 20 s"
    assert training.strip.bar.value() > before


def test_a_stop_stays_on_view_whatever_comes_until_the_end(training):
    play(training, until=20)
    training.click(training.strip.stop)
    assert training.runner.said == ["stop"]
    assert training.strip.phase.text() == "Stopping: saving what was learnt …"
    training.happens(Stopping(4.0))
    training.happens(Stepped(24, 40, {"total": 1.0}, 0.5), 8)
    training.happens(Phase("Calibrating", 3.0))
    training.happens(Notice("Something."))
    assert training.strip.phase.text() == "Stopping: saving what was learnt … 8 s (about 4 s)"
    training.now += 30
    training.strip._ticks.timeout.emit()
    assert "38 s" in training.strip.phase.text()
    assert training.moves
    assert not training.strip.stop.isEnabled()
    training.runner.ended.emit(Finished("stopped", "Stopped at step 24."))
    assert training.strip.isHidden()


def test_the_next_job_begins_with_a_clean_strip(training):
    play(training, until=20)
    training.click(training.strip.stop)
    training.runner.ended.emit(Finished("stopped", "Stopped at step 20."))
    training.runner.started.emit(training.runner.job)
    assert training.strip.phase.text() == "Reading the images …"
    assert training.strip.stop.isEnabled()
    assert training.moves


def test_a_pause_is_shown_and_takes_no_time(training):
    play(training, until=20)
    left = training.strip.bar.format()
    training.click(training.strip.pause)
    assert training.strip.bar.format() == "Paused"
    training.now += 1000
    training.click(training.strip.pause)
    assert training.runner.said == ["pause", "resume"]
    assert training.strip.bar.format() == left


def test_a_prediction_that_continues_counts_only_its_own_blocks(qtbot):
    stage = Stage(qtbot, PredictJob(project="p"))
    stage.happens(Started("predict", "001-auto", "cpu", 0))
    stage.happens(Phase("Predicting", 1.0, counted=True))
    for done in (91, 92, 93):
        stage.happens(TileDone("target", (0, 1, 0, 1, 0, 1), done, 100), 4)
    assert stage.strip.bar.format() == "93 of 100 blocks · 30 s left"
    assert stage.strip.bar.value() == 93

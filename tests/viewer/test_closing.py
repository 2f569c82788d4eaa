"""Closing napari while a job runs: it asks, and no training is lost."""

import contextlib

import napari
import psutil
import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox, QPushButton

from napari_emda._gui.process.closing import Saving
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from tests.viewer import story

STEPS = 50_000


@pytest.fixture
def wait(qtbot):
    return lambda condition: qtbot.waitUntil(condition, timeout=240_000)


@pytest.fixture
def training(tmp_path, wait, monkeypatch):
    """A viewer on the screen with a training that has saved something."""
    # The application goes on after the test.
    monkeypatch.setattr(QApplication, "quit", lambda *_: None)
    viewer = napari.Viewer()
    dock, _ = story.start(viewer, fake=True)
    story.make_project(dock, tmp_path / "project", wait)
    story.train(dock, STEPS)
    run = RunFolder(tmp_path / "project/runs/001-fake")
    wait(lambda: dock.train.strip.bar.value() >= 20 and run.checkpoint.exists())
    pid = dock.session.runner.process_id
    window = viewer.window._qt_window
    yield viewer, dock, run, pid
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()
    wait(lambda: not alive(pid))
    dock.shut_down()
    with contextlib.suppress(RuntimeError):
        window.close()


def alive(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def answer(text, seen):
    """Click a button of the question as soon as it is on the screen; '' presses Escape."""

    def click():
        box = QApplication.activeModalWidget()
        if not isinstance(box, QMessageBox):
            QTimer.singleShot(10, click)
            return
        seen.append((box.text(), [button.text() for button in box.buttons()]))
        if not text:
            QTest.keyClick(box, Qt.Key.Key_Escape)
            return
        (button,) = [button for button in box.buttons() if button.text().startswith(text)]
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    QTimer.singleShot(0, click)


def close(viewer):
    """As the button of the window's frame does."""
    viewer.window._qt_window.close()


def test_cancel_keeps_everything_as_it_is_and_keep_saves_before_napari_closes(training, wait):
    viewer, dock, run, pid = training
    seen = []
    answer("", seen)
    close(viewer)
    assert len(seen) == 1
    assert viewer.window._qt_window.isVisible() and not dock.session.closed
    step = run.saved_step
    wait(lambda: run.saved_step > step)

    seen.clear()
    answer("Keep what is learnt (about", seen)
    close(viewer)
    ((text, choices),) = seen
    assert text.startswith("A training is running, step")
    assert text.endswith(f"of {STEPS}. What should happen to it?")
    assert len(choices) == 4
    assert dock.session.closed and not alive(pid)
    assert dock.session.runner.last_job.kind == "train"  # its last sentence has been heard
    assert step < run.saved_step < STEPS
    assert not (run.path.parents[1] / "jobs").exists()


def test_discard_leaves_nothing_of_the_training(training):
    viewer, dock, run, pid = training
    answer("Discard", [])
    close(viewer)
    assert dock.session.closed and not alive(pid)
    assert not run.path.exists()


def test_go_on_lets_the_training_go_on_and_the_next_napari_finds_it(training, wait, tmp_path):
    viewer, dock, run, pid = training
    answer("Go on without napari", [])
    close(viewer)
    assert dock.session.closed and alive(pid)
    step = run.saved_step
    wait(lambda: run.saved_step > step)

    again = napari.Viewer()
    second, _ = story.start(again, fake=True)
    wait(lambda: second.session.catalogue is not None)
    second.data.open_project(run.path.parents[1])
    assert second.session.runner.process_id == pid
    wait(lambda: second.train.strip.bar.value() > step)
    assert not second.train.strip.isHidden()
    wait(lambda: len(second.train.curves.losses.curves) > 0)
    QTest.mouseClick(second.train.strip.stop, Qt.MouseButton.LeftButton)
    wait(lambda: second.session.runner.job is None)
    assert "Stopped at step" in second.notices.text()
    assert f"Resume 001-fake from step {run.saved_step} of" in second.train.resume.text()
    close(again)


def test_removing_the_dock_asks_too_and_cancel_brings_it_back(training, wait):
    viewer, dock, run, pid = training
    seen = []
    answer("", seen)
    viewer.window.remove_dock_widget(dock)
    wait(lambda: bool(seen) and dock.parent() is not None)
    assert alive(pid) and not dock.session.closed
    answer("Keep", seen)
    viewer.window.remove_dock_widget(dock)
    wait(lambda: dock.session.closed)
    assert len(seen) == 2 and not alive(pid)
    assert 0 < run.saved_step < STEPS
    Project.open(run.path.parents[1], exclusive=True).close()
    close(viewer)


def test_who_does_not_want_to_wait_closes_at_once_and_a_script_is_asked_nothing(training, wait):
    """The job then saves and ends by itself."""
    viewer, dock, run, pid = training
    saving = Saving(dock.session.runner, None)
    QTimer.singleShot(
        0, lambda: QTest.mouseClick(saving.findChild(QPushButton), Qt.MouseButton.LeftButton)
    )
    saving.wait()  # for a job that nobody has stopped
    assert alive(pid)
    viewer.close()
    assert dock.session.closed
    wait(lambda: not alive(pid))
    assert (run.path / "saved-on-hang-up").exists()
    Project.open(run.path.parents[1], exclusive=True).close()

"""What becomes of a running job when the viewer closes: the question, and the wait."""

from __future__ import annotations

from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QLabel,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_emda._gui.process.progress_bar import ProgressBar
from napari_emda._gui.process.runner import Ending, Runner
from napari_emda.errors import with_article
from napari_emda.events import Stepped

# Milliseconds for which events are handled before the job is asked for again whether it has ended.
_BEAT = 50
# What the button that keeps the work is called, by kind of job. Others write their result at the
# end only, and have nothing to keep before.
_KEEP = {"train": "Keep what is learnt", "predict": "Keep the finished blocks"}


class Question(QMessageBox):
    """Asks what becomes of the running job.

    Args:
        runner: of the job.
        parent: the window that closes.
    """

    def __init__(self, runner: Runner, parent: QWidget | None) -> None:
        super().__init__(parent)
        job = runner.job
        assert job is not None
        self.setIcon(QMessageBox.Icon.Question)
        self.setWindowTitle("napari-emda")
        self.setText(
            f"{with_article(job.noun)} is running{_how_far(runner)}. What should happen to it?"
        )
        self._endings: dict[QPushButton, Ending] = {}
        accept = QMessageBox.ButtonRole.AcceptRole
        destroy = QMessageBox.ButtonRole.DestructiveRole
        learnt = job.kind != "train" or isinstance(runner.progress, Stepped)
        if job.kind in _KEEP and learnt:
            tip = "Save, end the job, then close napari. You can go on with it later."
            self._offer(_KEEP[job.kind] + _about(runner.time_to_stop), accept, Ending.KEEP, tip)
        self._offer(
            "Go on without napari",
            accept,
            Ending.LEAVE,
            "Close napari and let the job go on. You find it again when you open the project.",
        )
        if job.kind == "train":
            tip = "End the training and forget all that it has learnt."
            self._offer("Discard", destroy, Ending.DISCARD, tip)
        elif job.kind not in _KEEP:
            self._offer("Stop it", destroy, Ending.DISCARD, "End the job without its result.")
        cancel = self.addButton(QMessageBox.StandardButton.Cancel)
        self.setEscapeButton(cancel)
        self.setDefaultButton(next(iter(self._endings)))

    def _offer(self, text: str, role: QMessageBox.ButtonRole, ending: Ending, tip: str) -> None:
        choice = self.addButton(text, role)
        assert choice is not None
        choice.setToolTip(tip)
        choice.setAccessibleDescription(tip)
        self._endings[choice] = ending

    def ask(self) -> Ending | None:
        """Wait for the answer; None if napari is to stay open."""
        self.exec()
        clicked = self.clickedButton()
        return next((end for choice, end in self._endings.items() if choice is clicked), None)


def _how_far(runner: Runner) -> str:
    progress = runner.progress
    if isinstance(progress, Stepped):
        return f", step {progress.step} of {progress.steps}"
    if progress is not None:
        return f", block {progress.done} of {progress.total}"
    return ""


def _about(seconds: float) -> str:
    return f" (about {max(1, round(seconds))} s)" if seconds else ""


class Saving(QDialog):
    """A small window that is shown while a job saves its work.

    Args:
        runner: of the job, which has been told to stop.
        parent: the window that closes.
    """

    def __init__(self, runner: Runner, parent: QWidget | None) -> None:
        super().__init__(parent)
        self._runner = runner
        self._left = False
        self.setWindowTitle("napari-emda")
        self.setModal(True)
        noun = runner.job.noun if runner.job is not None else "job"
        bar = ProgressBar()
        # Busy: how long the last step takes is not known exactly.
        bar.setRange(0, 0)
        leave = QPushButton("Close napari now")
        leave.setToolTip("The job saves and ends by itself.")
        leave.clicked.connect(self.reject)
        # Escape does the same.
        self.rejected.connect(self._leave)
        layout = QVBoxLayout(self)
        layout.addWidget(QLabel(f"Saving what the {noun} has done{_about(runner.time_to_stop)} …"))
        layout.addWidget(bar)
        layout.addWidget(leave)

    def _leave(self) -> None:
        self._left = True

    def wait(self) -> None:
        """Handle events until the job has ended, or until the user does not want to wait."""
        self.show()
        # No event loop of Qt: while the application quits, each of them returns at once.
        while self._runner.job is not None and not self._left:
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, _BEAT)
        self.accept()


def save_and_wait(runner: Runner, parent: QWidget | None) -> None:
    """Stop the running job and wait until it has saved its work."""
    runner.say("stop")
    Saving(runner, parent).wait()

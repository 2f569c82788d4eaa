"""Where the jobs of the dock compute: on this computer, in several processes, or elsewhere."""

from __future__ import annotations

import sys
import threading

from psygnal import Signal
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QVBoxLayout, QWidget

from napari_emda._gui.common.number_boxes import WholeNumberBox
from napari_emda._gui.common.text_box import TextBox
from napari_emda._gui.common.widgets import Sentence, button, name_control, narrow
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.process.asking import ask
from napari_emda._gui.session import Session
from napari_emda.data.names import in_one_line
from napari_emda.errors import JobError
from napari_emda.json_text import parse_json
from napari_emda.project.computing_place import computing_place, keep_computing_place
from napari_emda.settings.where import Where

_HERE = "this computer"
_PROCESSES = "several processes"
_SCHEDULER = "a scheduler"
_QUEUE = "a cluster's queue"
# Seconds for workers to answer. A queue may take longer: then the command line tells more.
_PATIENCE = 120.0


class WhereBox(QWidget):
    """A list of places, and what each of them needs.

    Args:
        session: whose jobs compute there.

    Attributes:
        what: the list.
        workers: number of processes, or of workers to ask the queue for.
        address: of the scheduler.
        file: the cluster file.
        check: asks the workers whether they can be used.
        answer: what they say.
        changed: another place was chosen, or something of it.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._stop = threading.Event()
        limits = Where.model_json_schema()["properties"]
        self.what = narrow(QComboBox())
        self.what.addItems([_HERE, _PROCESSES, _SCHEDULER, _QUEUE])
        self.what.setToolTip(
            "Where all that the dock has predicted is computed. It is kept for you, on this "
            "computer, and not in the project."
        )
        self.workers = WholeNumberBox()
        self.workers.setMaximum(limits["workers"]["maximum"])
        self.workers.setSuffix(" workers")
        self.workers.setToolTip(
            "Each worker holds a copy of the model, and needs about 1.5 GiB of memory."
        )
        self.address = TextBox(limits["scheduler"]["description"])
        self.address.setPlaceholderText("tcp://HOST:PORT")
        self.file = TextBox(limits["cluster"]["description"])
        self.file.setPlaceholderText("slurm.yaml")
        self.check = button(
            "Check",
            "Ask the workers whether they see this project and have the same versions.",
            self._ask,
            name="check the workers",
        )
        self.answer = Sentence()
        # Before anything listens: what shows itself for the first time is no choice of the user's.
        self._set_fewest()
        self._build()
        self.what.currentTextChanged.connect(lambda _: self._on_changed())
        self.workers.valueChanged.connect(lambda _: self._on_changed())
        # When it is complete, and not at every letter.
        self.address.editingFinished.connect(self._on_changed)
        self.file.editingFinished.connect(self._on_changed)
        session.project_opened.connect(self._on_project)
        session.closing.connect(self._stop.set)
        self._show_rows()

    def _build(self) -> None:
        for widget, name in (
            (self.workers, "workers"),
            (self.address, "address of the scheduler"),
            (self.file, "cluster file"),
        ):
            name_control(widget, name)
        what = QHBoxLayout()
        what.addWidget(self.what, 1)
        what.addWidget(self.check)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        rows.addLayout(what)
        for row in (self.address, self.file, self.workers, self.answer):
            rows.addWidget(row)

    @property
    def where(self) -> Where:
        """What is chosen; this computer as long as something is missing."""
        what = self.what.currentText()
        file = self.file.text().strip()
        if what == _PROCESSES:
            return Where(workers=self.workers.value())
        if what == _SCHEDULER:
            return Where(scheduler=self.address.text().strip())
        if what == _QUEUE and file:
            return Where(cluster=file, workers=self.workers.value())
        return Where()

    @property
    def problem(self) -> str:
        """What is missing, in one sentence; empty if nothing is."""
        what = self.what.currentText()
        if what == _SCHEDULER and not self.address.text().strip():
            return "Type the address of the scheduler, or choose this computer, under Advanced."
        if what == _QUEUE and not self.file.text().strip():
            return "Type the path of the cluster file, or choose this computer, under Advanced."
        return ""

    def _on_project(self, opened: OpenProject) -> None:
        where = computing_place(opened.project.folder)
        what = _PROCESSES if where.workers > 1 else _HERE
        what = _SCHEDULER if where.scheduler else _QUEUE if where.cluster else what
        with (
            QSignalBlocker(self.what),
            QSignalBlocker(self.workers),
            QSignalBlocker(self.address),
            QSignalBlocker(self.file),
        ):
            self.what.setCurrentText(what)
            self._set_fewest()
            self.workers.setValue(where.workers)
            self.address.setText(where.scheduler)
            self.file.setText(where.cluster)
        self._session.where = where
        self._show_rows()

    def _set_fewest(self) -> None:
        """A queue may be asked for one worker; one process here is this computer's own."""
        self.workers.setMinimum(1 if self.what.currentText() == _QUEUE else 2)

    def _on_changed(self) -> None:
        with QSignalBlocker(self.workers):
            self._set_fewest()
        self._show_rows()
        opened = self._session.opened
        where = self.where
        self.changed.emit()
        if where == self._session.where:
            return
        self._session.where = where
        if opened is not None:
            with self._session.showing_errors():
                keep_computing_place(opened.project.folder, where)

    def _show_rows(self) -> None:
        what = self.what.currentText()
        self.workers.setVisible(what in (_PROCESSES, _QUEUE))
        self.address.setVisible(what == _SCHEDULER)
        self.file.setVisible(what == _QUEUE)
        self.check.setVisible(what != _HERE)
        self.answer.show_text("")

    def _ask(self) -> None:
        opened = self._session.opened
        if opened is None or self.problem:
            self.answer.show_text(self.problem or "Open a project first.", "hint")
            return
        where = self.where
        self.check.setEnabled(False)
        self.answer.show_text("Asking the workers …", "note")

        def show(text: str, tone: str) -> None:
            self.check.setEnabled(True)
            # Another place may have been chosen meanwhile.
            if where == self.where:
                self.answer.show_text(text, tone)

        folder = str(opened.project.folder)
        self._session.in_background(
            lambda: _answer(folder, where, self._stop),
            lambda text: show(text, "done"),
            lambda text: show(text, "error"),
        )


def _answer(folder: str, where: Where, stop: threading.Event) -> str:
    """What workers say to a child process: dask loads torch there, which the viewer must not.

    Raises:
        JobError: they cannot be used, or do not answer.
    """
    options = {
        "--workers": str(where.workers) if where.workers > 1 else "",
        "--scheduler": where.scheduler,
        "--cluster": where.cluster,
    }
    command = [sys.executable, "-m", "napari_emda", "check-workers", folder, "--json"]
    for name, value in options.items():
        if value:
            # In one word, so that an address that begins with a dash is no option.
            command.append(f"{name}={value}")
    try:
        done = ask(command, stop, _PATIENCE)
    except TimeoutError:
        raise JobError(
            "No worker has answered in two minutes: look whether the jobs wait in the queue, or "
            "run napari-emda check-workers in a terminal."
        ) from None
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    last = lines[-1] if lines else "The check ended without a word: try it in a terminal."
    if done.returncode:
        raise JobError(in_one_line(last))
    return in_one_line(str(parse_json(last)["text"]))

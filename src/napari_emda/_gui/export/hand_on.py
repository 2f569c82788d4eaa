"""Handing on the whole project: packed into one file, or described in a report."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]  # which qtpy renames
from qtpy.QtWidgets import QComboBox, QFileDialog, QWidget

from napari_emda._gui.common.widgets import (
    Sentence,
    button,
    column,
    file_filter,
    labelled,
    narrow,
    row,
    with_ending,
)
from napari_emda._gui.process.asking import ask
from napari_emda._gui.process.progress_bar import ProgressBar
from napari_emda._gui.session import Session, in_short
from napari_emda.errors import JobError, listed
from napari_emda.json_text import parse_json
from napari_emda.project.packing.manifest import Images
from napari_emda.project.packing.pack import Packed, pack
from napari_emda.project.project import Project

# It loads torch, which the viewer must not.
REPORT = (sys.executable, "-m", "napari_emda", "report")

_PACKED = {"Packed projects": (".zip",)}
_REPORTS = {"Reports": (".html",)}
_IMAGES: dict[Images, str] = {
    "none": "leave them out",
    "crops": "around annotated patches",
    "whole": "as a whole",
}
# Bytes up to which a size is said in kB.
_SMALL = 100_000
_NO_PROJECT = "There is no project yet: choose your layers in Data."


class _Stopped(JobError):
    """The user has stopped the work, or closed the dock."""


class HandOn(QWidget):
    """The buttons that pack the open project and write its report, in the background.

    Args:
        session: of the dock.
        command: writes a report; the arguments of ``napari-emda report`` follow. For tests.

    Attributes:
        images: which images are packed.
        pack: asks for a file, and packs the project.
        report: asks for a file, and writes the report.
        stop: ends either, of which nothing is left.
    """

    _said = Signal(str)

    def __init__(self, session: Session, command: Sequence[str] = REPORT) -> None:
        super().__init__()
        self._session = session
        self._command = command
        self._ending: threading.Event | None = None
        self._changed = False
        self.images = narrow(QComboBox())
        self.images.setToolTip(
            "Images that are left out have to be handed on beside the packed project. Those around "
            "annotated patches are enough to look at annotations, not to train again."
        )
        for kind, words in _IMAGES.items():
            self.images.addItem(words, kind)
        self.pack = button("Pack the project …", "", self._choose_pack)
        self.report = button("Write a report …", "", self._choose_report)
        self.phase = Sentence()
        self.bar = ProgressBar()
        self.bar.setRange(0, 0)
        self.stop = button("Stop", "Stop this; no file is written.", self._stop)
        column(
            self,
            labelled(("images", self.images)),
            row(None, self.pack, self.report),
            self.phase,
            row(None, self.bar, (self.stop, 0)),
            margin=0,
        )
        self._said.connect(self.phase.show_text)
        session.project_opened.connect(self._on_opened)
        session.project_changed.connect(self._on_changed)
        session.runner.started.connect(self._on_started)
        session.closing.connect(self._stop)
        self._show_state()

    # -- state -----------------------------------------------------------------------------------

    def _on_opened(self, opened: object) -> None:
        # What was begun belongs to the project that was open before.
        self._stop()

    def _on_changed(self) -> None:
        self._changed = True
        self._show_state()

    def _on_started(self, job: object) -> None:
        self._on_changed()

    def _show_state(self) -> None:
        is_working = self._ending is not None
        reason = "" if self._session.opened is not None else _NO_PROJECT
        reason = "Wait for the end of what is being written." if is_working else reason
        for control, tip in (
            (
                self.pack,
                "Put the project into one file, for a colleague or a publication; Open "
                "under Data reads it.",
            ),
            (
                self.report,
                "Write a page with data, models, scores, pictures and a draft of the methods, for "
                "a supplement.",
            ),
        ):
            control.setEnabled(not reason)
            control.setToolTip(reason or tip)
        for shown in (self.bar, self.stop):
            shown.setVisible(is_working)
        if not is_working:
            self.phase.show_text("")

    # -- files -----------------------------------------------------------------------------------

    def _choose_pack(self) -> None:
        self._choose("Pack the project to", "", _PACKED, self._start_pack)

    def _choose_report(self) -> None:
        self._choose("Write the report to", "-report", _REPORTS, self._start_report)

    def _choose(
        self,
        title: str,
        end: str,
        formats: Mapping[str, Sequence[str]],
        start: Callable[[Path, Path, bool], None],
    ) -> None:
        """Ask for a file, and start to write it."""
        opened = self._session.opened
        if opened is None:
            return
        folder = opened.project.folder
        proposal = folder.parent / f"{folder.name}{end}{next(iter(formats.values()))[0]}"
        chosen, _ = QFileDialog.getSaveFileName(self, title, str(proposal), file_filter(formats))
        if not chosen:
            return
        path = with_ending(chosen, "", formats)
        # The dialog has asked whether to replace the file of the name that was typed, and no other.
        overwrite = path == chosen and Path(path).exists()
        with self._session.showing_errors():
            # At once: nobody waits for a process to hear that a file exists.
            suffixes = next(iter(formats.values()))
            opened.project.claim(path, suffixes, overwrite=overwrite)
            start(folder, Path(path), overwrite)

    # -- work ------------------------------------------------------------------------------------

    def _start_pack(self, folder: Path, path: Path, overwrite: bool) -> None:
        if self._session.runner.busy:
            raise JobError(self._session.runner.busy)
        images: Images = self.images.currentData()
        self._start("Packing …", partial(self._packed, folder, path, images, overwrite), _of_pack)

    def _start_report(self, folder: Path, path: Path, overwrite: bool) -> None:
        command = [*self._command, str(folder), "--to", str(path), "--json"]
        if overwrite:
            command.append("--overwrite")
        self._start("Writing the report …", partial(self._reported, command, path), str)

    def _start(
        self,
        phase: str,
        work: Callable[[threading.Event], Any],
        in_words: Callable[[Any], str],
    ) -> None:
        ending = threading.Event()

        def done(result: Any) -> None:
            self._end(ending)
            text = in_words(result)
            if self._changed:
                text += " The project has changed meanwhile: do it again to have all of it."
            self._session.say(text, "hint" if self._changed else "done")

        def failed(text: str) -> None:
            self._end(ending)
            self._session.say("Stopped; no file was written." if ending.is_set() else text, "error")

        self._ending = ending
        self._changed = False
        self._show_state()
        self.phase.show_text(phase)
        self._session.in_background(partial(work, ending), done, failed)

    def _stop(self) -> None:
        if self._ending is not None:
            self._ending.set()

    def _end(self, ending: threading.Event) -> None:
        if self._ending is ending:
            self._ending = None
            self._show_state()

    def _packed(
        self, folder: Path, path: Path, images: Images, overwrite: bool, ending: threading.Event
    ) -> Packed:
        """Pack in a worker thread."""
        # Another one than the window's, which is not made for two threads.
        with Project.open(folder) as project:
            work = pack(project, path, images, overwrite=overwrite)
            while True:
                try:
                    phase = next(work)
                except StopIteration as end:
                    packed: Packed = end.value
                    return packed
                if ending.is_set():
                    work.close()
                    raise _Stopped("It was stopped.")
                # Qt hands it to the main thread.
                self._said.emit(f"{phase.name} …")

    @staticmethod
    def _reported(command: Sequence[str], path: Path, ending: threading.Event) -> str:
        """Have a child process write the report; returns what is said."""
        asked = ask(command, ending)
        if ending.is_set():
            raise _Stopped("It was stopped.")
        if asked.returncode:
            lines = asked.stderr.strip().splitlines() or ["it gave no answer"]
            raise JobError(lines[-1])
        missing = parse_json(asked.stdout.strip().splitlines()[-1])["missing"]
        return " ".join([f"The report is in {in_short(str(path))}.", *missing])


def _of_pack(packed: Packed) -> str:
    """What was packed, as a sentence."""
    files = "1 file" if packed.files == 1 else f"{packed.files} files"
    size = f"{packed.size / 1e6:.1f} MB" if packed.size > _SMALL else f"{packed.size / 1e3:.0f} kB"
    text = f"The project is packed in {in_short(str(packed.path))}: {files}, {size}."
    if not packed.left_out:
        return text
    names = listed([path.removeprefix("../") for path in packed.left_out])
    return f"{text} Not in it: {names}. Whoever opens it puts them beside the project's folder."

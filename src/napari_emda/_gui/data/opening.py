"""Opening a project: from its folder, or from the file of a packed one, which is unpacked first."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_emda._gui.common.widgets import button, column, row
from napari_emda._gui.data.repair import RepairOffer, opened_for_viewer
from napari_emda._gui.session import Session, in_short
from napari_emda.errors import listed
from napari_emda.project.packing.unpack import is_pack, missing_images, unpacked

Unpacked = tuple[Path, list[str]]
"""The folder of a project, and its images that are missing."""


class Opening(QWidget):
    """The buttons that open a project, and what is offered where that fails.

    Args:
        session: of the dock.

    Attributes:
        repair: what is offered.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._unpacking: Path | None = None
        self.folder = button("Open a project …", "Open a project folder.", self.choose_folder)
        self.packed = button(
            "… from a .zip file",
            "Unpack a project that somebody has packed into one file, and open it.",
            self.choose_packed,
        )
        self.repair = RepairOffer(session, self.open_project)
        column(self, row(None, self.folder, self.packed), self.repair, margin=0)

    def choose_folder(self) -> None:
        """Ask for a project folder and open it."""
        folder = QFileDialog.getExistingDirectory(self, "Open a project", str(Path.home()))
        if folder:
            self.open_project(Path(folder))

    def choose_packed(self) -> None:
        """Ask for the file of a packed project, and open it."""
        path, _ = QFileDialog.getOpenFileName(
            self, "Open a packed project", str(Path.home()), "Packed projects (*.zip)"
        )
        if path:
            self.open_project(Path(path))

    def open_project(self, path: Path) -> None:
        """Open a project and show its volumes.

        Args:
            path: its folder, or the file of a packed project, which is unpacked in the background.
        """
        if self._session.runner.busy:
            self._session.say(self._session.runner.busy, "error")
        elif is_pack(path):
            self._unpack(path)
        else:
            self._open_folder(path)

    def _open_folder(self, folder: Path) -> None:
        with self._session.showing_errors():
            opened = self._session.opened
            if opened is not None and opened.project.folder == folder:
                # The user may have removed layers, and wants to see them again.
                self._session.bring_back_layers()
                self._session.say(f"The project {folder} is open already.")
                return
            # Exclusively: two viewers that write to a project would overwrite each other's work.
            with self.repair.offered_for(folder):
                self._session.adopt(opened_for_viewer(folder))
            self._session.say(f"The project {folder} was opened.", "done")

    # -- packed projects -----------------------------------------------------------------------

    def _unpack(self, path: Path) -> None:
        if self._unpacking is not None:
            self._session.say(f"{self._unpacking.name} is still being unpacked.", "hint")
            return
        self._unpacking = path
        self._session.say(f"Unpacking {path.name} …", "hint")
        self._session.in_background(partial(_unpacked, path), self._show, self._fail)

    def _show(self, result: Unpacked) -> None:
        folder, missing = result
        self._unpacking = None
        if not missing:
            # As if it were chosen now: a job may have begun meanwhile.
            self.open_project(folder)
            return
        names = listed([path.removeprefix("../") for path in missing])
        self._session.say(
            f"The project was packed without its images: put {names} into the folder "
            f"{in_short(str(folder.parent))}, and open {in_short(str(folder))}.",
            "hint",
        )

    def _fail(self, text: str) -> None:
        self._unpacking = None
        self._session.say(text, "error")


def _unpacked(path: Path) -> Unpacked:
    work = unpacked(path)
    while True:
        try:
            next(work)
        except StopIteration as end:
            folder: Path = end.value
            return folder, missing_images(folder)

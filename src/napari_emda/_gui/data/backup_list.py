"""The backups of the annotations, as a list."""

from __future__ import annotations

import time

from qtpy.QtWidgets import QWidget

from napari_emda._gui.common.widgets import Drawer, Sentence, column
from napari_emda._gui.session import Session, in_short
from napari_emda.project.backups import Backup


class BackupList(Drawer):
    """When the annotations were copied, and how many patches there were; hidden without backups.

    Args:
        session: of the dock.
    """

    def __init__(self, session: Session) -> None:
        content = QWidget()
        super().__init__("Backups of the annotations", content)
        self._session = session
        self.sentence = Sentence()
        column(content, self.sentence, margin=0)
        session.project_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """List the backups of the open project, newest first."""
        backups: list[Backup] = []
        opened = self._session.opened
        if opened is not None:
            with self._session.showing_errors():
                backups = opened.project.backups.all()
        self.setVisible(bool(backups))
        if backups:
            lines = [_in_words(backup) for backup in backups]
            where = in_short(str(backups[0].path.parent))
            lines.append(
                f"Check and repair takes damaged annotations from them. They are zip files in "
                f"{where}."
            )
            self.sentence.show_text("\n".join(lines), "note")


def _in_words(backup: Backup) -> str:
    """``27 Nov 2026, 01:23: round 2, 14 patches``, in the user's own time."""
    when = time.strftime("%d %b %Y, %H:%M", time.localtime(backup.time))
    patches = "1 patch" if backup.patches == 1 else f"{backup.patches} patches"
    return f"{when}: round {backup.round}, {patches}"

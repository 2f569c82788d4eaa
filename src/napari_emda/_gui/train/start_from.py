"""Which run's network a training begins with."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QWidget

from napari_emda._gui.common.widgets import labelled, refill, row
from napari_emda._gui.session import Session
from napari_emda.project.job_files import TrainJob

NOTHING = "nothing"
"""The entry for a new network."""


class StartFrom(QWidget):
    """The runs of the project, the newest first; at the top, to learn from nothing.

    The choice is emitted by the combo box, `box`.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.box = QComboBox()
        self.box.setToolTip(
            "The network to begin with: a new one, or what an earlier training has learnt, by "
            "whichever method and with or without labels. Its size is that of the earlier one."
        )
        row(self, labelled(("start from", self.box)))
        session.project_opened.connect(lambda opened: self.box.setCurrentIndex(0))
        session.project_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Offer the runs that there are now, keeping the choice."""
        opened = self._session.opened
        refill(self.box, [NOTHING, *(opened.runs if opened is not None else ())])

    @property
    def run(self) -> str | None:
        """The chosen run; None for a new network."""
        return self.box.currentText() if self.box.currentIndex() > 0 else None

    def job(self) -> TrainJob | None:
        """The job of the chosen run; None for a new network, and where it cannot be read."""
        opened = self._session.opened
        if opened is None or self.run is None:
            return None
        return opened.project.run(self.run).training()

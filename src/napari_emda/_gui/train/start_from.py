"""The choice of the network to start a training from."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QWidget

from napari_emda._gui.common.widgets import chosen_name, labelled, narrow, row
from napari_emda._gui.job_panel import offer_runs
from napari_emda._gui.session import Session
from napari_emda.project.job_files import TrainJob

# The entry for a new, untrained network.
NOTHING = "nothing"


class StartFrom(QWidget):
    """A combo box, `box`, of the project's runs, newest first, after an entry for a new network."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.box = narrow(QComboBox())
        self.box.setToolTip(
            "The network to start from: a new one, or that of an earlier training, by any method, "
            "with or without labels. It then has the settings of the earlier one."
        )
        row(self, labelled(("start from", self.box)))
        session.project_opened.connect(lambda opened: self.box.setCurrentIndex(0))
        session.project_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """List the current runs, keeping the choice."""
        opened = self._session.opened
        offer_runs(self.box, opened, before=[NOTHING], newest=False)

    def choose_latest(self) -> None:
        """Choose the latest run in place of a new network: some methods adapt a model."""
        opened = self._session.opened
        latest = None if opened is None else opened.project.runs.latest()
        if self.run is None and latest is not None:
            # Not yet listed if the project has just been opened; then this is called again.
            self.box.setCurrentIndex(max(0, self.box.findData(latest)))

    @property
    def run(self) -> str | None:
        """The chosen run; None for a new network."""
        return chosen_name(self.box) if self.box.currentIndex() > 0 else None

    def job(self) -> TrainJob | None:
        """The job of the chosen run; None for a new network, or if it cannot be read."""
        opened = self._session.opened
        if opened is None or self.run is None:
            return None
        return opened.project.run(self.run).training()

"""The panels in one dock, one project per viewer."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import napari.viewer
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QApplication, QScrollArea, QVBoxLayout, QWidget

from napari_emda._gui.annotate.panel import AnnotatePanel
from napari_emda._gui.annotate.queue import next_open
from napari_emda._gui.common.widgets import Drawer, Notices
from napari_emda._gui.data.panel import DataPanel
from napari_emda._gui.export.panel import ExportPanel
from napari_emda._gui.predict.panel import PredictPanel
from napari_emda._gui.process import catalogue
from napari_emda._gui.process.runner import COMMAND
from napari_emda._gui.session import Session
from napari_emda._gui.train.panel import TrainPanel
from napari_emda.events import Finished
from napari_emda.project.job_files import TrainJob


class Dock(QWidget):
    """Data, Train, Annotate, Predict, Export, in the order of work.

    Args:
        viewer: whose layers are used.
        command: what jobs are started with; ``{job}`` stands for the job file.
        methods_command: what tells the methods and strategies.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        command: Sequence[str] = COMMAND,
        methods_command: Sequence[str] = catalogue.COMMAND,
    ) -> None:
        super().__init__()
        # napari hands plugins a proxy of the viewer, whose layers are new proxies each time.
        viewer = getattr(viewer, "__wrapped__", viewer)
        self.session = Session(viewer, command)
        self.notices = Notices()
        self.data = DataPanel(self.session)
        self.train = TrainPanel(self.session)
        self.annotate = AnnotatePanel(self.session)
        self.predict = PredictPanel(self.session)
        self.export = ExportPanel(self.session)
        panels = {
            "Data": self.data,
            "Train": self.train,
            "Annotate": self.annotate,
            "Predict": self.predict,
            "Export": self.export,
        }
        self.drawers = {name: Drawer(name, panel, strong=True) for name, panel in panels.items()}
        self._stop = threading.Event()
        self._window: QObject | None = None
        self._closing = False
        self._docked = False
        self._build()
        self.session.said.connect(self.notices.show_text)
        self.session.moved_on.connect(self.notices.clear_note)
        self.session.project_opened.connect(lambda opened: self.show_only(self._place()))
        self.session.runner.started.connect(lambda job: self.notices.clear())
        self.session.runner.ended.connect(self._on_ended)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.shut_down)
        self._fetch(methods_command)

    def _build(self) -> None:
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(2, 2, 6, 2)
        layout.setSpacing(4)
        for drawer in self.drawers.values():
            layout.addWidget(drawer)
        layout.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(2, 2, 2, 2)
        outer.addWidget(self.notices)
        outer.addWidget(scroll, 1)
        self.setMinimumWidth(400)
        self.show_only("Data")

    def show_only(self, name: str) -> None:
        """Open one part and close the others."""
        for title, drawer in self.drawers.items():
            if title == name:
                drawer.expand()
            else:
                drawer.collapse()

    def _place(self) -> str:
        """The part in which the user of a project was: Annotate while patches are open."""
        patches = self.annotate.patches
        annotating = patches is not None and next_open(patches.regions, 0) is not None
        return "Annotate" if annotating else "Train"

    def _fetch(self, command: Sequence[str]) -> None:
        self.session.in_background(
            lambda: catalogue.fetch(self._stop, command),
            self.session.set_catalogue,
            lambda text: self.session.say(text, "error"),
        )

    def _on_ended(self, last: object) -> None:
        """Lead on to the next part."""
        job = self.session.runner.last_job
        catalogue = self.session.catalogue
        if not isinstance(last, Finished) or job is None:
            return
        if (
            isinstance(job, TrainJob)
            and catalogue is not None
            and catalogue.methods[job.method].requirements.labels == "unused"
        ):
            self.drawers["Data"].expand()
            self.data.naming_drawer.expand()
        elif job.kind == "suggest" and not self.drawers["Annotate"].isExpanded():
            self.show_only("Annotate")  # below the list of clusters it would be out of sight
        elif job.kind == "train":
            self.drawers["Annotate"].expand()

    # -- the end -----------------------------------------------------------------------------

    def event(self, event: QEvent | None) -> bool:
        """See where the dock is put, and when it is taken away."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parent() is None and self._docked:
                self.shut_down()
            self._docked = self.parent() is not None
        if event is not None and event.type() == QEvent.Type.Show:
            self._watch_window()
        return bool(super().event(event))

    def _watch_window(self) -> None:
        """Look at the events of the main window: a dock is not told when that closes."""
        window = self.window()
        if window is not self and window is not self._window and window is not None:
            if self._window is not None:
                self._window.removeEventFilter(self)
            self._window = window
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """End everything when the window closes.

        At once when a program closes it, and when the user has agreed to close it.
        """
        if watched is self._window and event is not None:
            if event.type() == QEvent.Type.Close:
                self._closing = True
                if not event.spontaneous():
                    self.shut_down()
            elif event.type() == QEvent.Type.Hide and self._closing:
                self.shut_down()
        return False

    def shut_down(self) -> None:
        """End the child, save everything, close the project; safe to call more than once."""
        if self.session.closed:
            return
        self._stop.set()
        self.session.close()
        if self._window is not None:
            self._window.removeEventFilter(self)
            self._window = None  # a reference would keep the whole window in memory
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.disconnect(self.shut_down)


def make_dock(viewer: napari.viewer.Viewer) -> Dock:
    """The dock for a viewer, not yet put into its window."""
    return Dock(viewer)

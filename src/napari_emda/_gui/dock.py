"""The dock: five panels, and one project per viewer."""

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
        command: starts a job; ``{job}`` stands for the job file.
        methods_command: lists the methods, strategies and exports.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        command: Sequence[str] = COMMAND,
        methods_command: Sequence[str] = catalogue.COMMAND,
    ) -> None:
        super().__init__()
        # napari passes plugins a proxy of the viewer, whose layers are new proxies at each access:
        # comparing layers by identity, as the panels do, needs the viewer itself.
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
        # Last, because the answer fills lists of the panels.
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
        # Texts wrap and lists shrink, so that nothing is wider than the dock.
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(2, 2, 2, 2)
        outer.addWidget(self.notices)
        outer.addWidget(scroll, 1)
        # Pixels; in a narrower dock rows of buttons and voxel sizes would be cut off.
        self.setMinimumWidth(400)
        self.show_only("Data")

    def show_only(self, name: str) -> None:
        """Open one panel and close the others."""
        for title, drawer in self.drawers.items():
            if title == name:
                drawer.expand()
            else:
                drawer.collapse()

    def _place(self) -> str:
        """The panel to start with: Annotate while patches are open, otherwise Train."""
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
        """Open the panel of the next step of the work."""
        job = self.session.runner.last_job
        catalogue = self.session.catalogue
        if not isinstance(last, Finished) or job is None:
            return
        # After a training without labels, clusters have to be named before anything else.
        if (
            isinstance(job, TrainJob)
            and catalogue is not None
            and catalogue.methods[job.method].requirements.labels == "unused"
        ):
            self.drawers["Data"].expand()
            self.data.naming_drawer.expand()
        elif job.kind == "suggest" and not self.drawers["Annotate"].isExpanded():
            # Only this one: below the list of clusters it would be out of sight.
            self.show_only("Annotate")
        elif job.kind == "train":
            self.drawers["Annotate"].expand()

    # -- the end -----------------------------------------------------------------------------

    def event(self, event: QEvent | None) -> bool:
        """Notice when the dock is put into a window, and when it is removed from it."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            # Without a parent after it had one: napari has closed the dock widget.
            if self.parent() is None and self._docked:
                self.shut_down()
            self._docked = self.parent() is not None
        if event is not None and event.type() == QEvent.Type.Show:
            self._watch_window()
        return bool(super().event(event))

    def _watch_window(self) -> None:
        """Filter the events of the main window: Qt sends a dock none when the window closes."""
        window = self.window()
        if window is not self and window is not self._window and window is not None:
            if self._window is not None:
                self._window.removeEventFilter(self)
            self._window = window
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Shut down when the main window closes."""
        if watched is self._window and event is not None:
            if event.type() == QEvent.Type.Close:
                # napari may ask the user first, who may cancel: a close by the user is certain only
                # when the window is hidden. A program's is certain at once.
                self._closing = True
                if not event.spontaneous():
                    self.shut_down()
            elif event.type() == QEvent.Type.Hide and self._closing:
                self.shut_down()
        return False

    def shut_down(self) -> None:
        """End the child process, save everything, close the project; may be called repeatedly."""
        if self.session.closed:
            return
        self._stop.set()
        self.session.close()
        if self._window is not None:
            self._window.removeEventFilter(self)
            self._window = None  # a reference would keep the closed window in memory
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.disconnect(self.shut_down)


def make_dock(viewer: napari.viewer.Viewer) -> Dock:
    """The dock for a viewer, not yet put into its window."""
    return Dock(viewer)

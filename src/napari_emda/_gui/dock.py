"""The dock widget: opens at once, is built while it is on view, and closes with its window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari.viewer
from qtpy.QtCore import QEvent, QMimeData, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_emda._gui.common.canvas import qt_viewer_of
from napari_emda._gui.common.load_ahead import load_ahead, load_units
from napari_emda._gui.common.turns import Turns

# What the dock needs besides is imported while it is on view: that takes longer than a user waits
# without a sign.
if TYPE_CHECKING:
    from napari_emda._gui.annotate.panel import AnnotatePanel
    from napari_emda._gui.common.notices import Notices
    from napari_emda._gui.common.widgets import Drawer
    from napari_emda._gui.contents import Contents
    from napari_emda._gui.data.panel import DataPanel
    from napari_emda._gui.export.panel import ExportPanel
    from napari_emda._gui.guide.guide import Guide
    from napari_emda._gui.missing_layers import MissingLayers
    from napari_emda._gui.objects.panel import ObjectsPanel
    from napari_emda._gui.predict.panel import PredictPanel
    from napari_emda._gui.process.runner import Ending
    from napari_emda._gui.session import Session
    from napari_emda._gui.train.panel import TrainPanel

# Width in characters when the dock is opened: with napari's controls on the left, a canvas of 700
# pixels fits on a screen of 1366.
_CHARACTERS = 40

# Imported one by one, in the order in which they need each other: each takes about a tenth of a
# second, all together most of a second.
_IMPORTS = (
    "zarr",
    "scipy.special",
    "scipy.ndimage",
    "tifffile",
    "pyqtgraph",
    "napari_emda.project.project",
    "napari_emda._gui.session",
    "napari_emda._gui.data.panel",
    "napari_emda._gui.contents",
)


class Dock(QWidget):
    """The dock of a viewer: there is one project per viewer.

    It is built in steps while it is on view. Whoever asks for a part of it before has it built at
    once.

    Args:
        viewer: whose layers are used.
        command: starts a job; ``{job}`` stands for the job file. By default the program itself.
        methods_command: lists the methods, strategies and exports; likewise.
    """

    # Those of its `Contents`.
    session: Session
    notices: Notices
    missing: MissingLayers
    data: DataPanel
    train: TrainPanel
    annotate: AnnotatePanel
    predict: PredictPanel
    objects: ObjectsPanel
    export: ExportPanel
    drawers: dict[str, Drawer]
    guide: Guide
    strip: QWidget

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        command: Sequence[str] | None = None,
        methods_command: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        # napari passes plugins a proxy of the viewer, whose layers are new proxies at each access:
        # comparing layers by identity, as the panels do, needs the viewer itself.
        self._viewer = getattr(viewer, "__wrapped__", viewer)
        self._contents: Contents | None = None
        self._window: QObject | None = None
        self._closing = False
        self._closed = False
        self._ending: Ending | None = None
        self._docked = False
        self.setAcceptDrops(True)
        self._opening = QLabel("Opening …")
        self._opening.setAlignment(Qt.AlignmentFlag.AlignCenter)
        # Where nothing wants the height, napari keeps the dock small at the top.
        expanding = QSizePolicy.Policy.Expanding
        self._opening.setSizePolicy(expanding, expanding)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._opening)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.shut_down)
        self._turns = Turns(self)
        self._turns.add(self._build(command, methods_command))

    def _build(
        self, command: Sequence[str] | None, methods_command: Sequence[str] | None
    ) -> Iterator[None]:
        for name in _IMPORTS:
            yield
            import_module(name)
        from napari_emda._gui.contents import Contents
        from napari_emda._gui.process import catalogue
        from napari_emda._gui.process.runner import COMMAND

        yield
        self._contents = contents = Contents(self._viewer, command or COMMAND)
        layout = self.layout()
        assert layout is not None
        layout.replaceWidget(self._opening, contents)
        self._opening.deleteLater()
        yield
        yield from contents.build()
        # Last, because the answer fills lists of the panels.
        contents.fetch(methods_command or catalogue.COMMAND)
        # Not for the children of tests, which end before it would help.
        if tuple(command or COMMAND) == COMMAND:
            yield
            load_units()
            permanent = contents.session.permanent
            permanent.declare()
            contents.session.in_background(
                load_ahead, lambda _: permanent.declare(), lambda _: None
            )

    @property
    def contents(self) -> Contents:
        """What is in the dock; if it is still being built, this builds the rest at once."""
        self._turns.finish()
        if self._contents is None:
            raise AttributeError("The dock was closed before it was built.")
        return self._contents

    def __getattr__(self, name: str) -> Any:
        # Called for what the dock itself does not have.
        if name in Dock.__annotations__:
            return getattr(self.contents, name)
        raise AttributeError(name)

    def show_only(self, name: str, part: Drawer | None = None) -> None:
        """Open one panel, the others close, and perhaps bring a part of it into sight."""
        self.contents.show_only(name, part)

    def sizeHint(self) -> QSize:
        """Wide enough for the panels, and no wider: the canvas gets the rest."""
        return QSize(
            _CHARACTERS * self.fontMetrics().averageCharWidth(), super().sizeHint().height()
        )

    # -- what is dropped on it ---------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take a project; napari's canvas takes images."""
        if event is not None and _dropped(event.mimeData()) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Open a project folder, or the file of a packed project."""
        path = None if event is None else _dropped(event.mimeData())
        if event is not None and path is not None:
            event.acceptProposedAction()
            # Afterwards: the program that it was dragged from waits for an answer.
            QTimer.singleShot(0, partial(self._open_dropped, path))

    def _open_dropped(self, path: Path) -> None:
        if not self._closed:
            self.show_only("Data")
            self.data.open_project(path)

    # -- the end -----------------------------------------------------------------------------

    def event(self, event: QEvent | None) -> bool:
        """Notice when the dock is put into a window, and when it is removed from it."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            # Without a parent after it had one: napari has closed the dock widget.
            if self.parent() is None and self._docked:
                self._on_removed()
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
        """Ask what becomes of a running job, and shut down, when the main window closes."""
        if watched is self._window and event is not None:
            if event.type() == QEvent.Type.Close:
                return self._on_close(event)
            if event.type() == QEvent.Type.Hide and self._closing:
                self.shut_down()
        return False

    def _on_close(self, event: QEvent) -> bool:
        """Whether the window stays open."""
        if self._should_ask and not self._ask():
            event.ignore()
            return True
        # napari may ask the user, too, who may cancel: a close by the user is certain only when the
        # window is hidden. A program's is certain at once.
        self._closing = True
        if not event.spontaneous():
            self.shut_down()
        return False

    @property
    def _should_ask(self) -> bool:
        """Whether a user who closes the window has to decide about a running job."""
        window = self._window
        session = self._contents.session if self._contents is not None else None
        if session is None or session.closed or session.runner.job is None:
            return False
        # A script that closes its viewer must not wait for an answer: `Viewer.close` hides the
        # canvas first. Nor can anybody answer without a window.
        viewer = qt_viewer_of(session.viewer)
        return (
            isinstance(window, QWidget)
            and window.isVisible()
            and viewer is not None
            and not viewer.isHidden()
        )

    def _ask(self) -> bool:
        """Ask what becomes of the running job; returns whether it may be left."""
        from napari_emda._gui.process.closing import Question

        runner = self.session.runner
        if runner.job is None or not isinstance(self._window, QWidget):
            return True
        self._ending = Question(runner, self._window).ask()
        # While the user was thinking, the job may have ended.
        return self._ending is not None or runner.job is None

    def _on_removed(self) -> None:
        """Ask what becomes of a running job when napari has removed the dock from its window."""
        if not self._should_ask:
            self.shut_down()
            return
        # Afterwards, because napari is in the middle of removing it.
        QTimer.singleShot(0, self._ask_after_removal)

    def _ask_after_removal(self) -> None:
        if self._ask():
            self.shut_down()
        else:
            self._viewer.window.add_dock_widget(self, name="napari-emda", area="right")

    def shut_down(self) -> None:
        """Part with the running job, save everything, close the project.

        It may be called repeatedly. A job of which the user has not said anything saves its work
        and ends by itself.
        """
        if self._closed:
            return
        self._closed = True
        self._turns.stop()
        if self._contents is not None:
            self._part_with(self._contents)
        if self._window is not None:
            self._window.removeEventFilter(self)
            self._window = None  # a reference would keep the closed window in memory
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.disconnect(self.shut_down)

    def _part_with(self, contents: Contents) -> None:
        from napari_emda._gui.process.closing import save_and_wait
        from napari_emda._gui.process.runner import Ending

        contents.release()
        runner = contents.session.runner
        if self._ending is Ending.KEEP and runner.job is not None:
            window = self._window if isinstance(self._window, QWidget) else None
            save_and_wait(runner, window)
        contents.session.close(self._ending or Ending.KEEP)


def _dropped(data: QMimeData | None) -> Path | None:
    """The project that is dragged; None if it is anything else."""
    # It knows zarr and pydantic, which would keep the dock from opening at once.
    from napari_emda._gui.project_reader import project_at

    urls = [] if data is None else data.urls()
    if len(urls) != 1 or not urls[0].isLocalFile():
        return None
    return project_at(Path(urls[0].toLocalFile()))


def make_dock(viewer: napari.viewer.Viewer) -> Dock:
    """The dock for a viewer, not yet put into its window."""
    return Dock(viewer)

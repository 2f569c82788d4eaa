"""The dock: the next step, five panels of which one is open, and one project per viewer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import napari.viewer
from qtpy.QtCore import QEvent, QObject, QSize, QTimer
from qtpy.QtWidgets import QApplication, QFrame, QPushButton, QVBoxLayout, QWidget

from napari_emda._gui.annotate.panel import AnnotatePanel
from napari_emda._gui.annotate.queue import next_open
from napari_emda._gui.common.keyboard_focus import KeyboardFocus
from napari_emda._gui.common.load_ahead import load_ahead, load_units
from napari_emda._gui.common.notices import Notices
from napari_emda._gui.common.tab_order import order_tabs
from napari_emda._gui.common.widgets import FOCUS_STYLE, Drawer, PanelArea, column
from napari_emda._gui.data.panel import DataPanel
from napari_emda._gui.export.panel import ExportPanel
from napari_emda._gui.guide.guide import Guide, Panels
from napari_emda._gui.missing_layers import MissingLayers
from napari_emda._gui.predict.panel import PredictPanel
from napari_emda._gui.process import catalogue
from napari_emda._gui.process.closing import Question, save_and_wait
from napari_emda._gui.process.runner import COMMAND, Ending
from napari_emda._gui.session import Session
from napari_emda._gui.train.panel import TrainPanel
from napari_emda.events import Finished
from napari_emda.project.job_files import TrainJob

# Width in characters when the dock is opened: with napari's controls on the left, a canvas of 700
# pixels fits on a screen of 1366.
_CHARACTERS = 40


class Dock(QWidget):
    """The next step; Data, Train, Annotate, Predict, Export in the order of work; painting tools.

    One panel is open at a time, so that what is needed for a step fits on the screen of a laptop.
    The painting tools stay in sight below the panels while a patch is open.

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
        self.missing = MissingLayers(self.session)
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
        self.guide = Guide(
            self.session,
            Panels(self.data, self.train, self.annotate, self.predict, self.export),
            self.show_only,
        )
        self.strip = QFrame()
        # When the panels have got their places, and once for all changes that come together.
        self._arranging = QTimer(self)
        self._arranging.setSingleShot(True)
        self._arranging.timeout.connect(self._arrange)
        self._stop = threading.Event()
        self._window: QObject | None = None
        self._closing = False
        self._ending: Ending | None = None
        self._docked = False
        self._out_of_date_with_paint = False
        # Of a panel, that the user has opened and wants to see.
        self._part: Drawer | None = None
        self._build()
        self._focus = KeyboardFocus(
            self, self._area, self._canvas, self._places, self.guide.line.button
        )
        self.annotate.add_keys_to(self.guide.line.button)
        self.session.said.connect(self.notices.show_text)
        self.session.withdrawn.connect(self.notices.withdraw)
        self.session.moved_on.connect(self.notices.clear_answer)
        self.session.project_opened.connect(self._on_project)
        # Methods and classes bring controls of their own.
        self.session.catalogue_changed.connect(self._arrange_soon)
        self.train.method.currentTextChanged.connect(lambda _: order_tabs(self))
        self.session.runner.started.connect(lambda job: self.notices.clear())
        self.session.runner.ended.connect(self._on_ended)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.shut_down)
        # Last, because the answer fills lists of the panels.
        self._fetch(methods_command)
        # Not for the children of tests, which end before it would help.
        if tuple(command) == COMMAND:
            load_units()
            self.session.in_background(load_ahead, lambda _: None, lambda _: None)

    def _build(self) -> None:
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(2, 2, 6, 2)
        layout.setSpacing(2)
        for name, drawer in self.drawers.items():
            layout.addWidget(drawer)
            drawer.toggled.connect(partial(self._on_toggled, name))
        layout.addStretch(1)
        self._area = PanelArea(inside)
        column(self.strip, self.annotate.painting, margin=0)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(2, 2, 2, 2)
        outer.setSpacing(2)
        for widget in (self.guide.line, self.missing, self.notices):
            outer.addWidget(widget)
        outer.addWidget(self._area, 1)
        outer.addWidget(self.strip)
        self.setStyleSheet(FOCUS_STYLE)
        # An answer to the last action is out of date with the next one.
        for button in self.findChildren(QPushButton):
            if button is not self.notices.why:
                button.pressed.connect(self.notices.clear_answer)
        for part in self._area.findChildren(Drawer):
            if part not in self.drawers.values():
                part.toggleButton().clicked.connect(partial(self._bring_into_sight, part))
        self.show_only("Data")
        self._show_strip()

    def sizeHint(self) -> QSize:
        """Wide enough for the panels, and no wider: the canvas gets the rest."""
        return QSize(
            _CHARACTERS * self.fontMetrics().averageCharWidth(), super().sizeHint().height()
        )

    def show_only(self, name: str, part: Drawer | None = None) -> None:
        """Open one panel, the others close, and perhaps bring a part of it into sight."""
        self.drawers[name].expand()
        if part is not None:
            part.expand()
            self._bring_into_sight(part)

    def _bring_into_sight(self, part: Drawer) -> None:
        # When it has got its place.
        self._part = part
        self._arranging.start(0)

    def _on_toggled(self, name: str, opened: bool) -> None:
        """Close the other panels when one opens, and bring its heading to the top."""
        if opened:
            for title, drawer in self.drawers.items():
                if title != name and drawer.isExpanded():
                    drawer.collapse()
            self._arranging.start(0)
        self._show_strip()

    def _arrange_soon(self, *_: object) -> None:
        self._arranging.start(0)

    def _arrange(self) -> None:
        """Bring the open panel into sight, and let Tab go through what there is now."""
        order_tabs(self)
        bar = self._area.verticalScrollBar()
        for drawer in self.drawers.values():
            if bar is not None and drawer.isExpanded() and self._part is None:
                bar.setValue(drawer.y())
        part = self._part
        self._part = None
        if part is not None and part.isExpanded():
            self._area.show_all_of(part)

    @property
    def _qt_viewer(self) -> Any:
        """Napari's widget around the canvas; None for a viewer without a window."""
        return getattr(getattr(self.session.viewer, "window", None), "_qt_viewer", None)

    def _canvas(self) -> QWidget | None:
        viewer = self._qt_viewer
        return viewer.canvas.native if viewer is not None else None

    def _places(self) -> Iterator[QWidget]:
        """Where the keyboard focus goes when its control was hidden or disabled."""
        yield self.guide.line.button
        for drawer in self.drawers.values():
            if drawer.isExpanded():
                yield drawer.toggleButton()
        yield from (drawer.toggleButton() for drawer in self.drawers.values())

    def _show_strip(self) -> None:
        """Show the painting tools while a patch is open, or the panel in which patches are."""
        patches = self.annotate.patches
        annotating = patches is not None and patches.current is not None
        at_hand = patches is not None and self.drawers["Annotate"].isExpanded()
        self.strip.setVisible(annotating or at_hand)

    def _on_project(self, opened: object) -> None:
        patches = self.annotate.patches
        if patches is not None:
            patches.changed.connect(self._on_patches)
        self.show_only(self._place())

    def _on_patches(self) -> None:
        patches = self.annotate.patches
        painting = patches is not None and patches.current is not None
        # What a job has said before is out of date when the user begins to paint. What one says
        # meanwhile stays, because nobody may have seen it yet.
        if painting and self._out_of_date_with_paint:
            self.notices.let_go()
        self._show_strip()

    def _place(self) -> str:
        """The panel to start with: Annotate while patches are open, otherwise Train."""
        patches = self.annotate.patches
        annotating = patches is not None and next_open(patches.regions, 0) is not None
        return "Annotate" if annotating else "Train"

    def _fetch(self, command: Sequence[str]) -> None:
        def failed(text: str) -> None:
            self.session.say(text, "error")

        def fetched(found: catalogue.Catalogue) -> None:
            self.session.set_catalogue(found)
            # What was kept from an earlier start is used at once, and checked meanwhile.
            self.session.in_background(
                lambda: catalogue.fetch_again(self._stop, command), checked, failed
            )

        def checked(changed: catalogue.Catalogue | None) -> None:
            if changed is not None:
                self.session.set_catalogue(changed)

        self.session.in_background(lambda: catalogue.fetch(self._stop, command), fetched, failed)

    def _on_ended(self, last: object) -> None:
        """Open the panel of the next step of the work."""
        if isinstance(last, Finished):
            self.notices.keep()
            patches = self.annotate.patches
            self._out_of_date_with_paint = patches is None or patches.current is None
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
            self.show_only("Data", self.data.naming_drawer)
        elif job.kind in ("suggest", "train"):
            self.show_only("Annotate")

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
        window = self._window
        if self._should_ask and isinstance(window, QWidget):
            self._ending = Question(self.session.runner, window).ask()
            # While the user was thinking, the job may have ended.
            if self._ending is None and self.session.runner.job is not None:
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
        if self.session.closed or self.session.runner.job is None:
            return False
        # A script that closes its viewer must not wait for an answer: `Viewer.close` hides the
        # canvas first. Nor can anybody answer without a window.
        viewer = self._qt_viewer
        return (
            isinstance(window, QWidget)
            and window.isVisible()
            and viewer is not None
            and not viewer.isHidden()
        )

    def _on_removed(self) -> None:
        """Ask what becomes of a running job when napari has removed the dock from its window."""
        if not self._should_ask:
            self.shut_down()
            return
        # Afterwards, because napari is in the middle of removing it.
        QTimer.singleShot(0, self._ask_after_removal)

    def _ask_after_removal(self) -> None:
        window = self._window
        if self.session.runner.job is not None and isinstance(window, QWidget):
            self._ending = Question(self.session.runner, window).ask()
            if self._ending is None and self.session.runner.job is not None:
                self.session.viewer.window.add_dock_widget(self, name="napari-emda", area="right")
                return
        self.shut_down()

    def shut_down(self) -> None:
        """Part with the running job, save everything, close the project.

        It may be called repeatedly. A job of which the user has not said anything saves its work
        and ends by itself.
        """
        if self.session.closed:
            return
        self._stop.set()
        self._focus.release()
        if self._ending is Ending.KEEP and self.session.runner.job is not None:
            window = self._window if isinstance(self._window, QWidget) else None
            save_and_wait(self.session.runner, window)
        self.session.close(self._ending or Ending.KEEP)
        if self._window is not None:
            self._window.removeEventFilter(self)
            self._window = None  # a reference would keep the closed window in memory
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.disconnect(self.shut_down)


def make_dock(viewer: napari.viewer.Viewer) -> Dock:
    """The dock for a viewer, not yet put into its window."""
    return Dock(viewer)

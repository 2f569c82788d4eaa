"""What is in the dock: the next step, six panels of which one is open, painting tools."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial

from napari.components import ViewerModel
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFrame, QPushButton, QVBoxLayout, QWidget

from napari_emda._gui.annotate.panel import AnnotatePanel
from napari_emda._gui.annotate.queue import next_open
from napari_emda._gui.common.canvas import qt_viewer_of
from napari_emda._gui.common.keyboard_focus import KeyboardFocus
from napari_emda._gui.common.notices import Notices
from napari_emda._gui.common.panel_area import PanelArea
from napari_emda._gui.common.tab_order import order_tabs
from napari_emda._gui.common.widgets import FOCUS_STYLE, Drawer, column
from napari_emda._gui.data.panel import DataPanel
from napari_emda._gui.export.panel import ExportPanel
from napari_emda._gui.guide.guide import Guide, Panels
from napari_emda._gui.missing_layers import MissingLayers
from napari_emda._gui.objects.panel import ObjectsPanel
from napari_emda._gui.predict.panel import PredictPanel
from napari_emda._gui.process import catalogue
from napari_emda._gui.session import Session
from napari_emda._gui.train.panel import TrainPanel
from napari_emda.events import Finished
from napari_emda.project.job_files import TrainJob
from napari_emda.project.region import Region


class Contents(QWidget):
    """The next step; six panels from Data to Export in the order of work; painting tools.

    One panel is open at a time, so that what is needed for a step fits on the screen of a laptop.
    The painting tools stay in sight below the panels while a patch is open.

    Args:
        viewer: whose layers are used.
        command: starts a job; ``{job}`` stands for the job file.
    """

    data: DataPanel
    train: TrainPanel
    annotate: AnnotatePanel
    predict: PredictPanel
    objects: ObjectsPanel
    export: ExportPanel
    guide: Guide
    _focus: KeyboardFocus | None = None

    def __init__(self, viewer: ViewerModel, command: Sequence[str]) -> None:
        super().__init__()
        self.session = Session(viewer, command)
        self.notices = Notices()
        self.missing = MissingLayers(self.session)
        self.strip = QFrame()
        self.drawers: dict[str, Drawer] = {}
        self._stop = threading.Event()
        self._out_of_date_with_paint = False
        # Of a panel, that the user has opened or started and wants to see.
        self._part: QWidget | None = None
        # When the panels have got their places, and once for all changes that come together.
        self._arranging = QTimer(self)
        self._arranging.setSingleShot(True)
        self._arranging.timeout.connect(self._arrange)
        inside = QWidget()
        self._stack = QVBoxLayout(inside)
        self._stack.setContentsMargins(2, 2, 6, 2)
        self._stack.setSpacing(2)
        self._stack.addStretch(1)
        self._area = PanelArea(inside)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(2, 2, 2, 2)
        self._column.setSpacing(2)
        for widget in (self.missing, self.notices):
            self._column.addWidget(widget)
        self._column.addWidget(self._area, 1)
        self.setStyleSheet(FOCUS_STYLE)

    # -- building ------------------------------------------------------------------------------

    def build(self) -> Iterator[None]:
        """Build everything, in steps of about a tenth of a second."""
        session = self.session
        self.data = DataPanel(session)
        self._add("Data", self.data)
        self.show_only("Data")
        yield
        self.train = TrainPanel(session)
        self._add("Train", self.train)
        yield
        self.annotate = AnnotatePanel(session)
        self._add("Annotate", self.annotate)
        yield
        self.predict = PredictPanel(session)
        self._add("Predict", self.predict)
        yield
        self.objects = ObjectsPanel(session)
        self._add("Objects", self.objects)
        yield
        self.export = ExportPanel(session)
        self._add("Export", self.export)
        yield
        panels = Panels(self.data, self.train, self.annotate, self.predict, self.export)
        self.guide = Guide(session, panels, self.show_only)
        self._column.insertWidget(0, self.guide.line)
        column(self.strip, self.annotate.painting, margin=0)
        self._column.addWidget(self.strip)
        self._show_strip()
        yield
        self._focus = KeyboardFocus(
            self, self._area, self._canvas, self._places, self.guide.line.button
        )
        self.annotate.add_keys_to(self.guide.line.button)
        self._connect()
        self._arrange()

    def _add(self, name: str, panel: QWidget) -> None:
        drawer = self.drawers[name] = Drawer(name, panel, strong=True)
        # Above the stretch, which keeps the panels together at the top.
        self._stack.insertWidget(self._stack.count() - 1, drawer)
        drawer.toggled.connect(partial(self._on_toggled, name))

    def _connect(self) -> None:
        session = self.session
        session.said.connect(self.notices.show_text)
        session.withdrawn.connect(self.notices.withdraw)
        session.moved_on.connect(self.notices.clear_answer)
        session.project_opened.connect(self._on_project)
        self.objects.redrawn.connect(self._redraw)
        # Methods and classes bring controls of their own.
        session.catalogue_changed.connect(self._arrange_soon)
        self.train.method.currentTextChanged.connect(lambda _: order_tabs(self))
        session.runner.started.connect(self._on_started)
        session.runner.ended.connect(self._on_ended)
        # An answer to the last action is out of date with the next one.
        for button in self.findChildren(QPushButton):
            if button is not self.notices.why:
                button.pressed.connect(self.notices.clear_answer)
        for part in self._area.findChildren(Drawer):
            if part not in self.drawers.values():
                part.toggleButton().clicked.connect(partial(self._bring_into_sight, part))

    # -- the open panel ------------------------------------------------------------------------

    def show_only(self, name: str, part: Drawer | None = None) -> None:
        """Open one panel, the others close, and perhaps bring a part of it into sight."""
        self.drawers[name].expand()
        if part is not None:
            part.expand()
            self._bring_into_sight(part)

    def _bring_into_sight(self, part: QWidget) -> None:
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
        if name == "Objects":
            self.objects.set_open(opened)
        self._show_strip()

    def _arrange_soon(self, *_: object) -> None:
        self._arranging.start(0)

    def _arrange(self) -> None:
        """Bring the open panel into sight, and let Tab go through what there is now."""
        order_tabs(self)
        for drawer in self.drawers.values():
            if drawer.isExpanded() and self._part is None:
                self._area.show_from_top(drawer)
        part = self._part
        self._part = None
        # A part may have been closed by the same click.
        if part is not None and part.isVisible() and not _is_closed(part):
            self._area.show_all_of(part)

    def _canvas(self) -> QWidget | None:
        viewer = qt_viewer_of(self.session.viewer)
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
        drawer = self.drawers.get("Annotate")
        patches = self.annotate.patches if drawer is not None else None
        annotating = patches is not None and patches.current is not None
        at_hand = patches is not None and drawer is not None and drawer.isExpanded()
        # Without a parent it would open as a window.
        self.strip.setVisible(self.strip.parent() is not None and (annotating or at_hand))

    def _on_project(self, opened: object) -> None:
        patches = self.annotate.patches
        if patches is not None:
            patches.changed.connect(self._on_patches)
        self.show_only(self._place())

    def _redraw(self, region: Region) -> None:
        """Paint an object in the patch that was made for it."""
        self.show_only("Annotate")
        patches = self.annotate.patches
        if patches is not None:
            with self.session.showing_errors():
                patches.reload()
                patches.go(region)

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

    def _on_started(self, job: object) -> None:
        self.notices.clear()
        # Its progress and its buttons are at the end of the panel.
        if isinstance(job, TrainJob) and self.drawers["Annotate"].isExpanded():
            self._bring_into_sight(self.annotate.retrain)

    def _on_ended(self, last: object) -> None:
        """Open the panel of the next step of the work."""
        if isinstance(last, Finished):
            self.notices.keep()
            patches = self.annotate.patches
            self._out_of_date_with_paint = patches is None or patches.current is None
        job = self.session.runner.last_job
        found = self.session.catalogue
        if not isinstance(last, Finished) or job is None:
            return
        # After a training without labels, clusters have to be named before anything else.
        if (
            isinstance(job, TrainJob)
            and found is not None
            and not found.methods[job.method].requirements.predicts_classes
        ):
            self.show_only("Data", self.data.naming_drawer)
        elif job.kind in ("suggest", "train"):
            self.show_only("Annotate")

    # -- methods -------------------------------------------------------------------------------

    def fetch(self, command: Sequence[str]) -> None:
        """Read the list of methods in the background.

        Args:
            command: prints it.
        """

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

    # -- the end -------------------------------------------------------------------------------

    def release(self) -> None:
        """Do not wait for the list of methods any more, nor watch the keyboard focus."""
        self._stop.set()
        if self._focus is not None:
            self._focus.release()


def _is_closed(part: QWidget) -> bool:
    return isinstance(part, Drawer) and not part.isExpanded()

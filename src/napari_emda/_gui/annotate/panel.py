"""The panel in which patches are suggested, corrected one after the other, and learnt from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from napari.layers import Labels
from qtpy.QtWidgets import QGridLayout, QToolTip, QWidget

from napari_emda._gui.annotate.class_palette import ClassPalette
from napari_emda._gui.annotate.decisions import accept, put_aside, undo
from napari_emda._gui.annotate.import_labels import ImportBox
from napari_emda._gui.annotate.key_filter import KeyFilter
from napari_emda._gui.annotate.keys import KeyBindings, help_text
from napari_emda._gui.annotate.learning_curve import CurveBox
from napari_emda._gui.annotate.patch_list import PatchList, progress
from napari_emda._gui.annotate.patches import Patches
from napari_emda._gui.annotate.retrain import RetrainBox
from napari_emda._gui.annotate.suggest import SuggestBox
from napari_emda._gui.annotate.thumbnails import canvas_of
from napari_emda._gui.annotate.tools import Tools
from napari_emda._gui.common.widgets import Sentence, button, column, row
from napari_emda._gui.job_panel import NO_PROJECT
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.session import Session
from napari_emda.events import Suggested
from napari_emda.project.job_files import SuggestJob, TrainJob
from napari_emda.project.region import AUDIT, Region

_HELP_SECONDS = 20
"""Long enough to read the table of keys."""


class AnnotatePanel(QWidget):
    """Suggestions, the keys and buttons to go through them, the learning curve, and retraining.

    Attributes:
        patches: of the open project, None before one is open.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.patches: Patches | None = None
        self.tools = Tools()
        self.imports = ImportBox(session, self.tools, self._annotation_layer)
        self.suggest = SuggestBox(session, self.imports)
        self.list = PatchList(session, self._go)
        self.status = Sentence()
        self.classes = ClassPalette(self.tools)
        self.curve = CurveBox(session, lambda: self.suggest.main.values()["patch"])
        self.retrain = RetrainBox(session)
        self.commands = self._named_commands()
        self.keys = KeyBindings(self.commands)
        self._mouse: list[tuple[list[Any], Any]] = []
        column(
            self,
            self.suggest,
            self.status,
            self.list,
            self._buttons(),
            self.classes,
            self.curve,
            self.retrain,
        )
        self._key_filter = KeyFilter(self, self.commands)
        self._connect()
        self._show_patches()

    # -- commands ----------------------------------------------------------------------------

    def _named_commands(self) -> dict[str, Callable[[], None]]:
        actions: dict[str, Callable[[Patches], object]] = {
            "next": Patches.next,
            "back": Patches.back,
            "done": _then_next(partial(accept, complete=True)),
            "partial": _then_next(partial(accept, complete=False)),
            "skip": _then_next(partial(put_aside, state="skipped")),
            "unsure": _then_next(partial(put_aside, state="unsure")),
            "undo": undo,
            "bare": lambda patches: patches.overlays.toggle_bare(),
            "uncertainty": Patches.toggle_uncertainty,
            "brush": lambda patches: self.tools.next_brush(),
            "own": Patches.draw_own,
            **{f"class {k}": partial(_select_class, index=k - 1) for k in range(1, 10)},
        }
        return {name: partial(self._act, action) for name, action in actions.items()}

    def _act(self, action: Callable[[Patches], object]) -> None:
        """Do what a key or a button asks for, or say why not."""
        session = self._session
        if self.patches is None:
            session.say(NO_PROJECT, "note")
            return
        session.moved_on.emit()
        self.patches.times.beat()
        self._measure_canvas(self.patches)
        with session.telling():
            action(self.patches)

    def _measure_canvas(self, patches: Patches) -> None:
        patches.canvas = canvas_of(self._session.viewer) or patches.canvas

    def _go(self, region: Region) -> None:
        self._act(lambda patches: patches.go(region))

    def _on_rectangle(self, region: Region) -> None:
        current = self.patches.current if self.patches is not None else None
        if current is None or current.id != region.id:
            self._go(region)

    def _annotation_layer(self, volume: str) -> Labels | None:
        return self.patches.paint.layer(volume) if self.patches is not None else None

    # -- buttons -----------------------------------------------------------------------------

    def _buttons(self) -> QWidget:
        act = self.commands
        done = button(
            "Done", "Take the patch as fully annotated; unpainted is background (K).", act["done"]
        )
        part = button(
            "Done, only what I painted",
            "Take your paint alone; the rest stays open (Shift-K).",
            act["partial"],
        )
        moves = [
            button("Back", "To the patch before, to revise it (Shift-N).", act["back"]),
            button("Next", "To the next patch that is open (N).", act["next"]),
            button("Skip", "Put this patch aside (J).", act["skip"]),
            button(
                "Not sure",
                "Put aside what nobody can tell; it is not asked again (Shift-J).",
                act["unsure"],
            ),
            button(
                "Undo", "Take back the last decision, in whatever patch it was (U).", act["undo"]
            ),
        ]
        draw = button(
            "Draw a patch", "Draw a rectangle of your own in the section on view (W).", act["own"]
        )
        bare = button(
            "Bare image", "Hide all that lies over the image, and bring it back (H).", act["bare"]
        )
        uncertainty = button(
            "Uncertainty", "Where the model is unsure, as an overlay (Shift-H).", act["uncertainty"]
        )
        self.help = button("?", "Show the keys.", self._show_help)
        self.help.setFixedWidth(28)
        box = QWidget()
        grid = QGridLayout(box)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        lines = (
            row(None, *moves),
            row(None, (done, 2), (part, 3)),
            row(None, draw, bare, uncertainty, (self.help, 0)),
        )
        for index, line in enumerate(lines):
            grid.addWidget(line, index, 0)
        self.deciding = [done, part, *moves]
        return box

    # -- the project -------------------------------------------------------------------------

    def _connect(self) -> None:
        session = self._session
        session.project_opened.connect(self._on_project)
        session.project_changed.connect(self.curve.show_project)
        session.closing.connect(self._close)
        session.runner.started.connect(self._on_started)
        session.runner.happened.connect(self._on_event)

    def _on_project(self, opened: OpenProject) -> None:
        """Work on the patches of another project from now on."""
        self._let_go()
        self.list.forget_icons()
        patches = self.patches = Patches(self._session, opened, self.tools)
        patches.changed.connect(self._show_patches)
        patches.paint.layer_added.connect(self.keys.bind)
        viewer = self._session.viewer
        self._mouse = [
            (viewer.mouse_drag_callbacks, patches.rectangles.clicks(self._on_rectangle)),
            (viewer.mouse_move_callbacks, lambda viewer, event: patches.times.beat()),
        ]
        for callbacks, callback in self._mouse:
            callbacks.append(callback)
        self._measure_canvas(patches)
        with self._session.telling():
            patches.open()
        self.classes.show_classes(opened.project.classes)
        self.keys.bind(viewer)

    def _let_go(self) -> None:
        """Heed the mouse no more."""
        for callbacks, callback in self._mouse:
            callbacks.remove(callback)
        self._mouse = []

    def _close(self) -> None:
        if self.patches is not None:
            with self._session.telling():
                self.patches.leave()
        self.keys.unbind()
        self._let_go()

    # -- jobs --------------------------------------------------------------------------------

    def _on_started(self, job: object) -> None:
        """Leave the patch when a training starts, so that its preview can be seen."""
        if isinstance(job, TrainJob) and self.patches is not None:
            self.patches.leave()
            self.patches.overlays.end_overview()
            self.patches.changed.emit()

    def _on_event(self, event: object) -> None:
        job = self._session.runner.job
        if (
            isinstance(event, Suggested)
            and isinstance(job, SuggestJob)
            and self.patches is not None
        ):
            self.list.forget_icons()
            strategy = AUDIT if job.audit else job.settings.strategy
            self._measure_canvas(self.patches)
            with self._session.telling():
                self.patches.take(list(event.regions), strategy, self._session.runner.run)

    # -- the list ----------------------------------------------------------------------------

    def _show_patches(self) -> None:
        opened = self._session.opened
        regions = self.patches.regions if self.patches is not None else []
        current = self.patches.current if self.patches is not None else None
        several = opened is not None and len(opened.project.volumes.targets()) > 1
        self.status.show_text(progress(regions))
        self.list.show_regions(regions, current, with_volume=several)
        for decide in self.deciding:
            decide.setEnabled(bool(regions))

    def _show_help(self) -> None:
        corner = self.help.mapToGlobal(self.help.rect().bottomLeft())
        QToolTip.showText(corner, help_text(), self.help, msecShowTime=_HELP_SECONDS * 1000)


def _then_next(decide: Callable[[Patches], object]) -> Callable[[Patches], None]:
    """Decide on a patch and go on to the next."""

    def act(patches: Patches) -> None:
        before = patches.current
        decide(patches)
        if patches.current is None and before is not None:
            patches.next()

    return act


def _select_class(patches: Patches, *, index: int) -> None:
    patches.paint.select_class(index)

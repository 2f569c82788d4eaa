"""The panel to get patches suggested, correct them one by one, and retrain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from napari.layers import Labels
from qtpy.QtWidgets import QWidget

from napari_emda._gui.annotate.check_box import CheckBox
from napari_emda._gui.annotate.check_round import CheckRound
from napari_emda._gui.annotate.click_tools import BETWEEN, OBJECTS, ClickTools
from napari_emda._gui.annotate.decisions import accept, delete, put_aside, redo, undo
from napari_emda._gui.annotate.import_labels import ImportBox
from napari_emda._gui.annotate.keys import KEYS, OF_RECTANGLES, TOOLS
from napari_emda._gui.annotate.learning_curve import CurveBox
from napari_emda._gui.annotate.painting_tools import PaintingTools
from napari_emda._gui.annotate.patch_list import PatchList, progress
from napari_emda._gui.annotate.patches import Patches
from napari_emda._gui.annotate.queue import OPEN
from napari_emda._gui.annotate.retrain import RetrainBox
from napari_emda._gui.annotate.suggest import SuggestBox
from napari_emda._gui.annotate.thumbnails import canvas_of
from napari_emda._gui.annotate.tools import Tools
from napari_emda._gui.common.key_bindings import KeyBindings, KeyFilter
from napari_emda._gui.common.widgets import Drawer, Sentence, column
from napari_emda._gui.job_panel import NO_PROJECT
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.session import Session
from napari_emda.events import Suggested
from napari_emda.project.check_points import CANNOT_TELL
from napari_emda.project.job_files import SuggestJob, TrainJob
from napari_emda.project.region import AUDIT, Region


class AnnotatePanel(QWidget):
    """Suggestions, keys and buttons to go through them, the learning curve, and retraining.

    Attributes:
        patches: of the open project; None before one is open.
        painting: what is needed while a patch is painted; the dock keeps it in sight.
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
        self.curve = CurveBox(session, lambda: self.suggest.main.values()["patch"], self._end_audit)
        self.retrain = RetrainBox(session)
        self.check_round: CheckRound | None = None
        self.click_tools: ClickTools | None = None
        self.check = CheckBox(session)
        self.check_drawer = Drawer("Check points", self.check)
        self.suggest_drawer = Drawer("Suggestions", self.suggest)
        self.curve_drawer = Drawer("Learning curve and audit", self.curve)
        # For which state of the round the drawers were opened and closed last.
        self._arranged: tuple[bool, bool] | None = None
        self.commands = self._named_commands()
        self.painting = PaintingTools(self.commands, self.tools)
        self.keys = KeyBindings(KEYS, self.commands)
        self._mouse: list[tuple[list[Any], Any]] = []
        column(
            self,
            self.suggest_drawer,
            self.status,
            self.list,
            self.retrain,
            self.curve_drawer,
            self.check_drawer,
        )
        # After all widgets exist: the filter is installed on each of them.
        self._key_filter = KeyFilter((self, self.painting), KEYS, self.commands)
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
            "undo": self._undo,
            "cannot tell": lambda patches: self._answer(CANNOT_TELL),
            "redo": redo,
            "undo stroke": lambda patches: patches.paint.undo_stroke(patches.volume()),
            "redo stroke": lambda patches: patches.paint.redo_stroke(patches.volume()),
            "delete": delete,
            "escape": self._escape,
            "paint": lambda patches: self._clicks.take_brush(snaps=False),
            "smart": lambda patches: self._clicks.take_brush(snaps=True),
            "objects": lambda patches: self._clicks.take(OBJECTS),
            "between": lambda patches: self._clicks.take(BETWEEN),
            "smaller": lambda patches: self._clicks.resize(-1),
            "larger": lambda patches: self._clicks.resize(1),
            **{tool: partial(_use, tool=tool) for tool in TOOLS},
            "bare": lambda patches: patches.overlays.toggle_bare(),
            "uncertainty": Patches.toggle_uncertainty,
            "mask": Patches.toggle_mask,
            "outlines": lambda patches: patches.overlays.toggle_outlines(patches.volume()),
            "brush": lambda patches: self.tools.next_brush(),
            "draw": Patches.draw_patch,
            **{f"class {k}": partial(self._choose_class, index=k - 1) for k in range(1, 10)},
        }
        return {name: partial(self._act, action) for name, action in actions.items()}

    @property
    def _clicks(self) -> ClickTools:
        """The tools that correct by object, which are there as soon as there are patches."""
        assert self.click_tools is not None
        return self.click_tools

    def _act(self, action: Callable[[Patches], object]) -> None:
        """Carry out the command of a key or a button, or show why it cannot be done."""
        session = self._session
        if self.patches is None:
            session.say(NO_PROJECT, "note")
            return
        session.moved_on.emit()
        # A command is a sign of work on the patch. The canvas may have been resized since the last.
        self.patches.times.beat()
        self._measure_canvas(self.patches)
        with session.showing_errors():
            action(self.patches)

    def add_keys_to(self, widget: QWidget) -> None:
        """Let the keys of the round act in another widget of the dock, too."""
        widget.installEventFilter(self._key_filter)

    def _measure_canvas(self, patches: Patches) -> None:
        patches.canvas = canvas_of(self._session.viewer) or patches.canvas

    def _go(self, region: Region) -> None:
        self._act(lambda patches: patches.go(region))

    def _on_rectangle(self, region: Region) -> None:
        current = self.patches.current if self.patches is not None else None
        # A click into the current patch is meant for the paint.
        if current is None or current.id != region.id:
            self._go(region)

    def _answer(self, value: int) -> bool:
        """Answer the check point on view; returns whether there is one."""
        check_round = self.check_round
        if check_round is None or not check_round.active:
            return False
        check_round.answer(value)
        return True

    def _choose_class(self, patches: Patches, *, index: int) -> None:
        if not self._answer(index):
            patches.paint.select_class(index)

    def _undo(self, patches: Patches) -> None:
        if self.check_round is not None and self.check_round.active:
            self.check_round.undo()
        else:
            undo(patches)

    def _escape(self, patches: Patches) -> None:
        if self.check_round is not None and self.check_round.active:
            self.check_round.end()
            return
        self._session.escaped.emit()
        if not self._clicks.leave():
            patches.escape()

    def _end_audit(self) -> None:
        self._act(Patches.end_audit)

    def _on_layer_removed(self, event: Any) -> None:
        if self.patches is not None:
            with self._session.showing_errors():
                self.patches.layer_removed(event.value)

    def _annotation_layer(self, volume: str) -> Labels | None:
        return self.patches.paint.layer(volume) if self.patches is not None else None

    # -- the project -------------------------------------------------------------------------

    def _connect(self) -> None:
        session = self._session
        session.project_opened.connect(self._on_project)
        session.project_changed.connect(self.curve.show_project)
        session.project_changed.connect(self._on_project_changed)
        self.check_drawer.toggled.connect(self._look_at_points)
        session.viewer.layers.events.removed.connect(self._on_layer_removed)
        session.closing.connect(self._close)
        session.runner.started.connect(self._on_started)
        session.runner.happened.connect(self._on_event)

    def _on_project(self, opened: OpenProject) -> None:
        """Use the patches of the opened project."""
        self._let_go()
        self.list.forget_icons()
        patches = self.patches = Patches(self._session, opened, self.tools)
        patches.changed.connect(self._show_patches)
        patches.paint.layer_added.connect(self.keys.bind)
        viewer = self._session.viewer
        clicks = self.click_tools = ClickTools(self._session, opened, patches)
        # Clicks choose patches; any move of the mouse counts as work on the current one.
        self._mouse = [
            (viewer.mouse_drag_callbacks, patches.rectangles.clicks(self._on_rectangle)),
            (viewer.mouse_move_callbacks, lambda viewer, event: patches.times.beat()),
            *clicks.callbacks(),
        ]
        for callbacks, callback in self._mouse:
            callbacks.append(callback)
        self._measure_canvas(patches)
        with self._session.showing_errors():
            patches.open()
        self.painting.classes.show_classes(opened.project.classes)
        self.check_round = CheckRound(self._session, opened, patches)
        self.check_round.layer_added.connect(self.keys.bind)
        self.check.show_round(self.check_round)
        self.keys.bind(viewer)

    def _on_project_changed(self) -> None:
        # There may be another prediction, or other annotations.
        self._look_at_points(self.check_drawer.isExpanded())

    def _look_at_points(self, is_open: bool) -> None:
        """Read the check points once they are on view: it takes a moment at each decision."""
        check_round = self.check_round
        if is_open and check_round is not None and not check_round.active:
            with self._session.showing_errors():
                check_round.load()

    def _let_go(self) -> None:
        """Disconnect from the mouse, and from what outlives the project."""
        if self.click_tools is not None:
            self.click_tools.close()
            self.click_tools = None
        for callbacks, callback in self._mouse:
            callbacks.remove(callback)
        self._mouse = []

    def _close(self) -> None:
        if self.patches is not None:
            with self._session.showing_errors():
                self.patches.leave()
        self._session.viewer.layers.events.removed.disconnect(self._on_layer_removed)
        self.keys.unbind()
        self._let_go()

    # -- jobs --------------------------------------------------------------------------------

    def _on_started(self, job: object) -> None:
        """Show a ranking; leave the patch when a training starts, to show its previews."""
        if isinstance(job, SuggestJob):
            self.suggest_drawer.expand()
            if self.patches is not None:
                # While the job measures; napari takes its time to draw new layers.
                self._session.in_turns(self.patches.prepare())
        if isinstance(job, TrainJob) and self.patches is not None:
            if self.check_round is not None:
                self.check_round.end()
            if self.patches.current is not None:
                # The preview is of a section, of which the patch is a small part.
                self.patches.step_back()
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
            self._arranged = None
            strategy = AUDIT if job.audit else job.settings.strategy
            self._measure_canvas(self.patches)
            steps = self.patches.taking(list(event.regions), strategy, self._session.runner.run)
            # The first step at once: it writes the suggestions to disk.
            with self._session.showing_errors():
                next(steps, None)
            self._session.in_turns(steps)
            self.curve.say_how_many(len(event.regions), job)

    # -- the list ----------------------------------------------------------------------------

    def _show_patches(self) -> None:
        opened = self._session.opened
        regions = self.patches.regions if self.patches is not None else []
        current = self.patches.current if self.patches is not None else None
        # With a single target, its name would only repeat.
        several = opened is not None and len(opened.project.volumes.targets()) > 1
        self.status.show_text(progress(regions))
        self.list.show_regions(regions, current, with_volume=several)
        self.painting.allow(
            deciding=current is not None, moving=bool(regions), history=opened is not None
        )
        self.retrain.review()
        self.curve.allow_end(bool(self.patches is not None and self.patches.audit))
        for volume in opened.volumes if opened is not None else []:
            rectangles = opened.output("patches", volume) if opened is not None else None
            if rectangles is not None:
                self.keys.bind(rectangles, OF_RECTANGLES)
        self._arrange(regions)

    def _arrange(self, regions: Sequence[Region]) -> None:
        """Open what the state of the round needs and close the rest, so that it fits the screen."""
        left = any(region.state == OPEN for region in regions)
        state = (bool(regions), left)
        # Once per state: the user may open and close them otherwise.
        if state != self._arranged:
            self._arranged = state
            self.suggest_drawer.set_open(not regions)
            self.curve_drawer.set_open(bool(regions) and not left)
            self.list.setVisible(bool(regions))


def _then_next(decide: Callable[[Patches], object]) -> Callable[[Patches], None]:
    """A command that decides on the current patch and then goes to the next."""

    def act(patches: Patches) -> None:
        before = patches.current
        decide(patches)
        # A decision that was refused leaves the patch on view.
        if patches.current is None and before is not None:
            patches.next()

    return act


def _use(patches: Patches, *, tool: str) -> None:
    patches.paint.use(patches.volume(), tool)

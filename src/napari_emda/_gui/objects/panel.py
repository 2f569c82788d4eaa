"""The panel that finds objects, lists the suspicious ones first and decides on them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QComboBox, QWidget

from napari_emda._gui.common.canvas import qt_viewer_of
from napari_emda._gui.common.key_bindings import KeyBindings, KeyFilter
from napari_emda._gui.common.mask_settings import MaskSettings
from napari_emda._gui.common.mouse import on_click
from napari_emda._gui.common.widgets import (
    Drawer,
    Sentence,
    chosen_name,
    column,
    labelled,
    narrow,
    refill,
)
from napari_emda._gui.job_panel import JobPanel, offer_runs
from napari_emda._gui.mask_boxes import separate_box, smallest_box, threshold_box
from napari_emda._gui.objects.buttons import ObjectButtons
from napari_emda._gui.objects.keys import KEYS
from napari_emda._gui.objects.layers import ALL, ONE
from napari_emda._gui.objects.live_view import LiveObjects
from napari_emda._gui.objects.proofreader import Proofreader
from napari_emda._gui.objects.rows import Rows, rows_of
from napari_emda._gui.objects.table import ObjectTable
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.session import Session
from napari_emda.errors import EmdaError
from napari_emda.events import Failed, Finished
from napari_emda.project.found_objects import FoundObjects
from napari_emda.project.job_files import Job, ObjectsJob
from napari_emda.project.proofreading import Proofreading, reconcile
from napari_emda.project.region import Region
from napari_emda.settings.objects import SeparationSettings

_NO_OBJECTS = "No objects were found yet: press Find objects."


class ObjectsPanel(JobPanel):
    """Model, volume and class; the table of objects; decisions on the one on view.

    Attributes:
        proofreader: of the objects that are listed; None while none are.
        table: of the objects.
        buttons: for decisions.
    """

    redrawn = Signal(Region)
    """A patch was made to redraw an object."""

    def __init__(self, session: Session) -> None:
        super().__init__(
            session,
            "objects",
            start="Find objects",
            tip="Find, measure and rank the objects of the whole volume in the background.",
        )
        self.proofreader: Proofreader | None = None
        self.run = narrow(QComboBox())
        self.run.setToolTip("The trained model whose objects are listed.")
        self.volume = narrow(QComboBox())
        self.volume.setToolTip("The volume whose objects are listed.")
        self.class_name = narrow(QComboBox())
        self.class_name.setToolTip("The class whose objects are listed.")
        self.separate = separate_box(session)
        self.threshold = threshold_box(session)
        self.smallest = smallest_box(session)
        self.status = Sentence()
        self.why = Sentence()
        self.table = ObjectTable(lambda number: self._act(lambda reader: reader.go(number)))
        self.commands = self._named_commands()
        self.buttons = ObjectButtons(self.commands)
        self.keys = KeyBindings(KEYS, self.commands)
        self.live = LiveObjects(session, self._settings)
        # Objects are loaded in a worker thread: an answer that is no longer wanted is dropped.
        self._wanted: tuple[object, ...] = ()
        self._loaded: tuple[object, ...] = ()
        self._open = False
        self._build()
        self._connect()
        self.listen()

    def _build(self) -> None:
        inside = QWidget()
        rows = labelled(("threshold", self.threshold), ("smallest object", self.smallest))
        column(inside, rows)
        column(
            self,
            labelled(
                ("model", self.run),
                ("volume", self.volume),
                ("class", self.class_name),
                ("separate", self.separate),
            ),
            Drawer("What counts as an object", inside),
            self.reason,
            self.start,
            self.strip,
            self.status,
            self.table,
            self.why,
            self.buttons,
        )
        # After all widgets exist: the filter is installed on each of them.
        self._key_filter = KeyFilter((self,), KEYS, self.commands)

    def _connect(self) -> None:
        session = self._session
        for box in (self.run, self.volume, self.class_name):
            box.currentIndexChanged.connect(lambda _: self._load())
        session.closing.connect(self._close)
        session.viewer.layers.events.removed.connect(self._on_layer_removed)
        session.viewer.layers.events.inserted.connect(self._on_layer_inserted)
        self._mouse = on_click(self._on_click, self._heeds_clicks)
        session.viewer.mouse_drag_callbacks.append(self._mouse)

    # -- commands ----------------------------------------------------------------------------

    def _named_commands(self) -> dict[str, Callable[[], None]]:
        actions: dict[str, Callable[[Proofreader], object]] = {
            "next": lambda reader: reader.step_to(self._next()),
            "back": lambda reader: self._back(reader),
            "good": Proofreader.good,
            "delete": Proofreader.delete,
            "merge": Proofreader.begin_merge,
            "split": Proofreader.begin_split,
            "redraw": Proofreader.redraw,
            "undo": Proofreader.undo,
            "redo": Proofreader.redo,
            "outlines": lambda reader: reader.layers.toggle_outlines(),
            "bare": lambda reader: reader.layers.set_visible(not reader.layers.visible),
            "escape": Proofreader.escape,
        }

        def command(action: Callable[[Proofreader], object]) -> Callable[[], None]:
            return lambda: self._act(action)

        return {name: command(action) for name, action in actions.items()}

    def _act(self, action: Callable[[Proofreader], object]) -> None:
        """Carry out the command of a key or a button, or show why it cannot be done."""
        session = self._session
        reader = self.proofreader
        if reader is None:
            session.say(_NO_OBJECTS if session.opened is not None else self.no_project)
            return
        if reader.busy:
            return
        session.moved_on.emit()
        self.live.stop()
        viewer = qt_viewer_of(session.viewer)
        if viewer is not None:
            size = viewer.canvas.native.size()
            reader.canvas = (float(size.height()), float(size.width()))
        with session.showing_errors():
            action(reader)

    def _next(self) -> int | None:
        """The next object in the order of the table that is not decided."""
        model = self.table.objects
        reader = self.proofreader
        line = model.line_of(reader.current) if reader is not None else None
        following = model.undecided_from(0 if line is None else line + 1)
        if following is None:
            return None
        number = model.id_at(following)
        # The last one that is left is the one on view.
        return None if reader is not None and number == reader.current else number

    def _back(self, reader: Proofreader) -> None:
        line = self.table.objects.line_of(reader.current)
        if line is None:
            reader.step_to(self._next())
        elif line > 0:
            reader.go(self.table.objects.id_at(line - 1))

    def _heeds_clicks(self, viewer: Any) -> bool:
        active = viewer.layers.selection.active
        reader = self.proofreader
        # A click while a tool is active belongs to the tool; an open patch belongs to Annotate.
        idle = active is None or str(getattr(active, "mode", "pan_zoom")) == "pan_zoom"
        opened = self._session.opened
        painting = opened is not None and opened.annotating
        return self._open and reader is not None and reader.layers.visible and idle and not painting

    def _on_click(self, point: Any) -> None:
        self._act(lambda reader: reader.click(point))

    # -- the job -----------------------------------------------------------------------------

    @property
    def no_project(self) -> str:
        """The reason without a project, and without a model."""
        return "Finding objects needs a model: train one first."

    def why_not(self, opened: OpenProject) -> str:
        """Why no objects can be found now; empty if they can."""
        return self._session.runner.busy if opened.runs else self.no_project

    def offer(self, opened: OpenProject | None) -> None:
        """List models, volumes and classes."""
        offer_runs(self.run, opened)
        refill(self.volume, opened.volumes if opened is not None else [])
        classes = list(opened.project.classes[1:]) if opened is not None else []
        # With a single class there is nothing to choose.
        refill(self.class_name, classes if len(classes) > 1 else [])
        self._load()

    def job(self, opened: OpenProject) -> ObjectsJob:
        """The search in the chosen volume, for the objects of all classes."""
        return ObjectsJob(
            project=str(opened.project.folder),
            run=chosen_name(self.run),
            volume=self.volume.currentText(),
            settings=self._settings(),
        )

    def _settings(self) -> SeparationSettings:
        return SeparationSettings.parse(self._session.mask.for_export())

    def on_project(self, opened: OpenProject) -> None:
        """Let go of the objects of the project that was open before."""
        self._loaded, self._wanted = (), ()
        self._forget()
        if self._session.mask == MaskSettings():
            self._show_settings_of_found(opened)

    def _show_settings_of_found(self, opened: OpenProject) -> None:
        """Set the boxes to what the objects of the newest run were found with.

        An export after a restart holds the objects that were decided on then, and no others.
        """
        # Without a run, a target or objects there is nothing to show.
        with contextlib.suppress(EmdaError):
            found = FoundObjects.of(opened.project.run(None), opened.target)
            settings = found.description.settings
            self._session.set_mask(
                threshold=settings.threshold,
                smallest=settings.minimum_size,
                separate=settings.separate,
            )

    def on_ended(self, opened: OpenProject, job: Job, last: Finished | Failed) -> None:
        """List the objects that were found."""
        self.live.stop()
        # Its ids are those of objects that are gone.
        self._loaded = ()
        self._forget()
        self._load()

    # -- loading -----------------------------------------------------------------------------

    def set_open(self, is_open: bool) -> None:
        """Show the objects while the panel is open, and hide them when it closes."""
        self._open = is_open
        self.live.set_open(is_open)
        if is_open:
            self._load()
        if self.proofreader is not None:
            if is_open:
                self.proofreader.layers.show()
            else:
                self.proofreader.layers.set_visible(False)

    def _load(self) -> None:
        """Load the objects of the chosen model, volume and class, if they are not there."""
        opened = self._session.opened
        if opened is None or not self._open or not opened.runs:
            return
        run, volume = chosen_name(self.run), self.volume.currentText()
        name = self.class_name.currentText() or None
        self.live.choose(run, volume, name)
        try:
            found = FoundObjects.of(opened.project.run(run), volume)
            class_id = found.class_id(name)
        except EmdaError as error:
            self._loaded = ()
            self._forget()
            self.status.show_text(str(error) if "yet" not in str(error) else _NO_OBJECTS, "hint")
            return
        key: tuple[object, ...] = (
            opened,
            run,
            volume,
            class_id,
            found.description.identity(class_id),
        )
        if key in (self._loaded, self._wanted):
            return
        self._wanted = key
        # Nobody decides on objects that are not those of the boxes above.
        self._forget()
        self.status.show_text("Reading the objects …")

        def load() -> tuple[Proofreading, Rows]:
            reconcile(opened.project)
            objects = Proofreading(opened.project, found, class_id)
            return objects, rows_of(objects)

        def done(loaded: tuple[Proofreading, Rows]) -> None:
            if self._wanted == key and self._session.opened is opened:
                self._loaded, self._wanted = key, ()
                self._show(opened, *loaded)

        def failed(text: str) -> None:
            if self._wanted == key:
                self._loaded, self._wanted = (), ()
                self._forget()
                self.status.show_text(text, "error")

        self._session.in_background(load, done, failed)

    def _show(self, opened: OpenProject, objects: Proofreading, rows: Rows) -> None:
        self._forget()
        reader = self.proofreader = Proofreader(self._session, opened, objects, rows)
        reader.following = self._next
        reader.changed.connect(self._update)
        reader.redrawn.connect(lambda region: self.redrawn.emit(region))
        self.live.found = objects.found.description.settings
        if self._open:
            self._session.in_turns(reader.layers.showing())
        self._update()
        if objects.replayed.lost or objects.replayed.moved:
            self._session.say(objects.replayed.sentence(), "hint")

    def _forget(self) -> None:
        if self.proofreader is not None:
            self.proofreader.close()
            self.proofreader = None
        self.live.found = None
        self._update()

    def _update(self) -> None:
        """Show the state of the objects and of the one on view."""
        reader = self.proofreader
        rows = reader.rows if reader is not None else None
        if rows is not self.table.objects.rows:
            self.table.show_rows(rows)
        self.table.setVisible(rows is not None and len(rows.ids) > 0)
        self.buttons.setVisible(self.table.isVisibleTo(self))
        if reader is None or rows is None:
            self.why.show_text("")
            return
        count = len(rows.ids)
        objects = "1 object" if count == 1 else f"{count} objects"
        decided = int(rows.decided.sum())
        deleted = reader.objects.objects.deleted
        gone = f", {deleted} deleted" if deleted else ""
        text = f"{objects}, {decided} decided{gone}." if count else f"No objects there{gone}."
        self.status.show_text(text)
        self.buttons.allow(
            deciding=bool(reader.current) and not reader.busy, moving=not reader.busy
        )
        line = self.table.objects.line_of(reader.current) if reader.current else None
        if line is None:
            self.table.clearSelection()
            self.why.show_text("")
            return
        self.table.select(reader.current)
        self.why.show_text(rows.explanation(int(self.table.objects.order[line])))

    # -- layers ------------------------------------------------------------------------------

    def _on_layer_inserted(self, event: Any) -> None:
        opened = self._session.opened
        reader = self.proofreader
        if opened is None or reader is None:
            return
        on_view = [opened.output(role, reader.volume) for role in (ALL, ONE)]
        if any(event.value is layer for layer in on_view):
            self.keys.bind(event.value)

    def _on_layer_removed(self, event: Any) -> None:
        # By the user: it comes back with the next object.
        if self.proofreader is not None:
            self.proofreader.layers.view.forget()

    def _close(self) -> None:
        self.live.stop()
        self.keys.unbind()
        viewer = self._session.viewer
        viewer.layers.events.removed.disconnect(self._on_layer_removed)
        viewer.layers.events.inserted.disconnect(self._on_layer_inserted)
        viewer.mouse_drag_callbacks.remove(self._mouse)

"""The third panel: have patches suggested, correct them one after the other, retrain."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.QtWidgets import QComboBox, QGridLayout, QToolTip, QWidget

from napari_emda._gui.annotate.class_palette import ClassPalette
from napari_emda._gui.annotate.import_labels import ImportBox
from napari_emda._gui.annotate.key_filter import KeyFilter
from napari_emda._gui.annotate.keys import KeyBindings, help_text
from napari_emda._gui.annotate.learning_curve import CurveBox
from napari_emda._gui.annotate.patch_list import PatchList, progress
from napari_emda._gui.annotate.queue import Patches
from napari_emda._gui.annotate.retrain import RetrainBox
from napari_emda._gui.annotate.thumbnails import canvas_of
from napari_emda._gui.common.forms import SettingsForm
from napari_emda._gui.common.widgets import Drawer, Sentence, button, column, labelled, row
from napari_emda._gui.process.strip import JobStrip
from napari_emda._gui.session import Session
from napari_emda.events import Suggested
from napari_emda.project import runs
from napari_emda.project.job_files import SuggestJob, TrainJob
from napari_emda.project.regions import AUDIT
from napari_emda.settings.suggestion import QuerySettings

_IN_SIGHT = ("count", "patch")


class AnnotatePanel(QWidget):
    """Suggestions, their list, the buttons and keys that go through them, the classes, the curve, and retraining."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.patches = Patches(session)
        self.strategy = QComboBox()
        self.strategy.setToolTip("How patches are chosen.")
        self.sentence = Sentence()
        schema = QuerySettings.model_json_schema()
        self.main = SettingsForm(schema, lambda field: field.name in _IN_SIGHT)
        self.advanced = SettingsForm(
            schema, lambda field: field.name not in (*_IN_SIGHT, "strategy")
        )
        self.reason = Sentence()
        self.suggest = button(
            "Suggest patches", "Rank all targets and show the best patches.", self.start_suggesting
        )
        self.strip = JobStrip(session.runner, "suggest", stop="Stop")
        self.list = PatchList(session, lambda region: self._act(lambda: self.patches.go(region)))
        self.status = Sentence()
        self.classes = ClassPalette(self.patches.paint)
        self.imports = ImportBox(session, self.patches.paint)
        self.curve = CurveBox(session, lambda: self.main.values()["patch"])
        self.retrain = RetrainBox(session)
        self.commands = self._named_commands()
        self.keys = KeyBindings(self.commands)
        self._mouse = [
            (
                session.viewer.mouse_drag_callbacks,
                self.patches.rectangles.clicks(self._on_rectangle),
            ),
            (session.viewer.mouse_move_callbacks, lambda viewer, event: self.patches.watch.beat()),
        ]
        self._build()
        self._key_filter = KeyFilter(self, self.commands)
        self._connect()
        self.update_state()

    def _named_commands(self) -> dict[str, Any]:
        patches, paint = self.patches, self.patches.paint
        guarded = {
            "next": patches.next,
            "back": patches.back,
            "done": lambda: self._decide(lambda: patches.accept(complete=True)),
            "partial": lambda: self._decide(lambda: patches.accept(complete=False)),
            "skip": lambda: self._decide(lambda: patches.put_aside("skipped")),
            "unsure": lambda: self._decide(lambda: patches.put_aside("unsure")),
            "undo": patches.undo,
            "bare": patches.overlays.toggle_bare,
            "uncertainty": patches.toggle_uncertainty,
            "brush": paint.next_brush,
            "own": patches.draw_own,
            **{f"class {k}": partial(paint.select_class, k - 1) for k in range(1, 10)},
        }
        return {name: partial(self._act, action) for name, action in guarded.items()}

    def _act(self, action: Any) -> None:
        session = self._session
        if session.project is None:
            session.say("There is no project yet: choose your layers in Data.", "note")
            return
        session.moved_on.emit()
        self.patches.watch.beat()
        self._measure_canvas()
        with session.telling():
            action()

    def _measure_canvas(self) -> None:
        self.patches.canvas = canvas_of(self._session.viewer) or self.patches.canvas

    def _decide(self, decision: Any) -> None:
        """Decide on a patch and go on to the next."""
        before = self.patches.current
        decision()
        if self.patches.current is None and before is not None:
            self.patches.next()

    def _on_rectangle(self, region: Any) -> None:
        current = self.patches.current
        if current is None or current.id != region.id:
            self._act(lambda: self.patches.go(region))

    def _build(self) -> None:
        column(
            self,
            labelled(("strategy", self.strategy)),
            self.sentence,
            self.main.native,
            Drawer("Advanced", self.advanced.native),
            Drawer("Labels that you have already", self.imports),
            self.reason,
            self.suggest,
            self.strip,
            self.status,
            self.list,
            self._buttons(),
            self.classes,
            self.curve,
            self.retrain,
        )

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
        own = button(
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
            row(None, own, bare, uncertainty, (self.help, 0)),
        )
        for index, line in enumerate(lines):
            grid.addWidget(line, index, 0)
        self.deciding = [done, part, *moves]
        return box

    def _connect(self) -> None:
        session = self._session
        session.catalogue_changed.connect(self._fill_strategies)
        session.project_changed.connect(self._on_project_changed)
        session.adopted.connect(self._on_project)
        session.closing.connect(self._close)
        session.runner.started.connect(self._on_started)
        session.runner.happened.connect(self._on_event)
        session.runner.ended.connect(lambda last: self.update_state())
        self.strategy.currentTextChanged.connect(self._on_strategy)
        self.patches.changed.connect(self._show_patches)
        self.patches.paint.made.connect(lambda layer: self.keys.bind(layer))
        for callbacks, callback in self._mouse:
            callbacks.append(callback)

    def _close(self) -> None:
        with self._session.telling():
            self.patches.leave()
        self.keys.unbind()
        for callbacks, callback in self._mouse:
            callbacks.remove(callback)

    def _on_project(self) -> None:
        self.list.forget_icons()
        self._measure_canvas()
        with self._session.telling():
            self.patches.open()
        project = self._session.project
        assert project is not None
        self.classes.show_classes(project.classes)
        self.keys.bind(self._session.viewer)

    def _on_project_changed(self) -> None:
        self.update_state()
        self.curve.show_project()

    # -- suggesting ----------------------------------------------------------------------------------------------

    def _fill_strategies(self) -> None:
        catalogue = self._session.catalogue
        assert catalogue is not None
        self.strategy.clear()
        self.strategy.addItems(list(catalogue.strategies))
        self.strategy.setCurrentText(str(QuerySettings.model_fields["strategy"].default))
        self._on_strategy(self.strategy.currentText())

    def _on_strategy(self, name: str) -> None:
        catalogue = self._session.catalogue
        if catalogue is not None and name in catalogue.strategies:
            self.sentence.show_text(catalogue.strategies[name].summary)
        self.update_state()

    def why_not(self) -> str:
        """Why no patches can be suggested now; empty when they can."""
        session = self._session
        if session.catalogue is None:
            return "Reading the list of strategies …"
        if session.runner.busy:
            return session.runner.busy
        if session.project is None:
            return "There is no project yet: choose your layers in Data."
        strategy = session.catalogue.strategies.get(self.strategy.currentText())
        if strategy is None:
            return "Choose a strategy."
        if strategy.needs_prediction and runs.latest(session.project) is None:
            return f"{strategy.name} asks a model and there is none: train one first, or choose random."
        return ""

    def update_state(self) -> None:
        """Grey out what cannot be done, with the reason above it."""
        why = self.why_not()
        job = self._session.runner.job
        mine = job is not None and job.kind == "suggest"
        self.reason.show_text("" if mine else why, "hint")
        self.suggest.setEnabled(not why)
        for each in self.deciding:
            each.setEnabled(bool(self.patches.regions))
        self.curve.update_state()

    def start_suggesting(self) -> None:
        """Rank the target's patches in the background."""
        project = self._session.project
        if why := self.why_not():
            self._session.say(why, "error")
            return
        assert project is not None
        with self._session.telling():
            values = {
                **self.main.values(),
                **self.advanced.values(),
                "strategy": self.strategy.currentText(),
            }
            self._session.start(
                SuggestJob(
                    project=str(project.folder),
                    run=runs.latest(project),
                    settings=QuerySettings.parse(values),
                )
            )

    def _on_started(self, job: object) -> None:
        if isinstance(job, TrainJob):
            self.patches.leave()  # what is on view now is the training's preview, until the next patch is chosen
            self.patches.overlays.end_overview()
            self.patches.changed.emit()
        self.update_state()

    def _on_event(self, event: object) -> None:
        job = self._session.runner.job
        if isinstance(event, Suggested) and isinstance(job, SuggestJob):
            self.list.forget_icons()
            how = AUDIT if job.audit else job.settings.strategy
            self._measure_canvas()
            with self._session.telling():
                self.patches.take(list(event.regions), how, self._session.runner.run)
            self.update_state()

    # -- the list ------------------------------------------------------------------------------------------------

    def _show_patches(self) -> None:
        project = self._session.project
        self.status.show_text(progress(self.patches.regions))
        several = project is not None and len(project.targets()) > 1
        self.list.show_regions(self.patches.regions, self.patches.current, with_volume=several)
        self.update_state()

    def _show_help(self) -> None:
        corner = self.help.mapToGlobal(self.help.rect().bottomLeft())
        QToolTip.showText(corner, help_text(), self.help, msecShowTime=20_000)

"""The third panel: have patches suggested, correct them one after the other, retrain."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.QtCore import QSignalBlocker, QSize, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QComboBox, QGridLayout, QListWidget, QListWidgetItem, QToolTip, QWidget

from napari_emda._gui import runs
from napari_emda._gui.forms import SettingsForm
from napari_emda._gui.job_strip import JobStrip
from napari_emda._gui.keys import KeyBindings, help_text
from napari_emda._gui.palette import STATES
from napari_emda._gui.parts import Drawer, Sentence, button, column, labelled, row
from napari_emda._gui.patches import OPEN, Patches
from napari_emda._gui.retrain import RetrainBox
from napari_emda._gui.session import Session
from napari_emda._gui.thumbnails import ClassButtons, canvas_of, thumbnail
from napari_emda.events import Suggested
from napari_emda.jobs import SuggestJob, TrainJob
from napari_emda.regions import Region
from napari_emda.settings import QuerySettings

_ICON = 44
_IN_SIGHT = ("count", "patch")
_WORDS = {"suggested": "to do", "accepted": "done", "partial": "partly done", "skipped": "skipped"}


class AnnotatePanel(QWidget):
    """Suggestions, their list, the buttons and keys that go through them, the classes, and retraining."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.patches = Patches(session)
        self.strategy = QComboBox()
        self.strategy.setToolTip("How patches are chosen.")
        self.sentence = Sentence()
        schema = QuerySettings.model_json_schema()
        self.main = SettingsForm(schema, lambda field: field.name in _IN_SIGHT)
        self.advanced = SettingsForm(schema, lambda field: field.name not in (*_IN_SIGHT, "strategy"))
        self.reason = Sentence()
        self.suggest = button("Suggest patches", "Rank the whole target and show the best.", self.start_suggesting)
        self.strip = JobStrip(session.runner, "suggest", stop="Stop")
        self.list, self.status = QListWidget(), Sentence()
        self.classes = ClassButtons(self.patches.select_class)
        self.retrain = RetrainBox(session)
        self._thumbnails: dict[str, Any] = {}
        self.deeds = self._named_deeds()
        self.keys = KeyBindings(self.deeds)
        self._build()
        self._connect()
        self.update_state()

    def _named_deeds(self) -> dict[str, Any]:
        patches = self.patches
        guarded = {
            "next": lambda: patches.step(1),
            "back": lambda: patches.step(-1),
            "done": lambda: self._decide(lambda: patches.accept(complete=True)),
            "partial": lambda: self._decide(lambda: patches.accept(complete=False)),
            "skip": lambda: self._decide(patches.skip),
            "undo": patches.undo,
            "prediction": patches.toggle_prediction,
            "uncertainty": self._toggle_uncertainty,
            **{f"class {k}": partial(patches.select_class, k - 1) for k in range(1, 10)},
        }
        return {name: partial(self._act, action) for name, action in guarded.items()}

    def _act(self, action: Any) -> None:
        session = self._session
        if session.project is None:
            session.say("There is no project yet: choose your layers in Data.", "note")
            return
        self.patches.canvas = canvas_of(session.viewer) or self.patches.canvas
        with session.telling():
            action()

    def _decide(self, decision: Any) -> None:
        """Decide on a patch and go on to the next."""
        before = self.patches.current
        decision()
        if self.patches.current is None and before is not None:
            self.patches.step(1)

    def _build(self) -> None:
        self.list.setIconSize(QSize(_ICON, _ICON))
        self.list.setFixedHeight(164)
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setToolTip("A click goes to the patch.")
        column(
            self,
            labelled(("strategy", self.strategy)),
            self.sentence,
            self.main.native,
            Drawer("Advanced", self.advanced.native),
            self.reason,
            self.suggest,
            self.strip,
            self.status,
            self.list,
            self._buttons(),
            self.classes,
            self.retrain,
        )

    def _buttons(self) -> QWidget:
        act = self.deeds
        done = button("Done", "Take the patch as fully annotated; unpainted is background (K).", act["done"])
        part = button(
            "Done, only what I painted", "Take your paint alone; the rest stays open (Shift-K).", act["partial"]
        )
        rest = [
            button("Back", "To the previous patch (Shift-N).", act["back"]),
            button("Next", "To the next patch (N).", act["next"]),
            button("Skip", "Put this patch aside (J).", act["skip"]),
            button("Undo", "Open the patch again that was done last (U).", act["undo"]),
        ]
        hide = button("Hide paint", "Hide or show what is painted (H).", act["prediction"])
        doubt = button("Show uncertainty", "Where the model is unsure, as an overlay (Shift-H).", act["uncertainty"])
        self.help = button("?", "Show the keys.", self._show_help)
        self.help.setFixedWidth(28)
        box = QWidget()
        grid = QGridLayout(box)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        for index, line in enumerate(
            (row(None, *rest), row(None, (done, 2), (part, 3)), row(None, hide, doubt, (self.help, 0)))
        ):
            grid.addWidget(line, index, 0)
        self.deciding = [done, part, *rest]
        return box

    def _connect(self) -> None:
        session = self._session
        session.catalogue_changed.connect(self._fill_strategies)
        session.project_changed.connect(self.update_state)
        session.adopted.connect(self._on_project)
        session.closing.connect(self._close)
        session.runner.started.connect(self._on_started)
        session.runner.happened.connect(self._on_event)
        session.runner.ended.connect(lambda last: self.update_state())
        self.strategy.currentTextChanged.connect(self._on_strategy)
        self.list.itemClicked.connect(self._on_click)
        self.patches.changed.connect(self._fill_list)

    def _close(self) -> None:
        with self._session.telling():
            self.patches.leave()
        self.keys.unbind()

    def _on_project(self) -> None:
        self._thumbnails.clear()
        with self._session.telling():
            self.patches.open()
        project = self._session.project
        assert project is not None
        self.classes.show_classes(project.classes)
        self.keys.bind(self._session.viewer)

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

    def start_suggesting(self) -> None:
        """Rank the target's patches in the background."""
        project = self._session.project
        if why := self.why_not():
            self._session.say(why, "error")
            return
        assert project is not None
        with self._session.telling():
            values = {**self.main.values(), **self.advanced.values(), "strategy": self.strategy.currentText()}
            self._session.start(
                SuggestJob(project=str(project.folder), run=runs.latest(project), settings=QuerySettings.parse(values))
            )

    def _on_started(self, job: object) -> None:
        if isinstance(job, TrainJob):
            self.patches.leave()  # what is on view now is the training's preview, until the next patch is chosen
            self.patches.changed.emit()
        self.update_state()

    def _on_event(self, event: object) -> None:
        job = self._session.runner.job
        if isinstance(event, Suggested) and isinstance(job, SuggestJob):
            self._thumbnails.clear()
            with self._session.telling():
                self.patches.take(list(event.regions), job.settings.strategy, self._session.runner.run)
                self.keys.bind(self.patches.layer(self._session.target))
            self.update_state()

    # -- the list ------------------------------------------------------------------------------------------------

    def _fill_list(self) -> None:
        current = self.patches.current
        self.status.show_text(progress(self.patches.regions))
        with QSignalBlocker(self.list):
            self.list.clear()
            for region in self.patches.regions:
                item = QListWidgetItem(self._icon(region), describe(region))
                if region.state in STATES:
                    item.setForeground(QColor(STATES[region.state]))
                self.list.addItem(item)
                if current is not None and region.id == current.id:
                    self.list.setCurrentItem(item)
        self.update_state()

    def _icon(self, region: Region) -> Any:
        if region.id not in self._thumbnails:
            self._thumbnails[region.id] = thumbnail(self._session, region, _ICON)
        return self._thumbnails[region.id]

    def _on_click(self, item: QListWidgetItem) -> None:
        region = self.patches.regions[self.list.row(item)]
        self._act(lambda: self.patches.go(region))

    def _toggle_uncertainty(self) -> None:
        if not self.patches.show_uncertainty():
            self._session.say("No uncertainty is known yet: suggest patches by entropy, or predict.", "note")

    def _show_help(self) -> None:
        corner = self.help.mapToGlobal(self.help.rect().bottomLeft())
        QToolTip.showText(corner, help_text(), self.help, msecShowTime=20_000)


def progress(regions: list[Region]) -> str:
    """How far a round of annotation is."""
    if not regions:
        return ""
    decided = sum(region.state != OPEN for region in regions)
    rest = "all done: retrain, or ask for more" if decided == len(regions) else "Next (N) goes to the best one left"
    return f"Round {regions[0].round}: {decided} of {len(regions)} patches decided – {rest}."


def describe(region: Region) -> str:
    """A patch as a line of the list."""
    return f"section {region.voxels.start[0]} · score {region.score:.2f} · {_WORDS[region.state]}"

"""The form to get patches suggested: strategy, number and size."""

from __future__ import annotations

from qtpy.QtWidgets import QWidget

from napari_emda._gui.common.choice_box import ChoiceBox
from napari_emda._gui.common.forms import SettingsForm
from napari_emda._gui.common.widgets import Drawer, Sentence, column, labelled
from napari_emda._gui.job_panel import JobPanel, may_suggest
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.process.catalogue import Catalogue, offered, summaries
from napari_emda._gui.session import Session
from napari_emda.project.job_files import SuggestJob
from napari_emda.settings.suggestion import QuerySettings

# The settings that are shown outside Advanced.
_BASIC = ("count", "patch")
# Shown until the child process has listed the strategies, which takes seconds.
_READING = "Reading the list of strategies …"


class SuggestBox(JobPanel):
    """Strategy and settings, start and stop.

    Args:
        session: of the dock.
        imports: the widget that imports existing labels.
    """

    def __init__(self, session: Session, imports: QWidget) -> None:
        super().__init__(
            session,
            "suggest",
            start="Suggest patches",
            tip="Rank the patches of all targets and show the best ones.",
        )
        self.strategy = ChoiceBox()
        self.strategy.setToolTip("The strategy by which patches are chosen.")
        self.sentence = Sentence()
        schema = QuerySettings.model_json_schema()
        self.main = SettingsForm(schema, lambda field: field.name in _BASIC)
        self.advanced = SettingsForm(schema, lambda field: field.name not in (*_BASIC, "strategy"))
        # Without a margin, because the box is part of a panel that has one.
        column(
            self,
            labelled(("strategy", self.strategy)),
            self.sentence,
            self.main.native,
            Drawer("Advanced", self.advanced.native),
            Drawer("Use existing labels", imports),
            self.reason,
            self.start,
            self.strip,
            margin=0,
        )
        self.strategy.currentTextChanged.connect(self._on_strategy)
        self.listen()

    def on_catalogue(self, catalogue: Catalogue) -> None:
        """List the strategies and choose the default."""
        self.offer(self._session.opened)
        self.strategy.setCurrentText(str(QuerySettings.model_fields["strategy"].default))
        self._on_strategy(self.strategy.currentText())

    def offer(self, opened: OpenProject | None) -> None:
        """List the strategies, the recommended ones that the project can use first."""
        catalogue = self._session.catalogue
        if catalogue is None:
            return
        # Before there is a model, the strategies are offered that will be usable with one.
        available = opened.project.available if opened is not None and opened.runs else None
        first, others = offered(catalogue.strategies, available)
        self.strategy.offer(first, others, summaries(catalogue.strategies))
        chosen = catalogue.strategies.get(self.strategy.currentText())
        if available is None or chosen is None or not first:
            return
        # As with a model that finds clusters and has no uncertainty to rank by. A choice among the
        # others is the user's, who reads why it is not possible.
        if chosen.recommended and chosen.requirements.missing(chosen.name, available):
            self.strategy.setCurrentText(first[0])

    def _on_strategy(self, name: str) -> None:
        catalogue = self._session.catalogue
        if catalogue is not None and name in catalogue.strategies:
            self.sentence.show_text(catalogue.strategies[name].summary)
        self.update_state()

    @property
    def no_project(self) -> str:
        """The reason without a project; until the strategies are read, that they are being read."""
        return super().no_project if self._session.catalogue is not None else _READING

    def why_not(self, opened: OpenProject) -> str:
        """Why no patches can be suggested now; empty if they can."""
        session = self._session
        if session.catalogue is None:
            return _READING
        if session.runner.busy:
            return session.runner.busy
        strategy = session.catalogue.strategies.get(self.strategy.currentText())
        if strategy is None:
            return "Choose a strategy."
        return strategy.missing(opened.project)

    def may_start(self, opened: OpenProject) -> bool:
        """Whether open patches of an audit may be dropped, if there are any."""
        return may_suggest(self, opened)

    def job(self, opened: OpenProject) -> SuggestJob:
        """A ranking of the patches of all targets."""
        strategy = {"strategy": self.strategy.currentText()}
        settings = {**self.main.values(), **self.advanced.values(), **strategy}
        return SuggestJob(
            project=str(opened.project.folder),
            run=opened.project.runs.latest(),
            settings=QuerySettings.parse(settings),
        )

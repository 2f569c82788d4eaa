"""Having patches suggested: by which strategy, how many, how large."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QWidget

from napari_emda._gui.common.forms import SettingsForm
from napari_emda._gui.common.widgets import Drawer, Sentence, column, labelled
from napari_emda._gui.job_panel import JobPanel
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.process.catalogue import Catalogue
from napari_emda._gui.session import Session
from napari_emda.project.job_files import SuggestJob
from napari_emda.settings.suggestion import QuerySettings

_IN_SIGHT = ("count", "patch")
"""The settings that are not under Advanced."""
_READING = "Reading the list of strategies …"


class SuggestBox(JobPanel):
    """Strategy and settings, start and stop.

    Args:
        session: of the dock.
        imports: the part with which labels are taken that the user has already.
    """

    def __init__(self, session: Session, imports: QWidget) -> None:
        super().__init__(
            session,
            "suggest",
            start="Suggest patches",
            tip="Rank all targets and show the best patches.",
        )
        self.strategy = QComboBox()
        self.strategy.setToolTip("How patches are chosen.")
        self.sentence = Sentence()
        schema = QuerySettings.model_json_schema()
        self.main = SettingsForm(schema, lambda field: field.name in _IN_SIGHT)
        self.advanced = SettingsForm(
            schema, lambda field: field.name not in (*_IN_SIGHT, "strategy")
        )
        column(
            self,
            labelled(("strategy", self.strategy)),
            self.sentence,
            self.main.native,
            Drawer("Advanced", self.advanced.native),
            Drawer("Labels that you have already", imports),
            self.reason,
            self.start,
            self.strip,
            margin=0,
        )
        self.strategy.currentTextChanged.connect(self._on_strategy)
        self.listen()

    def on_catalogue(self, catalogue: Catalogue) -> None:
        """Offer the strategies, the usual one first."""
        self.strategy.clear()
        self.strategy.addItems(list(catalogue.strategies))
        self.strategy.setCurrentText(str(QuerySettings.model_fields["strategy"].default))
        self._on_strategy(self.strategy.currentText())

    def _on_strategy(self, name: str) -> None:
        catalogue = self._session.catalogue
        if catalogue is not None and name in catalogue.strategies:
            self.sentence.show_text(catalogue.strategies[name].summary)
        self.update_state()

    @property
    def no_project(self) -> str:
        """The strategies are on their way, too, when the dock opens."""
        return super().no_project if self._session.catalogue is not None else _READING

    def why_not(self, opened: OpenProject) -> str:
        """Why no patches can be suggested now; empty when they can."""
        session = self._session
        if session.catalogue is None:
            return _READING
        if session.runner.busy:
            return session.runner.busy
        strategy = session.catalogue.strategies.get(self.strategy.currentText())
        if strategy is None:
            return "Choose a strategy."
        return strategy.missing(opened.project)

    def job(self, opened: OpenProject) -> SuggestJob:
        """Rank the patches of the targets."""
        strategy = {"strategy": self.strategy.currentText()}
        settings = {**self.main.values(), **self.advanced.values(), **strategy}
        return SuggestJob(
            project=str(opened.project.folder),
            run=opened.project.runs.latest(),
            settings=QuerySettings.parse(settings),
        )

"""The choice of the network to train, and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtWidgets import QComboBox, QWidget

from napari_emda._gui.common.forms import SettingsForm
from napari_emda._gui.common.widgets import column, labelled, narrow
from napari_emda._gui.process.catalogue import Choice
from napari_emda._gui.session import Session
from napari_emda.settings.training import TrainSettings


class NetworkForm(QWidget):
    """A combo box of networks, and the form of the chosen one below it."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._profile = ""
        self.forms: dict[str, SettingsForm] = {}
        self.box = narrow(QComboBox())
        self.box.setToolTip("The network that is trained.")
        column(self, labelled(("network", self.box)))
        session.catalogue_changed.connect(self._fill)
        self.box.currentTextChanged.connect(self._show_form)

    @property
    def _choices(self) -> dict[str, Choice]:
        catalogue = self._session.catalogue
        return {} if catalogue is None else catalogue.networks

    @property
    def name(self) -> str:
        """The chosen network; the default until the list is read."""
        return self.box.currentText() or TrainSettings().network

    @property
    def form(self) -> SettingsForm | None:
        """The form of the chosen network; None until the list is read."""
        return self.forms.get(self.name)

    def values(self) -> dict[str, Any]:
        """The settings of the chosen network, all of them."""
        return {} if self.form is None else self.form.values()

    def set_profile(self, profile: str) -> None:
        """Train a new network, with the settings of a profile."""
        self._profile = profile
        self.box.setEnabled(True)
        for name, form in self.forms.items():
            form.reset()
            form.set_values(self._choices[name].profiles.get(profile, {}))
            form.lock(())

    def fix(self, name: str, values: Mapping[str, Any]) -> None:
        """Continue the network of another run, whose settings cannot be changed."""
        self.box.setCurrentText(name)
        self.box.setEnabled(False)
        if self.form is not None:
            self.form.reset()
            self.form.set_values(values)
            self.form.lock(self.form.fields)

    def _fill(self) -> None:
        before = self.name
        layout = self.layout()
        assert layout is not None
        for name, choice in self._choices.items():
            if name not in self.forms:
                self.forms[name] = SettingsForm(choice.schema)
                layout.addWidget(self.forms[name].native)
        self.set_profile(self._profile)
        self.box.clear()
        self.box.addItems(list(self._choices))
        self.box.setCurrentText(before)

    def _show_form(self, name: str) -> None:
        self.setToolTip(self._choices[name].summary if name in self._choices else "")
        # Forms of other networks are hidden, not deleted, and keep what the user has set.
        for other, form in self.forms.items():
            form.native.setVisible(other == name and bool(form.fields))

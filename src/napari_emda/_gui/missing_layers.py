"""The line that says which volume has no layer any more, with a button that brings it back."""

from __future__ import annotations

from qtpy.QtWidgets import QFrame

from napari_emda._gui.common.widgets import Sentence, button, row
from napari_emda._gui.session import Session


class MissingLayers(QFrame):
    """Shown while a layer of a volume is missing.

    Attributes:
        sentence: names the volumes.
        show_again: brings their layers back.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.sentence = Sentence()
        self.show_again = button(
            "Show it again",
            "Show the removed volume again, from the files of the project.",
            session.bring_back_layers,
        )
        dismiss = button("✕", "Dismiss this message.", self.hide, name="Dismiss")
        row(self, self.sentence, (self.show_again, 0), (dismiss, 0))
        session.layers_missing.connect(self._show)
        self.hide()

    def _show(self, volumes: list[str]) -> None:
        names = " and ".join(f"'{volume}'" for volume in volumes)
        what = "layer of" if len(volumes) == 1 else "layers of"
        verb = "was" if len(volumes) == 1 else "were"
        self.sentence.show_text(
            f"The {what} {names} {verb} removed; nothing on disk has changed." if volumes else "",
            "hint",
        )
        self.show_again.setText("Show it again" if len(volumes) == 1 else "Show them again")
        self.setVisible(bool(volumes))

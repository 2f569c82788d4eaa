"""What users should know about the files of the chosen layers, as on the command line."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from weakref import WeakKeyDictionary

from napari.layers import Layer

from napari_emda._gui.common.layer_volumes import file_of, not_a_volume, source_of
from napari_emda._gui.data.background_sentence import BackgroundSentence
from napari_emda._gui.session import Session
from napari_emda.errors import DataError
from napari_emda.io.checks import file_notices
from napari_emda.io.units import Stored


class FileNotices(BackgroundSentence):
    """Missing sections, files in a folder that are not read, and the like, of the chosen layers.

    Args:
        session: of the dock.
        stop: set when the dock is closed.
    """

    def __init__(self, session: Session, stop: threading.Event) -> None:
        super().__init__(session, stop)
        self._chosen: list[tuple[Layer, bool]] = []
        # Kept while the layer exists: layers are chosen again at every change of the viewer.
        self._sentences: WeakKeyDictionary[Layer, dict[bool, list[str]]] = WeakKeyDictionary()

    def show_of(self, chosen: Sequence[tuple[Layer | None, bool]]) -> None:
        """Show what there is to say.

        Args:
            chosen: layers, and whether their sections are independent images.
        """
        self._chosen = [(layer, alone) for layer, alone in chosen if layer is not None]
        for layer, _ in self._chosen:
            if source_of(layer) is None or layer in self._sentences or self._stop.is_set():
                continue
            self._sentences[layer] = {}
            # In the background: all headers of a folder are read, perhaps over a network.
            self._session.in_background(
                partial(_of_layer, layer), partial(self._on_read, layer), lambda text: None
            )
        self._show()

    def _on_read(self, layer: Layer, notices: dict[bool, list[str]]) -> None:
        self._sentences[layer] = notices
        self._show()

    def _show(self) -> None:
        sentences = [
            sentence
            for layer, alone in self._chosen
            for sentence in self._sentences.get(layer, {}).get(alone, ())
        ]
        # The labels of an image have its gaps, and the same files beside them.
        self.show_text(" ".join(dict.fromkeys(sentences)), "hint")


def _of_layer(layer: Layer) -> dict[bool, list[str]]:
    """Sentences, by whether the sections are independent images."""
    stored = file_of(layer)
    if stored is None:
        found = not_a_volume(layer)
        return {False: [found]} if found else {}
    return {alone: _sentences(stored, alone) for alone in (False, True)}


def _sentences(stored: Stored, independent: bool) -> list[str]:
    try:
        return file_notices(stored, independent)
    except DataError as error:
        # What the check will refuse is better read before "Use these layers" is pressed.
        return [str(error)]

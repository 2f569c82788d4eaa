"""A sentence on the chosen layers that is found out in the background."""

from __future__ import annotations

import threading

from napari_emda._gui.common.widgets import Sentence
from napari_emda._gui.session import Session


class BackgroundSentence(Sentence):
    """Says what a thread finds out about layers, which may be read over a network.

    Args:
        session: of the dock.
        stop: set when the dock is closed.
    """

    def __init__(self, session: Session, stop: threading.Event) -> None:
        super().__init__()
        self._session = session
        self._stop = stop

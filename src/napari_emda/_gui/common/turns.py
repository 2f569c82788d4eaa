"""Work in steps, between which the window answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from qtpy.QtCore import QObject, QTimer


class Turns(QObject):
    """Does one step of its work at each turn of the event loop.

    What takes half a second in one go would be felt; in steps of a tenth, the mouse and the keys
    are answered in between, and everything is drawn as it comes.

    Args:
        parent: ends the work when it is destroyed.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._work: deque[Iterator[object]] = deque()
        self._running: Iterator[object] | None = None
        self._timer = QTimer(self)
        # Qt draws and takes the mouse and the keys first.
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._step)

    def add(self, steps: Iterator[object]) -> None:
        """Do this work after what was added before.

        Args:
            steps: each item stands for a step that is done.
        """
        self._work.append(steps)
        self._timer.start()

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return not self._work

    def finish(self) -> None:
        """Do all that is left at once; nothing where a step itself asks for it."""
        while self._work:
            # Taken out first: a step that ends here again would run its own generator twice.
            for _ in self._work.popleft():
                pass
        self._timer.stop()

    def stop(self) -> None:
        """Leave undone what is left."""
        self._work.clear()
        self._running = None
        self._timer.stop()

    def _step(self) -> None:
        if not self._work:
            self._timer.stop()
            return
        steps = self._running = self._work.popleft()
        try:
            next(steps)
        except StopIteration:
            return
        # Unless the step itself has stopped the work.
        if self._running is steps:
            self._work.appendleft(steps)

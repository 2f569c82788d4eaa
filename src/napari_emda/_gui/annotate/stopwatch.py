"""How long somebody works: time goes on with every sign of life and stops when there is none."""

from __future__ import annotations

import time
from collections.abc import Callable

IDLE = 30.0
"""Seconds without a sign of life (mouse, stroke, key) after which the user is taken to be elsewhere."""


class Stopwatch:
    """Seconds of work on one thing.

    Args:
        clock: seconds since some moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None
        self._seconds = 0.0

    def start(self) -> None:
        """Begin at zero."""
        self._seconds, self._last = 0.0, self._clock()

    def beat(self) -> None:
        """A sign of life."""
        if self._last is not None:
            now = self._clock()
            self._seconds += min(now - self._last, IDLE)
            self._last = now

    def stop(self) -> float:
        """End; returns the seconds since `start`, 0 when there was none."""
        self.beat()
        self._last, seconds = None, self._seconds
        self._seconds = 0.0
        return seconds

"""How long somebody works: time goes on with every sign of life and stops when there is none."""

from __future__ import annotations

import time
from collections.abc import Callable

IDLE = 30.0
"""Seconds without mouse, stroke or key after which the user is taken to be elsewhere.

Longer than one looks at a patch before the first stroke, shorter than a phone call.
"""


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
        self._seconds = 0.0
        self._last = self._clock()

    def beat(self) -> None:
        """A sign of life."""
        if self._last is not None:
            now = self._clock()
            self._seconds += min(now - self._last, IDLE)
            self._last = now

    def stop(self) -> float:
        """End; returns the seconds since `start`, 0 when there was none."""
        self.beat()
        seconds = self._seconds
        self._last = None
        self._seconds = 0.0
        return seconds


class PatchTimes:
    """Seconds of work on each patch, to which the user may come several times before deciding.

    Args:
        clock: seconds since some moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._watch = Stopwatch(clock)
        self._seconds: dict[str, float] = {}

    def start(self) -> None:
        """The user comes to a patch."""
        self._watch.start()

    def beat(self) -> None:
        """A sign of life."""
        self._watch.beat()

    def pause(self, patch: str) -> None:
        """The user leaves a patch."""
        self._seconds[patch] = self._seconds.get(patch, 0.0) + self._watch.stop()

    def take(self, patch: str) -> float:
        """The seconds on a patch so far; they are counted with its decision, and only once."""
        return self._seconds.pop(patch, 0.0)

    def forget(self) -> None:
        """Other patches are worked on from now on."""
        self._seconds.clear()

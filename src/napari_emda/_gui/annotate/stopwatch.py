"""Working time: it counts while mouse or keyboard are used and stops when they are idle."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds without mouse, stroke or key after which the user is assumed to be away.
# Longer than users study a patch before the first stroke, shorter than a phone call.
IDLE = 30.0


class Stopwatch:
    """Seconds of work on one patch.

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
        """Note that the user is active."""
        if self._last is not None:
            now = self._clock()
            # A longer pause counts as `IDLE`: the user may have been thinking for that long.
            self._seconds += min(now - self._last, IDLE)
            self._last = now

    def stop(self) -> float:
        """Stop; returns the seconds of work since `start`, 0 if it was not started."""
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
        """Note that the user is active."""
        self._watch.beat()

    def pause(self, patch: str) -> None:
        """The user leaves a patch."""
        self._seconds[patch] = self._seconds.get(patch, 0.0) + self._watch.stop()

    def take(self, patch: str) -> float:
        """Return and clear the seconds on a patch, so that each is counted with one decision."""
        return self._seconds.pop(patch, 0.0)

    def forget(self) -> None:
        """Clear all times, because there are new patches."""
        self._seconds.clear()

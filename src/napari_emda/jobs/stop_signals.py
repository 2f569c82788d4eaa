"""Ctrl-C, SIGTERM and the end of the terminal: how a command ends when it is asked to."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# Seconds in which a further signal changes nothing: Ctrl-C and a batch system may send several, and
# what is being tidied up must not be left half-way.
_AT_ONCE = 2.0
_ALWAYS = (signal.SIGINT, signal.SIGTERM)
# Windows has no signal for the end of a terminal.
_NUMBERS = (*_ALWAYS, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class StopSignals:
    """The signals that ask this process to end.

    A command ends at once, by a KeyboardInterrupt in the main thread: what it writes is there whole
    or not at all. A training has something to lose. From its start on, a signal is noted, and
    whoever iterates the events of the training ends it after the next one.

    Attributes:
        asked: whether to end.
    """

    def __init__(self) -> None:
        self.asked = False
        self._keeps = False
        self._noted: Callable[[], object] = lambda: None
        self._raised = float("-inf")
        self._before: dict[int, Any] = {}

    def install(self, noted: Callable[[], object] = lambda: None) -> None:
        """Take over the signals; call it in the main thread.

        Args:
            noted: called for each signal that is noted.
        """
        self.__init__()  # type: ignore[misc]
        self._noted = noted
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _NUMBERS:
            before = signal.getsignal(number)
            # With ``nohup`` the end of the terminal is ignored, because the user wants to go on.
            if number in _ALWAYS or before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self.receive)

    def release(self) -> None:
        """Give the signals back, for programs that take them themselves, as the viewer does."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def receive(self, *_: object) -> None:
        """For `signal.signal`.

        Raises:
            KeyboardInterrupt: nothing is to be saved.
        """
        self.asked = True
        if self._keeps:
            self._noted()
            return
        now = time.monotonic()
        if now - self._raised > _AT_ONCE:
            self._raised = now
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def noted(self) -> Iterator[Callable[[], None]]:
        """A block that begins with the signals as they are; its value makes them be noted only."""

        def keep() -> None:
            self._keeps = True

        try:
            yield keep
        finally:
            self._keeps = False

    @staticmethod
    def ignore() -> None:
        """Ignore all further signals: the process is about to end."""
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                signal.signal(number, signal.SIG_IGN)


stop_signals = StopSignals()
"""Those of this process: there is one of each."""

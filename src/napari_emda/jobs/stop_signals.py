"""Ctrl-C, SIGTERM and the end of the terminal: how a command ends when it is asked to."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

# Seconds after which an interrupt is sent again that came where Python swallows exceptions.
_AGAIN = 0.02
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
        self._hook: Callable[[Any], object] | None = None

    def install(self, noted: Callable[[], object] = lambda: None) -> None:
        """Take over the signals; call it in the main thread.

        Args:
            noted: called for each signal that is noted.
        """
        hook = self._hook if self._has_hook else sys.unraisablehook
        self.__init__()  # type: ignore[misc]
        self._noted = noted
        self._hook = hook
        sys.unraisablehook = self._swallowed
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
        if self._has_hook and self._hook is not None:
            sys.unraisablehook = self._hook

    @property
    def _has_hook(self) -> bool:
        """Whether this is told of exceptions in finalisers."""
        return getattr(sys.unraisablehook, "__self__", None) is self

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
            # What is left half-made, as a coroutine that nobody awaits, is not worth a word.
            warnings.simplefilter("ignore", RuntimeWarning)
            raise KeyboardInterrupt

    def _swallowed(self, unraisable: Any) -> None:
        """For `sys.unraisablehook`: exceptions in finalisers, among them interrupts."""
        if not self.asked:
            if self._hook is not None:
                self._hook(unraisable)
            return
        if issubclass(unraisable.exc_type, KeyboardInterrupt) and not self._keeps:
            # Python has dropped it, and the command would go on. Not from here, where it would be
            # dropped again.
            self._raised = float("-inf")
            again = threading.Timer(_AGAIN, _thread.interrupt_main)
            again.daemon = True
            again.start()

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

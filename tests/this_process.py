"""Commands in the process of the tests, which stays as it was."""

from __future__ import annotations

import contextlib
import signal
import sys

import pytest

# All that `jobs.stop_signals` takes over; Windows has no signal for the end of a terminal.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextlib.contextmanager
def signals_restored():
    """A block at whose end signals are handled as before."""
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    hook = sys.unraisablehook
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def commands_here():
    """A block in which commands run in this process, and change neither priority nor signals."""
    with signals_restored(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_emda.inference.device.configure_process", lambda *_, **__: None)
        yield

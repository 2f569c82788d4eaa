"""Asks a child process something: it prints an answer and ends."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence

# Seconds between two looks whether nobody waits for the answer any more.
_LOOK = 0.1


def ask(
    command: Sequence[str], stop: threading.Event, patience: float = float("inf")
) -> subprocess.CompletedProcess[str]:
    """What a process prints. Call it from a worker thread.

    Args:
        command: the program and its arguments.
        stop: set when the viewer closes, which must not wait; the process is killed.
        patience: seconds after which it is killed as well.

    Returns:
        Its exit status and all that it has printed, which may be nothing.

    Raises:
        OSError: it cannot be started.
        TimeoutError: the patience was over.
    """
    end = time.monotonic() + patience
    is_late = False
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        # After the kill, `communicate` returns what was printed so far.
        while True:
            try:
                output, errors = process.communicate(timeout=_LOOK)
                break
            except subprocess.TimeoutExpired:
                is_late = time.monotonic() > end
                if stop.is_set() or is_late:
                    process.kill()
    if is_late:
        raise TimeoutError(f"No answer within {patience:g} s")
    return subprocess.CompletedProcess(command, process.returncode, output, errors)

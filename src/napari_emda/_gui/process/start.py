"""Starts child processes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import IO

# Windows would pass Ctrl-C in napari's terminal on to a child of the same group.
_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)


def start_process(command: Sequence[str], errors: int | IO[str]) -> subprocess.Popen[str]:
    """Start a process that reads and writes lines.

    Args:
        command: the program and its arguments.
        errors: where its standard error goes.

    Raises:
        OSError: it cannot be started.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        errors="replace",
        bufsize=1,
        # In a session of its own: closing the terminal of napari, or Ctrl-C there, does not reach a
        # job that goes on without napari.
        start_new_session=True,
        creationflags=_NEW_GROUP,
    )

"""Starts child processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

# Windows would pass Ctrl-C in napari's terminal on to a child of the same group.
_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
_BELOW_NORMAL = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)
# Of 19: the window comes first, and the child still gets all idle time.
_NICENESS = 10


def start_process(command: Sequence[str], errors: int | IO[str]) -> subprocess.Popen[str]:
    """Start a process that reads and writes lines, at a low priority.

    Args:
        command: the program and its arguments.
        errors: where its standard error goes.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(
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
        creationflags=_NEW_GROUP | _BELOW_NORMAL,
    )
    _give_way(process.pid)
    return process


def _give_way(process_id: int) -> None:
    """Let the window have the processor first, also while a child still loads its libraries."""
    if sys.platform == "win32":
        return
    # It may have ended already.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process_id, _NICENESS)
    # Linux shares the processor among sessions first, of which the child has one of its own: its
    # priority counts nothing beside programs of other sessions.
    with contextlib.suppress(OSError):
        Path(f"/proc/{process_id}/autogroup").write_text(str(_NICENESS))

"""Faults of the disk: the n-th change of a folder fails, or is the last one.

The library in ``shim.c`` is loaded before all others. It counts the system calls that change files
in one folder, whichever library makes them, and is armed in each forked process by `arm`.
"""

from __future__ import annotations

import ctypes
import errno
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

ACTIONS = ("nothing", "fail", "fail on", "kill", "torn", "torn kill", "signal")
"""As in ``shim.c``: fail once; from then on; end before the call; write half of the bytes and fail
or end; send a signal to the process itself."""

ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES}


@dataclass(frozen=True)
class Fault:
    """What happens at one change of a folder.

    Attributes:
        action: one of `ACTIONS`.
        at: number of the change, from 1.
        number: of the error or of the signal.
        reads: whether reading counts, too.
    """

    action: str = "nothing"
    at: int = 0
    number: int = 0
    reads: bool = False

    @classmethod
    def of(cls, values: dict[str, object]) -> Fault:
        """From JSON."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})  # type: ignore[arg-type]

    def values(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Change:
    """A line of the record.

    Attributes:
        number: of the change, from 1.
        call: ``open``, ``write``, ``sync``, ``rename`` and others.
        path: of the file.
        other: the new name, of a rename.
    """

    number: int
    call: str
    path: str
    other: str


def library(folder: Path) -> Path | None:
    """Compile the library into a folder; None where that is not possible."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        return None
    built = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-w", "-o", str(built), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    return built if done.returncode == 0 else None


def arm(built: str, folder: str, fault: Fault, record: str = "", *, copies: bool = False) -> None:
    """Count the changes of a folder in this process from now on, until the fault.

    Args:
        built: the library.
        folder: absolute, without links.
        fault: what happens.
        record: a folder for the list of changes.
        copies: whether to keep what is synced there as well.
    """
    loaded = ctypes.CDLL(built)
    loaded.fault_arm(
        folder.encode(),
        record.encode(),
        int(copies),
        ACTIONS.index(fault.action),
        ctypes.c_long(fault.at),
        fault.number,
        int(fault.reads),
    )


def changes(record: Path) -> list[Change]:
    """The changes that were recorded in a folder."""
    lines = (record / "record").read_text(errors="surrogateescape").splitlines()
    parts = [line.split("\t") for line in lines]
    return [Change(int(number), call, path, other) for number, call, path, other in parts]

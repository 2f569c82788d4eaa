"""The process that works on something, and whether it still does."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_emda.errors import JobError
from napari_emda.io.atomic import write_text
from napari_emda.io.safe_files import read_file, refuse_hard_link

# Seconds by which two readings of the start of one process may differ: it is reckoned from the
# clock, which may have been set meanwhile. A process id is not used again so soon.
_CLOCK = 5.0
# Seconds to wait for another process that looks at the same file. It takes milliseconds.
_BRIEFLY = 10.0


class Owner(BaseModel):
    """A process: its id alone would not do, because the system uses ids again.

    Attributes:
        pid: process id.
        started: when the process began, in seconds since 1970.
        host: name of the computer, because a project may lie on a disk that several share.
    """

    model_config = ConfigDict(frozen=True)

    pid: int = Field(gt=0)
    started: float
    host: str

    @classmethod
    def of(cls, pid: int | None = None) -> Self:
        """The process of that id, by default this one.

        Raises:
            psutil.Error: there is no such process.
        """
        process = psutil.Process(pid)
        return cls(pid=process.pid, started=process.create_time(), host=socket.gethostname())

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The owner named in a file; None without a file, or if it is damaged."""
        try:
            return cls.model_validate_json(read_file(path))
        except (OSError, ValidationError):
            return None

    def write(self, path: Path) -> None:
        """Name this owner in a file."""
        write_text(path, self.model_dump_json() + "\n", durable=False)

    @property
    def is_here(self) -> bool:
        """Whether the process belongs to this computer."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether the process is still running; of another computer, it is taken to be."""
        if not self.is_here:
            return True
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _CLOCK
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            # It cannot be asked, as with a process of another user: better to wait for nothing
            # than to write into its files.
            return True


@contextlib.contextmanager
def owning(path: Path, what: str) -> Iterator[None]:
    """Own something while the block runs, so that no other process writes to it.

    What a process that has crashed owned is free again.

    Args:
        path: of the file that names the owner; removed at the end.
        what: that is owned, as in 'The run 003-auto'.

    Raises:
        JobError: another process owns it.
    """
    guard_file = path.with_name(f".{path.name}.lock")
    refuse_hard_link(guard_file)
    guard = FileLock(guard_file, timeout=_BRIEFLY)
    this = Owner.of()
    try:
        # Held only while looking: of two processes that come at once, one finds the other's name.
        with guard:
            owner = Owner.read(path)
            if owner is not None and owner != this and owner.alive:
                raise _owned(owner, what, path)
            this.write(path)
    except Timeout:
        raise JobError(f"{what} is used by another process: try again in a moment.") from None
    try:
        yield
    finally:
        if Owner.read(path) == this:
            path.unlink(missing_ok=True)


def _owned(owner: Owner, what: str, path: Path) -> JobError:
    where = "" if owner.is_here else f" on {owner.host}"
    lost = "" if owner.is_here else f" If it has ended there, delete '{path}'."
    return JobError(
        f"{what} is being written by another process (number {owner.pid}{where}): wait for its "
        f"end, or stop it.{lost}"
    )

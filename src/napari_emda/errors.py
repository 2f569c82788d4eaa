"""Errors that a user can correct, and the status with which a command exits.

An error's message is one sentence: what is wrong, the limit, the remedy. None of the errors derives
from ``RuntimeError``, because napari's generator workers swallow that one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit status of every command. Scripts on a cluster rely on these numbers."""

    DONE = 0
    # Python itself exits with 1 after an uncaught exception, and click with 2 after bad arguments.
    INTERNAL_ERROR = 1
    INVALID_INPUT = 2
    # Stopped on request, with the work so far kept: a job script queues itself again on this one.
    STOPPED = 3


class EmdaError(Exception):
    """Invalid input; the command line exits with status 2."""


class SettingsError(EmdaError):
    """An unknown or out-of-range setting, method or strategy."""


class DataError(EmdaError):
    """An image, label image or voxel size that cannot be used."""


class JobError(EmdaError):
    """A project, run or job that cannot be used as asked."""


def with_article(noun: str) -> str:
    """A noun after its article, at the beginning of a sentence.

    >>> with_article("export")
    'An export'
    """
    return f"{'An' if noun[0] in 'aeiou' else 'A'} {noun}"


def listed(words: Sequence[str], conjunction: str = "and") -> str:
    """Words as a message lists them.

    >>> listed(["TIFF", "PNG", "JPEG"], "or")
    'TIFF, PNG or JPEG'
    """
    return f" {conjunction} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


# -- what others raise -----------------------------------------------------------------------------

# What torch and its libraries say when an allocation fails on the CPU; their errors are plain
# RuntimeErrors. The first is that of Windows, the others are those of Linux and macOS.
_NO_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "out of memory",
    "could not create a primitive",
    "could not create a memory",
    "bad_alloc",
)
# What the loader of Linux says without memory, and of a disk from which nothing may be run.
_NOT_LOADED = "failed to map segment from shared object"
# The disk, the share of it that the user has, or the size that the system allows for a file.
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_TOO_MANY = (errno.EMFILE, errno.ENFILE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, of the computer or of a GPU."""
    # By its name, because this module loads no torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


def explained(error: BaseException) -> EmdaError | None:
    """An exception of Python or a library as one sentence on what to do.

    This is the one edge at which foreign exceptions become sentences; the command line and the
    processes of jobs call it with whatever reaches them.

    Returns:
        The error to show; None if the user cannot do anything about it, so that it is a fault of
        ours.
    """
    if isinstance(error, EmdaError):
        return error
    if is_out_of_memory(error):
        return JobError(
            "There is not enough memory: close other programs, or choose a smaller patch, batch, "
            "network or memory."
        )
    if isinstance(error, UnicodeError):
        return JobError(
            "A name or a text holds characters that are no UTF-8: rename the file or folder."
        )
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return JobError("The system allows no more threads: close other programs.")
    if isinstance(error, ImportError) and _NOT_LOADED in str(error):
        return JobError(
            f"A library cannot be loaded ({error}): close other programs to free memory, or allow "
            "programs to be run from its folder."
        )
    refused = error if isinstance(error, OSError) else system_error(error)
    return None if refused is None else _of_the_system(refused)


def system_error(error: BaseException) -> OSError | None:
    """The error of the system that a library reports in an error of its own.

    safetensors says "No space left on device (os error 28)", torch "Too many open files (24)".
    """
    text = str(error)
    for number in map(int, re.findall(r"\((?:os error )?([0-9]{1,3})\)", text)):
        if os.strerror(number) in text:
            return OSError(number, os.strerror(number))
    return None


def refusal(error: BaseException, path: Path) -> EmdaError | None:
    """What the system has refused while a file was read; None if the file itself is at fault."""
    refused = error if isinstance(error, OSError) else system_error(error)
    # Libraries raise it without a number for whatever they cannot read.
    if refused is None or refused.errno is None:
        return None
    refused.filename = refused.filename or str(path)
    return _of_the_system(refused)


def _of_the_system(error: OSError) -> JobError:
    """One sentence on what the system refused, and where."""
    name = error.filename
    text = os.fsdecode(name) if isinstance(name, bytes) else str(name)
    # A descriptor has a number in place of a name.
    file = "A file" if name is None or isinstance(name, int) else f"'{text}'"
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _FULL:
        return JobError(f"{file} cannot be written ({reason}): make room, and try again.")
    if error.errno in _FORBIDDEN:
        return JobError(
            f"{file} cannot be read or written ({reason}): check its permissions, or choose "
            "another place."
        )
    if error.errno in _TOO_MANY:
        return JobError(
            f"{file} cannot be opened ({reason}): close other programs, or raise the limit of open "
            "files (ulimit -n)."
        )
    if error.errno == errno.ENOENT and name is None:
        return JobError("The current folder no longer exists: change to another one.")
    return JobError(
        f"{file} cannot be read or written ({reason}): check it, its name and its disk."
    )


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in the errors of the system in this block that name none.

    Writing to an open file says that the disk is full, and not which file has no room.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise

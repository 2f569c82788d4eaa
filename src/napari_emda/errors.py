"""Errors that a user can correct, and the status with which a command exits.

An error's message is one sentence: what is wrong, the limit, the remedy. None of the errors derives
from ``RuntimeError``, because napari's generator workers swallow that one.
"""

from collections.abc import Sequence
from enum import IntEnum


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

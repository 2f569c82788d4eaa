"""What is read from files over and over again, and seldom changes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Files whose content is remembered, by function: some for each run of a large project.
_REMEMBERED = 1024


def while_unchanged(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Remember what a function makes of a file until the file changes.

    The dock asks for the state of every run at every decision of the user. On a network disk,
    reading takes far longer than asking whether the file is still the same.

    Args:
        read: its result must not be changed by anybody. It is also called for a file that is not
            there, whose result is not remembered.
    """

    # A file is appended to, or replaced by another one: its number, time or size then differs.
    @functools.lru_cache(_REMEMBERED)
    def remembered(path: Path, _inode: int, _time: int, _size: int) -> T:
        return read(path)

    @functools.wraps(read)
    def read_if_changed(path: Path) -> T:
        try:
            status = path.lstat()
        except OSError:
            return read(path)
        return remembered(path, status.st_ino, status.st_mtime_ns, status.st_size)

    return read_if_changed

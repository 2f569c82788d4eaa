"""Files that survive a crash: written whole or not at all, and handed to the disk itself."""

from __future__ import annotations

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either the old or the new one, whole, even when the power fails."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file; on disk when this returns. A torn last line, left by a crash, is ended first."""
    new = not path.exists()
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync(path.parent)


def sync(path: Path) -> None:
    """Ask the system to put a file, or the names in a folder, on the disk itself; nothing when there is none."""
    if not path.exists() or (path.is_dir() and os.name != "posix"):  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files and folders that are written whole or not at all, and handed to the disk itself.

Everything is written beside its name, synced and then renamed, so that a crash or a power failure leaves the old
content or the new one. What an exception leaves half-written is removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_STEM = 40
"""Characters of a name that its partial file repeats: file systems take 255 bytes, up to four a character."""


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a UTF-8 file; see `replacing_file`."""
    with replacing_file(path, durable=durable) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Where to write a file that takes the name ``path`` when the block ends well.

    Args:
        path: its folder exists; an older file of this name is replaced.
        durable: wait until it is on the disk itself. What can be made again, such as a preview, need not.

    Yields:
        A path in the same folder and with the same suffix, for any library to write to.
    """
    partial = path.with_name(f".{path.stem[:_LONGEST_STEM]}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield partial
        if durable:
            sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        sync(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Where to make a folder that takes the name ``path`` when the block ends well.

    No system call replaces a folder that is not empty. So the old one gets a name that is easy to find, such as
    ``mask-old.zarr``, for the moment between the two renames: a crash right then leaves it there.
    """
    with workspace(path) as folder:
        partial = folder / path.name
        yield partial
        _sync_tree(partial)
        if not path.exists():
            partial.replace(path)
        else:
            old = _free_name(path)
            path.replace(old)
            try:
                partial.replace(path)
            except BaseException:
                old.replace(path)
                raise
            sync(path.parent)
            old.replace(folder / "old")  # out of sight before it is deleted file by file
    sync(path.parent)


def _free_name(path: Path) -> Path:
    """``mask-old.zarr`` beside ``mask.zarr``, or ``mask-old-2.zarr`` where a crash has left that one, and so on."""
    free = path.with_name(f"{path.stem}-old{path.suffix}")
    count = 2
    while free.exists():
        free = path.with_name(f"{path.stem}-old-{count}{path.suffix}")
        count += 1
    return free


@contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """A hidden folder beside ``path``, so on the same disk, that is removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix=f".{path.stem[:_LONGEST_STEM]}-", dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def _sync_tree(folder: Path) -> None:
    """All files below a folder, then the folders, the innermost first."""
    folders = [folder]
    for path in folder.rglob("*"):
        if path.is_dir():
            folders.append(path)
        else:
            sync(path)
    for inner in reversed(folders):
        sync(inner)

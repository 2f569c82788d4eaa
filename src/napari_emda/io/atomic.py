"""Files and folders that are written whole or not at all, and synced to disk.

Everything is written beside its name, synced and then renamed, so that a crash or a power failure
leaves either the old content or the new one. After an exception the partial file is removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_emda.io.safe_files import open_to_append

# Characters of a name that its partial file repeats, so that a user can tell what was left behind.
# File systems allow names of 255 bytes, and a character takes up to four bytes in UTF-8: 160 bytes,
# the random part and a suffix always fit.
_LONGEST_STEM = 40


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a UTF-8 file; see `replacing_file`."""
    with replacing_file(path, durable=durable) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a path to write to; it is renamed to ``path`` when the block ends without an error.

    Args:
        path: its folder must exist; an older file of this name is replaced.
        durable: wait until the file is on the disk, safe from a power failure. Set it to False for
            files that can be computed again, such as previews.

    Yields:
        A path in the same folder and with the same suffix, for any library to write to.
    """
    # In the same folder, because a rename is atomic only within one file system. With the same
    # suffix, because libraries choose the format by it, and np.save appends a missing one.
    partial = path.with_name(f".{path.stem[:_LONGEST_STEM]}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield partial
        # Content before name: otherwise a power failure could leave the new name on an empty file.
        if durable:
            sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    # The rename is an entry in the folder, which has to reach the disk as well.
    if durable:
        sync(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a path to create a folder at; it is renamed to ``path`` when the block ends well.

    No system call replaces a folder that is not empty. Therefore the old folder is renamed to
    something that is easy to find, such as ``mask-old.zarr``, between the two renames. A crash at
    that very moment leaves it under this name.
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
                # Also when the user interrupts: the old folder must get its name back.
                old.replace(path)
                raise
            # The new name reaches the disk before the old folder loses its findable name.
            sync(path.parent)
            # Deleting file by file takes a while: in the hidden workspace, so that a crash during
            # the deletion leaves nothing that looks like a result.
            old.replace(folder / "old")
    sync(path.parent)


def _free_name(path: Path) -> Path:
    """``mask-old.zarr`` for ``mask.zarr``; ``mask-old-2.zarr`` if a crash left that one."""
    free = path.with_name(f"{path.stem}-old{path.suffix}")
    count = 2
    while free.exists():
        free = path.with_name(f"{path.stem}-old-{count}{path.suffix}")
        count += 1
    return free


@contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """A hidden folder beside ``path``, on the same file system; removed at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix=f".{path.stem[:_LONGEST_STEM]}-", dir=path.parent))
    try:
        yield folder
    finally:
        # An undeletable temporary file must not hide the result, or the error that ended the block.
        shutil.rmtree(folder, ignore_errors=True)


def append_line(path: Path, line: str) -> None:
    """Append a line to a file; it is on disk when this returns.

    An incomplete last line, left by a crash, is ended first, so that it cannot damage the new one.
    """
    is_new = not path.exists()
    with open_to_append(path) as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")
        # fsync sees only what has left Python's buffer.
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk.

    Does nothing if there is no such path.
    """
    # Windows cannot open folders, so their entries cannot be synced there.
    if not path.exists() or (path.is_dir() and os.name != "posix"):
        return
    # Windows refuses to sync a file that is open for reading only; POSIX opens folders only so.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    """Sync all files below a folder, then the folders, innermost first."""
    folders = [folder]
    for path in folder.rglob("*"):
        if path.is_dir():
            folders.append(path)
        else:
            sync(path)
    # rglob lists a folder before the folders inside it.
    for inner in reversed(folders):
        sync(inner)

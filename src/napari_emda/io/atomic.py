"""Files and folders that are written whole or not at all, and synced to disk.

Everything is written beside its name, synced and then renamed, so that a crash or a power failure
leaves either the old content or the new one. After an exception the partial file is removed; after
a crash, the next time that something is written to the same place.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_emda.errors import DataError, naming
from napari_emda.io.leftovers import (
    clear_leftovers,
    held,
    note_old_name,
    old_name,
    partial_path,
)

# What some network disks say when a folder is synced, and systems when it may be written to but not
# be listed. More cannot be done there.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM)
# Threads that wait for the disk at a time.
_SYNCING = 4


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
    clear_leftovers(path)
    # In the same folder, because a rename is atomic only within one file system. With the same
    # suffix, because libraries choose the format by it, and np.save appends a missing one.
    partial = partial_path(path, path.suffix)
    try:
        with held(partial):
            with naming(path):
                yield partial
            # Content before name: otherwise a power failure could leave the new name on an empty
            # file.
            if durable:
                sync(partial)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    # The rename is an entry in the folder, which has to reach the disk as well.
    if durable:
        sync(path.parent)


def replace_content(path: Path, content: bytes) -> None:
    """Replace one of many small files that can be computed again, in few system calls.

    Each call gives Python's lock away, and a thread that computes beside it waits to get it back:
    with `replacing_file`, a GPU would wait for the names of files rather than for their content.
    Nothing is synced. What a killed program has left is not looked for here, see `clear_tree`.

    Args:
        path: its folder is made if there is none.
        content: of the new file.
    """
    partial = partial_path(path, path.suffix)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with naming(path):
        try:
            descriptor = os.open(partial, flags, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(partial, flags, 0o666)
        try:
            try:
                remaining = memoryview(content)
                while remaining:
                    remaining = remaining[os.write(descriptor, remaining) :]
            finally:
                os.close(descriptor)
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a path to create a folder at; it is renamed to ``path`` when the block ends well.

    No system call replaces a folder that is not empty. Therefore the old folder is renamed to
    something that is easy to find, such as ``mask-old.zarr``, between the two renames. After a
    crash at that very moment it is found under this name, and gets its own back when something is
    written to ``path`` again.

    Raises:
        DataError: the old folder could not be given its name back.
    """
    with workspace(path) as folder:
        partial = folder / path.name
        yield partial
        sync_tree(partial)
        if path.exists():
            _exchange(path, partial, folder)
        else:
            partial.replace(path)
    sync(path.parent)


def _exchange(path: Path, partial: Path, folder: Path) -> None:
    """Give a folder the name of an older one, which moves into the folder of the partial one."""
    old = old_name(path)
    note_old_name(folder, old.name)
    sync(folder)
    path.replace(old)
    try:
        partial.replace(path)
    except BaseException as error:
        # Also when the user interrupts: the old folder must get its name back.
        try:
            old.replace(path)
        except OSError:
            raise DataError(
                f"'{path}' could not be replaced; nothing is lost: rename '{old.name}' back."
            ) from error
        raise
    # The new name reaches the disk before the old folder loses its findable name.
    sync(path.parent)
    # Deleting file by file takes a while: in the hidden workspace, so that a crash during the
    # deletion leaves nothing that looks like a result.
    old.replace(folder / "old")


@contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """A hidden folder beside ``path``, on the same file system; removed at the end of the block."""
    clear_leftovers(path)
    folder = partial_path(path, "")
    with held(folder, folder=True):
        try:
            yield folder
        finally:
            # An undeletable temporary file must not hide the result, or the error that ended the
            # block.
            shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk.

    Does nothing if there is no such path.
    """
    is_folder = path.is_dir()
    # Windows cannot open folders, so their entries cannot be synced there.
    if not path.exists() or (is_folder and os.name != "posix"):
        return
    try:
        # Windows refuses to sync a file that is open for reading only; POSIX opens folders only so.
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not is_folder or error.errno not in _NO_SYNC:
            raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there; on disk when this returns."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


def sync_files(files: Iterable[Path], folder: Path) -> None:
    """Sync files, then the folders that they lie in, up to and with ``folder``.

    Files that are not there, because they were removed, count through their folders.
    """
    files = list(files)
    # A file system writes what several threads wait for together.
    with ThreadPoolExecutor(_SYNCING) as pool:
        list(pool.map(sync, files))
    above = {parent for file in files for parent in file.parents if parent.is_relative_to(folder)}
    for parent in sorted(above, key=lambda parent: len(parent.parts), reverse=True):
        sync(parent)


def sync_tree(folder: Path) -> None:
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

"""What a program that was killed has left of the files that it was writing.

Whoever writes a file holds a lock on its partial file or folder, which ends with the process. So
the next one that writes to the same place can tell what is left from what is in use.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from napari_emda.io.safe_files import read_file

try:
    import fcntl
except (
    ImportError
):  # Windows, where a file that is held cannot be renamed: nothing is removed there
    fcntl = None  # type: ignore[assignment]

# Characters of a name that its partial file repeats, so that a user can tell what was left behind.
# File systems allow names of 255 bytes, and a character takes up to four bytes in UTF-8: 160 bytes,
# the random part and a suffix always fit.
_LONGEST_STEM = 40

# In the folder in which a folder is written that replaces another one: where the other one is until
# the new one has its name.
_OLD_NAME = "old-name.txt"


# The names that `partial_path` makes.
_PARTIAL = re.compile(r"\..{1,40}-[0-9a-f]{8}-partial(?:\.\w+)?")


def partial_path(path: Path, suffix: str) -> Path:
    """A new name beside ``path``: ``.mask-1f0a93bc-partial`` and the suffix."""
    return path.with_name(f".{_stem(path)}-{uuid.uuid4().hex[:8]}-partial{suffix}")


def _stem(path: Path) -> str:
    return path.stem[:_LONGEST_STEM]


@contextlib.contextmanager
def held(path: Path, *, folder: bool = False) -> Iterator[None]:
    """Create a partial file or folder, which is in use while the block runs.

    Args:
        path: of `partial_path`.
        folder: whether to create a folder.
    """
    descriptor = _created(path, folder=folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _created(path: Path, *, folder: bool) -> int | None:
    """Create a file or folder; returns the descriptor that holds the lock, None without locks."""
    while True:
        if folder:
            path.mkdir()
        else:
            path.touch()
        if fcntl is None:
            return None
        # Between the two, another process may take it for what was left, and remove it.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            # Some file systems know no locks. What is left there stays there.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if path.exists():
                return descriptor
            os.close(descriptor)


def _in_use(path: Path) -> bool:
    """Whether a process is writing a partial file or folder, as far as one can tell."""
    if fcntl is None:
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def note_old_name(folder: Path, name: str) -> None:
    """Note in a partial folder under which name the old folder is found meanwhile; on disk."""
    with (folder / _OLD_NAME).open("w", encoding="utf-8") as file:
        file.write(name)
        file.flush()
        os.fsync(file.fileno())


def clear_leftovers(path: Path) -> None:
    """Remove what killed programs have left of ``path``, and give a folder its name back.

    What is in use by another process stays. Nothing happens where the folder cannot be written.
    """
    suffix = re.escape(path.suffix)
    is_partial = re.compile(rf"\.{re.escape(_stem(path))}-[0-9a-f]{{8}}-partial(?:{suffix})?")
    with contextlib.suppress(OSError):
        left = [entry for entry in path.parent.iterdir() if is_partial.fullmatch(entry.name)]
        for partial in left:
            if _in_use(partial):
                continue
            if partial.is_dir():
                _put_back(path, partial)
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)


def clear_folder(folder: Path) -> None:
    """Remove what killed programs have left in a folder, of files of whatever name.

    What is in use by another process stays, and so does a folder that may hold an older one.
    """
    with contextlib.suppress(OSError):
        for entry in [] if folder.is_symlink() else list(folder.iterdir()):
            if not _PARTIAL.fullmatch(entry.name) or entry.is_symlink() or _in_use(entry):
                continue
            if not entry.is_dir():
                entry.unlink(missing_ok=True)
            elif not (entry / _OLD_NAME).exists():
                shutil.rmtree(entry, ignore_errors=True)


def clear_tree(folder: Path) -> None:
    """As `clear_folder`, in a folder and in all folders below it; links are not followed."""
    for where, _, _ in os.walk(folder):
        clear_folder(Path(where))


def _put_back(path: Path, partial: Path) -> None:
    """Rename the old folder back, if a program was killed between its two renames."""
    try:
        name = read_file(partial / _OLD_NAME).decode()
    except (OSError, ValueError):
        return
    # Only what `old_name` makes for this path: the note may lie.
    if not re.fullmatch(rf"{re.escape(path.stem)}-old(-[0-9]+)?{re.escape(path.suffix)}", name):
        return
    old = path.with_name(name)
    if old.exists() and not old.is_symlink() and not path.exists():
        old.replace(path)


def old_name(path: Path) -> Path:
    """``mask-old.zarr`` for ``mask.zarr``; ``mask-old-2.zarr`` if a crash left that one."""
    free = path.with_name(f"{path.stem}-old{path.suffix}")
    count = 2
    while free.exists():
        free = path.with_name(f"{path.stem}-old-{count}{path.suffix}")
        count += 1
    return free

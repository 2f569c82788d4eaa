"""The one place that opens the files of a project: no links, no special files, bounded sizes.

A project may come from somebody else. Its files must not lead out of its folder, must not keep the
program waiting, and must not fill the memory.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO, TextIO

from napari_emda.data.names import check_file_name, in_print
from napari_emda.errors import JobError

# Largest files by kind, in bytes. A project of a thousand volumes takes 300 KB of JSON, and a year
# of annotation, 100 000 decisions of a few hundred bytes each, 50 MB of lines.
LARGEST_JSON = 2**24
LARGEST_LINES = 2**28

# Windows has neither: there, `refuse_link` alone must do.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# A pipe without a reader or writer would keep the program waiting for ever.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


def inside(folder: Path, *names: str) -> Path:
    """The path of something in a folder of a project, which need not exist.

    Args:
        folder: taken as it is.
        names: of the folders and of the file in it, from the outside in.

    Raises:
        JobError: a name leads elsewhere, or what is there is a link or a special file.
    """
    path = folder
    for name in names:
        try:
            letters = check_file_name(name).encode("utf-8", "surrogateescape")
            # The system's own spelling: under LC_ALL=C, Python takes the names of files for ASCII.
            path = path / os.fsdecode(letters)
        except ValueError as error:
            raise JobError(f"{error}: correct it in the files of '{folder}'.") from None
        refuse_link(path)
    return path


def refuse_link(path: Path) -> None:
    """Check that a path is a file, a folder, or nothing.

    Raises:
        JobError: it is a link, a pipe, a device or the like.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # whoever opens it reports what is wrong
    if stat.S_ISLNK(mode):
        raise JobError(
            f"'{in_print(str(path))}' is a link, and links in a project are not followed: replace "
            "it by what it points to."
        )
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise JobError(
            f"'{in_print(str(path))}' is neither a file nor a folder: delete it, or use a copy of "
            "the project without it."
        )


def read_file(path: Path, largest: int = LARGEST_JSON) -> bytes:
    """Read a file of a project.

    Raises:
        OSError: there is no such file, or it cannot be read.
        JobError: it is a link or special file, or larger than ``largest`` bytes.
    """
    refuse_link(path)
    with open(path, "rb", opener=_open) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise JobError(
                f"'{in_print(str(path))}' has {size} bytes, and files of its kind have at most "
                f"{largest}: restore it from a backup."
            )
        # Another process may append meanwhile.
        return file.read(largest)


def open_to_append(path: Path) -> BinaryIO:
    """Open a file of a project for reading and appending; it is made if there is none.

    Raises:
        OSError: it cannot be written.
        JobError: it is a link or special file.
    """
    _prepare_to_change(path)
    return open(path, "ab+", opener=_open)


def open_to_append_text(path: Path) -> TextIO:
    """As `open_to_append`, for lines of text, each of which can be read at once."""
    _prepare_to_change(path)
    return open(path, "a", buffering=1, encoding="utf-8", opener=_open)


def truncate(path: Path, size: int) -> None:
    """Cut a file of a project to a size in bytes, on disk when this returns.

    Raises:
        OSError: it cannot be written.
        JobError: it is a link or special file.
    """
    _prepare_to_change(path)
    with open(path, "rb+", opener=_open) as file:
        file.truncate(size)
        os.fsync(file.fileno())


def refuse_hard_link(path: Path) -> None:
    """Check that a file that other code is going to change has no second name.

    Raises:
        JobError: it is a link or special file, or a hard link.
    """
    refuse_link(path)
    if _has_second_name(path):
        raise JobError(
            f"'{in_print(str(path))}' is a hard link to a file that may lie elsewhere: delete it."
        )


def _prepare_to_change(path: Path) -> None:
    refuse_link(path)
    if not _has_second_name(path):
        return
    # A hard link: the file may be that of a backup, or of somebody else, and must stay as it is.
    # The project goes on with a copy.
    copy = path.with_name(f".{path.name}-copy")
    refuse_link(copy)
    copy.unlink(missing_ok=True)
    shutil.copyfile(path, copy)
    copy.replace(path)


def _has_second_name(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink > 1


def _open(path: str, flags: int) -> int:
    """For ``open(opener=...)``: refuses links and special files, also those just put there."""
    # 0o666 is what ``open`` itself takes; the umask of the user applies.
    descriptor = os.open(path, flags | _NO_LINK | _NO_WAIT, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(None, "Not a regular file", path)

"""What an image is on the disk, so that results are not taken for those of another image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_emda.io.location import located

# Bytes of images that are read whole. Of larger ones, which would take minutes, times and sizes are
# compared instead, and some parts.
_READ_WHOLE = 2**26
# Parts of a large file that are read, and their bytes. A file of other content that was given the
# same time differs in some of them.
_PARTS = 16
_PART = 2**16
# Files that desktops put into folders of images when these are looked at.
_OF_DESKTOPS = ("Thumbs.db", "desktop.ini")
OF_ZARR = (".zarray", ".zgroup", ".zattrs", ".zmetadata")
"""zarr's own files that begin with a dot, unlike those of desktops."""
# Bytes that are read at a time.
_STEP = 2**20


def image_identity(path: Path) -> dict[str, Any]:
    """What tells an image from another one, or from itself before a change; as JSON.

    Two of them are equal if the images have the same content. Of images of more than 64 MB they
    differ, too, if the time of the last change does, as with a copy that was given a new time.

    Args:
        path: of a file, or of a folder (zarr, or one of sections); see `napari_emda.io.location`.

    Returns:
        Number of files, bytes, a hash, and the part of a file that is meant; of an address, only
        itself; empty if there is nothing.

    Raises:
        OSError: it cannot be read.
    """
    location = located(path)
    if location.address:
        # What a server holds cannot be compared without reading all of it.
        return {"address": location.address, "part": str(location.part)}
    path = location.file
    files = sorted(files_in(path)) if path.is_dir() else [path] if path.exists() else []
    if not files:
        return {}
    status = [file.stat() for file in files]
    total = sum(entry.st_size for entry in status)
    content = hashlib.blake2b(digest_size=16)
    for file, entry in zip(files, status, strict=True):
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
        content.update(f"{name}\0{entry.st_size}\0".encode("utf-8", "surrogateescape"))
        if total <= _READ_WHOLE:
            _hash_whole(file, content)
        else:
            content.update(f"{entry.st_mtime_ns}\0".encode())
    if total > _READ_WHOLE and len(files) == 1:
        _hash_parts(files[0], content)
    identity = {"files": len(files), "bytes": total, "hash": content.hexdigest()}
    # Left out where nothing is chosen: identities were stored before there was a choice.
    return {**identity, "part": str(location.part)} if location.part else identity


def file_identity(path: Path) -> str:
    """A hash of a file's whole content.

    Raises:
        OSError: it cannot be read.
    """
    content = hashlib.blake2b(digest_size=16)
    _hash_whole(path, content)
    return content.hexdigest()


def files_in(folder: Path) -> Iterator[Path]:
    """The files of an image in a folder."""
    for entry in os.scandir(folder):
        hidden = entry.name.startswith(".") and entry.name not in OF_ZARR
        if hidden or entry.name in _OF_DESKTOPS:
            continue
        # Links to folders are not followed: they may lead back here.
        if entry.is_dir(follow_symlinks=False):
            yield from files_in(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


def _hash_whole(path: Path, content: hashlib.blake2b) -> None:
    with path.open("rb") as file:
        while block := file.read(_STEP):
            content.update(block)


def _hash_parts(path: Path, content: hashlib.blake2b) -> None:
    with path.open("rb") as file:
        last = max(0, path.stat().st_size - _PART)
        for k in range(_PARTS):
            file.seek(last * k // (_PARTS - 1))
            content.update(file.read(_PART))

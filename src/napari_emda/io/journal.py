"""Journals: files to which lines of JSON are appended, each with its own checksum.

A line that was cut off by a crash, or that the disk has spoilt, is recognised: nothing is ever read
out of half a line, and the next line never continues it.
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from napari_emda.errors import naming
from napari_emda.io.atomic import sync
from napari_emda.io.safe_files import LARGEST_LINES, open_to_append, read_file
from napari_emda.json_text import parse_json

# The last entry of every object: the CRC-32 of the line without it. A line stays one JSON object,
# which any program can read. Lines of older versions have none.
_CHECK = re.compile(rb',"check":"([0-9a-f]{8})"\}$')
# Bytes that are read at a time, backwards, to find where a line that was cut off begins.
_STEP = 2**16


@dataclass(frozen=True)
class Line:
    """A line of a journal.

    Attributes:
        text: one JSON object, without its checksum; None if the line is damaged.
        size: bytes in the file, with the end of the line.
    """

    text: bytes | None
    size: int


def read_journal(path: Path, largest: int = LARGEST_LINES) -> list[Line]:
    """All lines of a journal; none if there is no such file.

    The text of a line without a checksum, as older versions wrote them, is whatever stands there.

    Raises:
        OSError: it cannot be read.
        JobError: it is a link or special file, or has more than ``largest`` bytes.
    """
    try:
        content = read_file(path, largest)
    except FileNotFoundError:
        return []
    return journal_lines(content)


def journal_lines(content: bytes) -> list[Line]:
    """All lines of a journal with this content."""
    *whole, last = content.split(b"\n")
    lines = [Line(_checked(line), len(line) + 1) for line in whole]
    if last:
        lines.append(Line(_checked(last) if _is_object(last) else None, len(last)))
    return lines


def append(path: Path, texts: Iterable[str]) -> None:
    """Append lines to a journal; they are on disk when this returns.

    What is left of a line that was cut off is removed first. If the lines cannot be written whole,
    the journal is left as it was.

    Args:
        path: the file is made if there is none.
        texts: one JSON object each, with an entry at least.

    Raises:
        OSError: the disk is full or cannot be written.
        JobError: there is a link or special file of this name.
    """
    is_new = not path.exists()
    content = b"".join(map(sealed, texts))
    with open_to_append(path) as file, naming(path):
        size = _end_last_line(file)
        try:
            _write(file.fileno(), content)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), size)
            raise
    if is_new:
        sync(path.parent)


def end_last_line(path: Path) -> None:
    """Remove what is left of a line that was cut off, before others append to the file."""
    if path.exists():
        with open_to_append(path) as file:
            _end_last_line(file)


def sealed(text: str) -> bytes:
    """A JSON object as a line with its checksum."""
    body = text.encode()
    return body[:-1] + f',"check":"{zlib.crc32(body):08x}"}}\n'.encode()


def _checked(line: bytes) -> bytes | None:
    """A line without its checksum; None if that is not right."""
    match = _CHECK.search(line)
    if match is None:
        return line
    body = line[: match.start()] + b"}"
    return body if zlib.crc32(body) == int(match[1], 16) else None


def _is_object(line: bytes) -> bool:
    """Whether a line that has no end is whole all the same: half an object is no object."""
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:
        return False


def _end_last_line(file: BinaryIO) -> int:
    """End the last line, or remove it if it was cut off; returns the size of the file."""
    size = start = file.seek(0, os.SEEK_END)
    tail = b""
    while start and b"\n" not in tail:
        start = max(0, start - _STEP)
        file.seek(start)
        tail = file.read(size - start)
    tail = tail[tail.rfind(b"\n") + 1 :]
    if not tail:
        return size
    if _is_object(tail) and _checked(tail) is not None:
        _write(file.fileno(), b"\n")
        return size + 1
    os.ftruncate(file.fileno(), size - len(tail))
    return size - len(tail)


def _write(descriptor: int, content: bytes) -> None:
    """Write to the end of a file, and to the disk."""
    # Not through Python's buffer, which would try again to write what has failed.
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)

"""Zip files for reading, whose list of entries fits into the memory.

``zipfile`` makes an object of some 600 bytes of each entry when it opens a file, and an entry takes
46 bytes of the file or more: a file of 1 GB could ask for 13 GB of memory.
"""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path

# Bytes of the list of entries. A volume of a thousand sections of 8192 x 8192 voxels has a quarter
# of a million chunks, whose names take some 25 MB.
_LARGEST_LIST = 2**26

# The records at the end of a zip file (APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16): signature
# and length of each, and where in it the length of the list of entries stands.
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_END_SIGNATURE = b"PK\5\6"
_END_64_SIGNATURE = b"PK\6\6"
_LOCATOR_SIGNATURE = b"PK\6\7"
# Bytes of a comment, which follows the last record, at most.
_LONGEST_COMMENT = 2**16


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip file for reading.

    Raises:
        zipfile.BadZipFile: it is none, is damaged, or lists too many entries.
        OSError: it cannot be read.
    """
    check_list(path)
    return zipfile.ZipFile(path)


def check_list(path: Path) -> None:
    """BadZipFile if the list of entries is too long to be read; any other file passes."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = min(size, _END.size + _LONGEST_COMMENT + _LOCATOR.size + _END_64.size)
        file.seek(size - length)
        tail = file.read(length)
        stated = _stated_length(tail)
        # Newer versions of Python go to where the locator points.
        for start in _pointed_to(tail):
            if start < size:
                file.seek(start)
                stated = max(stated, _length_64(file.read(_END_64.size)))
    # No more can be read than there is.
    if min(stated, size) > _LARGEST_LIST:
        raise zipfile.BadZipFile(
            f"it lists more files than can be read, in {stated} bytes of at most {_LARGEST_LIST}"
        )


def _ends(tail: bytes) -> list[int]:
    """Where in the end of a file its last record may be, in the order in which zipfile looks."""
    without_comment = len(tail) - _END.size
    places = [without_comment, tail.rfind(_END_SIGNATURE)]
    return [
        place
        for place in places
        if place >= 0 and tail.startswith(_END_SIGNATURE, place) and place <= without_comment
    ]


def _stated_length(tail: bytes) -> int:
    """The largest length of the list that any record in the end of a file states."""
    lengths = [0]
    for place in _ends(tail):
        lengths.append(_END.unpack_from(tail, place)[5])
        before = place - _LOCATOR.size - _END_64.size
        if before >= 0:
            lengths.append(_length_64(tail[before:]))
    return max(lengths)


def _length_64(record: bytes) -> int:
    """The length that a record of a large zip file states; 0 if it is none."""
    if len(record) < _END_64.size or not record.startswith(_END_64_SIGNATURE):
        return 0
    length: int = _END_64.unpack_from(record)[8]
    return length


def _pointed_to(tail: bytes) -> list[int]:
    """Where in the file the record of a large zip file is said to be."""
    starts = []
    for place in _ends(tail):
        at = place - _LOCATOR.size
        if at >= 0 and tail.startswith(_LOCATOR_SIGNATURE, at):
            starts.append(_LOCATOR.unpack_from(tail, at)[2])
    return starts

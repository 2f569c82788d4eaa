"""The tags of Gatan's DM3 and DM4 files.

They are read here, because no library reads both without a plotting library or under a permissive
licence. The format was described by Greg Jefferis and others (DM3, "Digital Micrograph file format
description") and differs in DM4 in the width of its numbers alone.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

# What the first byte of a tag says.
_DATA = 21
_GROUP = 20
# Types of numbers, by the codes of the format.
_NUMBERS = {
    2: "i2",
    3: "i4",
    4: "u2",
    5: "u4",
    6: "f4",
    7: "f8",
    8: "u1",
    9: "i1",
    10: "u1",
    11: "i8",
    12: "u8",
}
_STRUCT = 15
_STRING = 18
_ARRAY = 20
# Files have some thousand tags, up to ten groups deep and of up to a hundred fields. Beyond are
# only damaged and forged ones.
_MOST_TAGS = 200_000
_DEEPEST = 40
_MOST_FIELDS = 1000


@dataclass(frozen=True)
class Tag:
    """Numbers in a file.

    Attributes:
        offset: of the first one, in bytes.
        dtype: of a number, with its order of bytes.
        count: of numbers.
    """

    offset: int
    dtype: np.dtype[np.generic]
    count: int

    @property
    def nbytes(self) -> int:
        """Size of all."""
        return self.count * self.dtype.itemsize


class Tags:
    """The tags of a file, by paths such as ``ImageList/1/ImageData/Data``.

    Entries without a name are counted from 0. Tags of structures, and of arrays of them, are left
    out.

    Args:
        path: of the file.

    Attributes:
        tags: by their paths.
        unnamed: number of entries without a name, by the path of their group, which ends in ``/``.

    Raises:
        ValueError: it is no such file, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tags: dict[str, Tag] = {}
        self.unnamed: dict[str, int] = {}
        self._count = 0
        self._size = path.stat().st_size
        with path.open("rb") as file:
            try:
                self._read_header(file)
                self._read_group(file, "", 0)
            except struct.error:
                raise ValueError("its end is missing") from None

    def _read_header(self, file: BinaryIO) -> None:
        (version,) = struct.unpack(">I", file.read(4))
        if version not in (3, 4):
            raise ValueError(f"version {version} is none of 3 and 4")
        # Lengths and counts have 32 bits in version 3, and 64 in version 4.
        self._wide = version == 4
        self._length(file)
        (order,) = struct.unpack(">I", file.read(4))
        if order not in (0, 1):
            raise ValueError("its order of bytes is not clear")
        self._order = "<" if order else ">"

    def _length(self, file: BinaryIO) -> int:
        code, size = (">Q", 8) if self._wide else (">I", 4)
        (length,) = struct.unpack(code, file.read(size))
        return int(length)

    def _read_group(self, file: BinaryIO, prefix: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise ValueError("its groups have no end")
        # Whether the group is sorted, and whether it was open.
        file.read(2)
        self.unnamed[prefix] = 0
        for _ in range(self._length(file)):
            self._count += 1
            if self._count > _MOST_TAGS:
                raise ValueError("it has too many tags")
            kind, size = struct.unpack(">BH", file.read(3))
            name = file.read(size).decode(errors="replace")
            if not name:
                name = str(self.unnamed[prefix])
                self.unnamed[prefix] += 1
            if self._wide:
                self._length(file)  # of the whole tag
            if kind == _GROUP:
                self._read_group(file, f"{prefix}{name}/", depth + 1)
            elif kind == _DATA:
                self._read_data(file, f"{prefix}{name}")
            else:
                raise ValueError(f"a tag of the unknown kind {kind}")

    def _read_data(self, file: BinaryIO, name: str) -> None:
        if file.read(4) != b"%%%%":
            raise ValueError(f"the tag {name} has no beginning")
        count = self._length(file)
        if not 0 < count < 2 * _MOST_FIELDS:
            raise ValueError(f"the tag {name} describes {count} fields")
        types = [self._length(file) for _ in range(count)]
        offset = file.tell()
        code = types[0]
        if code == _ARRAY:
            code, number = types[1], types[-1]
            size = number * self._size_of(types[1:-1], name)
        elif code == _STRING:
            number = types[1]
            size = 2 * number
        else:
            number = 1
            size = self._size_of(types, name)
        if offset + size > self._size:
            raise ValueError(f"the tag {name} of {size} bytes is cut short")
        if code in _NUMBERS:
            self.tags[name] = Tag(offset, np.dtype(self._order + _NUMBERS[code]), number)
        file.seek(offset + size)

    @staticmethod
    def _size_of(types: list[int], name: str) -> int:
        """Bytes of a number or of a structure of numbers."""
        codes = types[4::2] if types[0] == _STRUCT else types[:1]
        unknown = set(codes) - set(_NUMBERS)
        if unknown:
            raise ValueError(f"the tag {name} has the unknown type {min(unknown)}")
        return sum(np.dtype(_NUMBERS[code]).itemsize for code in codes)

    # -- values ------------------------------------------------------------------------------------

    def values(self, name: str, most: int = 1000) -> NDArray[np.generic] | None:
        """The numbers of a tag; None if there is none, or it has too many."""
        tag = self.tags.get(name)
        if tag is None or tag.count > most:
            return None
        with self._path.open("rb") as file:
            file.seek(tag.offset)
            return np.frombuffer(file.read(tag.nbytes), tag.dtype)

    def number(self, name: str) -> float | None:
        """The only number of a tag; None if it has none."""
        values = self.values(name, 1)
        return None if values is None or not len(values) else float(values[0])

    def whole(self, name: str) -> int | None:
        """The same for whole numbers."""
        value = self.number(name)
        return None if value is None or not math.isfinite(value) else int(value)

    def text(self, name: str) -> str:
        """The text of a tag, whose letters are numbers of 16 bits; empty if there is none."""
        values = self.values(name)
        if values is None or values.dtype.itemsize != 2:
            return ""
        return "".join(map(chr, values.tolist()))

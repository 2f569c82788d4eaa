"""Safetensors files, read and copied without torch, and without mapping a file into memory.

A mapped file ends the process (SIGBUS) when it is cut short or its disk fails while it is used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from napari_emda.json_text import parse_json

# A safetensors file begins with the length of its header, eight bytes, little-endian. The header
# is JSON and names each tensor: thousands of them take less than this.
_LENGTH = 8
_LONGEST_HEADER = 2**25
_METADATA = "__metadata__"
# Bytes of a number of each type. The library knows some more, of less than a byte.
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
# Axes of a tensor; torch knows no more. The product of millions of numbers would take hours.
_MOST_AXES = 64
# Bytes that are copied at a time.
_STEP = 2**22
# Only small tensors are changed: statistics and offsets, of a few thousand numbers at most.
_LARGEST_CHANGED = 2**22

Change = Callable[[str, dict[str, Any], bytes], bytes]


@dataclass(frozen=True)
class TensorHeader:
    """What a safetensors file says of itself.

    Attributes:
        metadata: texts by name.
        size: bytes that its tensors should take.
        whole: whether the file ends where they do.
        entries: of the tensors by name, as the file has them: type, shape and place of each.
        start: of the first tensor in the file.
    """

    metadata: dict[str, Any]
    size: int
    whole: bool
    entries: dict[str, Any]
    start: int


def read_tensor_header(path: Path) -> TensorHeader:
    """Read the header of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no safetensors file, or lies about its tensors; says so as the end of a
            sentence.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(_LENGTH), "little")
        # A damaged file would ask for any amount of memory.
        if not 0 < length <= min(_LONGEST_HEADER, size - _LENGTH):
            raise ValueError("is no model, or cut short")
        content = file.read(length)
    try:
        entries: dict[str, Any] = parse_json(content)
        metadata = dict(entries.pop(_METADATA, {}))
        end = _end_of(entries)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError):
        raise ValueError("is damaged") from None
    start = _LENGTH + length
    return TensorHeader(metadata, end, start + end == size, entries, start)


def _end_of(entries: dict[str, Any]) -> int:
    """Where the tensors of a header end.

    They follow each other without gaps, and each takes what its type and shape say. The library
    checks the same, but only where it reads them all.

    Raises:
        ValueError: it is not so.
    """
    spans = []
    for entry in entries.values():
        shape = entry["shape"]
        first, stop = entry["data_offsets"]
        if len(shape) > _MOST_AXES or not all(
            type(number) is int and 0 <= number < 2**63 for number in (*shape, first, stop)
        ):
            raise ValueError
        if stop - first != math.prod(shape) * _BYTES[entry["dtype"]]:
            raise ValueError
        spans.append((first, stop))
    end = 0
    for first, stop in sorted(spans):
        if first != end:
            raise ValueError
        end = stop
    return end


def copy_tensors(
    source: Path,
    destination: Path,
    metadata: dict[str, str],
    wanted: Callable[[str], bool],
    change: Change | None = None,
) -> None:
    """Copy some tensors of a file to another one, with other metadata.

    Args:
        source: a safetensors file.
        destination: is written as it is, so give a partial file.
        metadata: of the copy.
        wanted: whether a tensor of this name is copied.
        change: takes the name, the entry and the bytes of a tensor, and returns those that take
            their place, as many.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the source is no safetensors file, or is damaged; says so as the end of a
            sentence.
    """
    header = read_tensor_header(source)
    if not header.whole:
        raise ValueError("is cut short")
    spans = {name: header.entries[name]["data_offsets"] for name in filter(wanted, header.entries)}
    entries: dict[str, Any] = {_METADATA: metadata}
    end = 0
    for name, (first, stop) in spans.items():
        entries[name] = header.entries[name] | {"data_offsets": [end, end + stop - first]}
        end += stop - first
    content = json.dumps(entries).encode()
    # The first tensor begins at a multiple of eight bytes, as the library writes it.
    content += b" " * (-len(content) % _LENGTH)
    with source.open("rb") as file, destination.open("wb") as copy:
        copy.write(len(content).to_bytes(_LENGTH, "little") + content)
        for name, (first, stop) in spans.items():
            file.seek(header.start + first)
            if change is not None and stop - first <= _LARGEST_CHANGED:
                copy.write(change(name, entries[name], file.read(stop - first)))
            else:
                _copy(file, copy, stop - first)


def _copy(file: BinaryIO, copy: BinaryIO, length: int) -> None:
    while length:
        part = file.read(min(length, _STEP))
        # Cut short since its header was read.
        if not part:
            raise ValueError("is cut short")
        copy.write(part)
        length -= len(part)

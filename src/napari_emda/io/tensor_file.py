"""Safetensors files, read and copied without torch, and without mapping a file into memory.

A mapped file ends the process (SIGBUS) when it is cut short or its disk fails while it is used.
"""

from __future__ import annotations

import json
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
        entries: of the tensors by name, as the file has them.
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
        ValueError: it is no safetensors file; says so as the end of a sentence.
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
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError):
        raise ValueError("is damaged") from None
    start = _LENGTH + length
    return TensorHeader(metadata, end, start + end == size, entries, start)


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
    spans = {
        name: _span(header.entries[name], header.size) for name in filter(wanted, header.entries)
    }
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


def _span(entry: Any, size: int) -> tuple[int, int]:
    first, stop = map(int, entry["data_offsets"])
    if not 0 <= first <= stop <= size:
        raise ValueError("is damaged")
    return first, stop


def _copy(file: BinaryIO, copy: BinaryIO, length: int) -> None:
    while length:
        part = file.read(min(length, _STEP))
        # Cut short since its header was read.
        if not part:
            raise ValueError("is cut short")
        copy.write(part)
        length -= len(part)

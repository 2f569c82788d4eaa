"""The headers of safetensors files: read without torch, and without mapping a file into memory.

A mapped file ends the process (SIGBUS) when it is cut short or its disk fails while it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_emda.json_text import parse_json

# A safetensors file begins with the length of its header, eight bytes, little-endian. The header
# is JSON and names each tensor: thousands of them take less than this.
_LENGTH = 8
_LONGEST_HEADER = 2**25
_METADATA = "__metadata__"


@dataclass(frozen=True)
class TensorHeader:
    """What a safetensors file says of itself.

    Attributes:
        metadata: texts by name.
        size: bytes that its tensors should take.
        whole: whether the file ends where they do.
    """

    metadata: dict[str, Any]
    size: int
    whole: bool


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
    return TensorHeader(metadata, end, _LENGTH + length + end == size)

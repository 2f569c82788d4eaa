"""Files of JSON that describe an image in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_emda.errors import DataError
from napari_emda.json_text import parse_json

# Bytes of such a file: those of N5 and Neuroglancer have some KB.
_LARGEST = 2**20


def description(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none, or nothing that can be read.

    Raises:
        DataError: it is far too large for what it describes.
    """
    # A pipe of this name would keep the program waiting.
    if not file.is_file():
        return {}
    if file.stat().st_size > _LARGEST:
        raise DataError(f"{file} is far too large for a description of an image: copy it again.")
    try:
        content = parse_json(file.read_bytes())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def numbers(value: Any, count: int) -> list[float] | None:
    """A list of so many numbers; None for anything else."""
    if not isinstance(value, list) or len(value) != count:
        return None
    if not all(isinstance(entry, int | float) for entry in value):
        return None
    return [float(entry) for entry in value]

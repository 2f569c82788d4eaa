"""A folder of section images as one volume."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.lazy import SectionStack
from napari_emda.errors import DataError
from napari_emda.io.reader import Reader, all_readers, readers
from napari_emda.io.units import Stored


@readers.register("sections")
class Sections(Reader):
    """A folder of sections, one file each, in natural order of their names: 2 comes before 10."""

    formats: ClassVar = ("a folder of sections",)
    # Takes any folder, so it is asked after the formats that are folders themselves.
    rank: ClassVar = -1

    @classmethod
    def takes(cls, path: Path) -> bool:
        """Any folder."""
        return path.is_dir()

    @classmethod
    def open(cls, path: Path) -> Stored:
        """Open a folder; its sections are decoded when they are asked for.

        Some programs store a section with only two values as 1-bit: next to 8-bit sections its "on"
        becomes their "on" (255, or 1 where they hold nothing above 1). Folders state no voxel size.

        Args:
            path: an existing folder; hidden files, and files that no reader takes for a section,
                are passed over.

        Raises:
            DataError: no section in it, a colour or damaged one, or sections of different shape or
                type.
        """
        files = _section_files(path)
        headers = [_header(file) for file in files]
        first = headers[0][0]
        for file, (shape, _) in zip(files, headers, strict=True):
            if shape != first:
                raise DataError(
                    f"{file.name} is {shape} but {files[0].name} is {first}, and a volume has "
                    "sections of one shape: crop or pad them to the same size."
                )
        dtype, on = _common_type(path, files, [dtype for _, dtype in headers])

        def read(z: int) -> NDArray[Any]:
            values = _decode(files[z])
            return values.astype(dtype) * dtype.type(on) if values.dtype != dtype else values

        return Stored(SectionStack(read, (len(files), *first), dtype))


def _section_files(folder: Path) -> list[Path]:
    """The sections in a folder, in natural order."""
    suffixes = tuple(
        suffix for reader in all_readers() if reader.sections for suffix in reader.suffixes
    )
    files = [
        file
        for file in folder.iterdir()
        if file.name.lower().endswith(suffixes) and not file.name.startswith(".")
    ]
    if not files:
        raise DataError(
            f"The folder {folder.name} holds no sections: put {', '.join(suffixes)} files there."
        )
    return sorted(files, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _common_type(
    folder: Path, files: list[Path], types: list[np.dtype[Any]]
) -> tuple[np.dtype[Any], int]:
    """The type of all sections, and what the "on" of 1-bit sections becomes in it."""
    kinds = set(types)
    on = 1
    if kinds == {np.dtype(bool), np.dtype(np.uint8)}:
        kinds = {np.dtype(np.uint8)}
        grey = (file for file, dtype in zip(files, types, strict=True) if dtype.kind != "b")
        on = 255 if any(_decode(file).max(initial=0) > 1 for file in grey) else 1
    if len(kinds) > 1:
        names = " and ".join(sorted(kind.name for kind in kinds))
        raise DataError(
            f"The folder {folder.name} mixes sections of {names}: save all of them as one type."
        )
    return kinds.pop(), on


def _opened(file: Path) -> Array:
    reader = next(reader for reader in all_readers() if reader.sections and reader.takes(file))
    return reader.open(file).array


def _header(file: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape and type of a section, without decoding it."""
    array = _opened(file)
    if array.shape[0] > 1:
        raise DataError(
            f"{file.name} holds {array.shape[0]} sections, but in a folder each file is one: "
            "choose that file itself."
        )
    return (array.shape[1], array.shape[2]), np.dtype(array.dtype)


def _decode(file: Path) -> NDArray[Any]:
    return np.asarray(_opened(file)[0])

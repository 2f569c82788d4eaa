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
        becomes their "on" (255, or 1 if they hold nothing above 1). Folders state no voxel size.

        Args:
            path: an existing folder; hidden files, and files that no reader takes for a section,
                are ignored.

        Raises:
            DataError: no section in it, a colour or damaged one, or sections of different shape or
                dtype.
        """
        files = _section_files(path)
        # All headers, not the first one only: otherwise a file of another shape would be found only
        # when training reads it.
        headers = [_header(file) for file in files]
        section_shape = headers[0][0]
        for file, (shape, _) in zip(files, headers, strict=True):
            if shape != section_shape:
                raise DataError(
                    f"{file.name} is {shape} but {files[0].name} is {section_shape}, and a volume "
                    "has sections of one shape: crop or pad them to the same size."
                )
        dtype, on_value = _common_dtype(path, files, [dtype for _, dtype in headers])

        def read(z: int) -> NDArray[Any]:
            values = _decode(files[z])
            return values.astype(dtype) * dtype.type(on_value) if values.dtype != dtype else values

        return Stored(SectionStack(read, (len(files), *section_shape), dtype))


def _section_files(folder: Path) -> list[Path]:
    """The sections in a folder, in natural order."""
    suffixes = tuple(
        suffix for reader in all_readers() if reader.sections for suffix in reader.suffixes
    )
    # Hidden files include the "._name.png" that macOS leaves on foreign disks, which are no images.
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
    """A key that sorts numbers in names by their value: s2.png before s10.png."""
    # Every part is an (int, str) pair, because Python does not compare numbers with strings. -1
    # sorts text before numbers.
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _common_dtype(
    folder: Path, files: list[Path], dtypes: list[np.dtype[Any]]
) -> tuple[np.dtype[Any], int]:
    """The dtype of all sections, and the value in it that "on" in 1-bit sections becomes."""
    distinct = set(dtypes)
    on_value = 1
    # As in the masks of the VNC data set: a program saved those with two values as 1-bit. Left at
    # 1 among sections of 0 and 255, they would be nearly black, and lost to a threshold of 127.
    if distinct == {np.dtype(bool), np.dtype(np.uint8)}:
        distinct = {np.dtype(np.uint8)}
        # A generator, so that decoding stops at the first section with a value above 1.
        grey = (file for file, dtype in zip(files, dtypes, strict=True) if dtype.kind != "b")
        on_value = 255 if any(_decode(file).max(initial=0) > 1 for file in grey) else 1
    if len(distinct) > 1:
        names = " and ".join(sorted(dtype.name for dtype in distinct))
        raise DataError(
            f"The folder {folder.name} mixes sections of {names}: save all of them as one type."
        )
    return distinct.pop(), on_value


def _open_section(file: Path) -> Array:
    reader = next(reader for reader in all_readers() if reader.sections and reader.takes(file))
    return reader.open(file).array


def _header(file: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape and dtype of a section, without decoding it."""
    array = _open_section(file)
    if array.shape[0] > 1:
        raise DataError(
            f"{file.name} holds {array.shape[0]} sections, but in a folder each file is one: "
            "choose that file itself."
        )
    return (array.shape[1], array.shape[2]), np.dtype(array.dtype)


def _decode(file: Path) -> NDArray[Any]:
    return np.asarray(_open_section(file)[0])

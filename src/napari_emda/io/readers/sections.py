"""A folder of section images as one volume."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.lazy import SectionStack
from napari_emda.errors import DataError, listed
from napari_emda.io.palette import grey_table, is_grey
from napari_emda.io.reader import Reader, all_readers, check_library, readers
from napari_emda.io.section_names import (
    check_each_once,
    gaps,
    is_junk,
    natural,
    passed_over,
    several_series,
    unlike_the_others,
)
from napari_emda.io.units import Sizes, Stored, calibrated

# Kinds of sections or folders that a message lists.
_LISTED = 4


@readers.register("sections")
class Sections(Reader):
    """A folder of sections, one file each, in natural order of their names: 2 comes before 10."""

    formats: ClassVar = ("a folder of sections",)
    voxel_size: ClassVar = "that of its files, if all state the same"
    lazily: ClassVar = "section by section"
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
        becomes their "on" (255, or 1 if they hold nothing above 1). The voxel size is that which
        all files state.

        Args:
            path: an existing folder; hidden files, and files that no reader takes for a section,
                are not read.

        Returns:
            The sections; a notice on files that are not read, the gaps in the numbers, and a
            sentence if the names are those of tiles or of several series.

        Raises:
            DataError: no section in it, a colour or damaged one, sections of different shape or
                dtype, masks among the images, or every section twice.
        """
        files, others = _section_files(path)
        names = [file.name for file in files]
        check_each_once(path.name, names)
        # All headers, not the first one only: otherwise a file of another shape would be found only
        # when training reads it.
        headers = [_header(file) for file in files]
        section_shape = _common_shape(path, files, [header.shape for header in headers])
        dtype, on_value = _common_dtype(path, files, [header.dtype for header in headers])
        palettes = [header.palette for header in headers]
        palette = _common_palette(path, palettes)

        def read(z: int) -> NDArray[Any]:
            values = _decode(files[z])
            section_palette = palettes[z]
            if section_palette is not None and palette is None:
                values = grey_table(section_palette)[values]
            return values.astype(dtype) * dtype.type(on_value) if values.dtype != dtype else values

        # Most files of a single section state no distance to the next.
        sizes = {header.sizes for header in headers}
        stated = sizes.pop() if len(sizes) == 1 else (None, None, None)
        remarks = (passed_over(path.name, others), unlike_the_others(path.name, names))
        return Stored(
            SectionStack(read, (len(files), *section_shape), dtype),
            *calibrated(stated, ("nm", "nm", "nm")),
            notices=tuple(filter(None, remarks)),
            gap=gaps(path.name, names),
            not_a_volume=several_series(path.name, names),
            in_colour=any(header.in_colour for header in headers),
            palette=palette,
        )


def not_sections(folder: Path) -> str:
    """Why the files in a folder are not the sections of one volume; empty if they may be.

    By their names alone, for those who have read the folder in another way.
    """
    try:
        files, _ = _section_files(folder)
    except DataError:
        # It holds no sections, but something that others can read.
        return ""
    names = [file.name for file in files]
    try:
        check_each_once(folder.name, names)
    except DataError as error:
        return str(error)
    return several_series(folder.name, names)


def _section_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The sections in a folder, in natural order, and the names of all else in it."""
    suffixes = tuple(
        suffix for reader in all_readers() if reader.sections for suffix in reader.suffixes
    )
    with os.scandir(folder) as entries:
        # A folder may end in .tif, too.
        is_section = {
            entry.name: entry.name.lower().endswith(suffixes)
            and not is_junk(entry.name)
            and entry.is_file()
            for entry in entries
        }
    files = [folder / name for name in sorted(is_section, key=natural) if is_section[name]]
    others = [name for name in is_section if not is_section[name]]
    if not files:
        folders = [n for n in sorted(others, key=natural) if (folder / n).is_dir()][:_LISTED]
        inside = f", or choose a folder in it ({listed(folders, 'or')})" if folders else ""
        raise DataError(
            f"The folder {folder.name} holds no sections: put {', '.join(suffixes)} files "
            f"there{inside}."
        )
    return files, others


def _common_shape(
    folder: Path, files: list[Path], shapes: Sequence[tuple[int, ...]]
) -> tuple[int, int]:
    """Rows and columns of all sections."""
    counts = Counter(shapes)
    if len(counts) > 1:
        # The rarest last: it is what the user has to look for.
        kinds = [
            f"{count} of {' x '.join(map(str, shape))} such as {files[shapes.index(shape)].name}"
            for shape, count in counts.most_common()
        ]
        shown = kinds if len(kinds) <= _LISTED else [*kinds[: _LISTED - 1], "others"]
        raise DataError(
            f"The folder {folder.name} holds {listed(shown)}, and a volume has sections of one "
            "shape: crop or pad them to the same size, or move those of another size."
        )
    rows, columns = shapes[0]
    return rows, columns


def _common_palette(
    folder: Path, palettes: Sequence[NDArray[np.uint8] | None]
) -> NDArray[np.uint8] | None:
    """The table of colours of all sections; None if they have none, or each its own greys.

    Raises:
        DataError: different tables with colours, so that a number means a label here and another
            one there.
    """
    tables = [table for table in palettes if table is not None]
    if not tables:
        return None
    # Programs leave out the end of a table that a section does not need.
    longest = max(tables, key=len)
    if len(tables) == len(palettes) and all(
        np.array_equal(table, longest[: len(table)]) for table in tables
    ):
        return longest
    if not all(map(is_grey, tables)):
        raise DataError(
            f"The sections in {folder.name} have different tables of colours, so that a number "
            "does not mean the same in each: save all of them with one table, or as numbers."
        )
    return None


def _common_dtype(
    folder: Path, files: list[Path], dtypes: list[np.dtype[Any]]
) -> tuple[np.dtype[Any], int]:
    """The dtype of all sections, and the value in it that "on" in 1-bit sections becomes."""
    # The order of the bytes is no difference in the values.
    distinct = {dtype.newbyteorder("=") for dtype in dtypes}
    on_value = 1
    # As in the masks of the VNC data set: a program saved those with two values as 1-bit. Left at
    # 1 among sections of 0 and 255, they would be nearly black, and lost to a threshold of 127.
    if distinct == {np.dtype(bool), np.dtype(np.uint8)}:
        distinct = {np.dtype(np.uint8)}
        # A generator, so that decoding stops at the first section with a value above 1.
        grey = (file for file, dtype in zip(files, dtypes, strict=True) if dtype.kind != "b")
        on_value = 255 if any(_decode(file).max(initial=0) > 1 for file in grey) else 1
    if len(distinct) > 1:
        of_file = dict(zip(dtypes, files, strict=True))
        names = sorted(f"{dtype.name} (such as {file.name})" for dtype, file in of_file.items())
        raise DataError(
            f"The folder {folder.name} mixes sections of {listed(names)}: save all of them with "
            "the same number of bits."
        )
    return distinct.pop(), on_value


def _open_section(file: Path) -> Stored:
    reader = next(reader for reader in all_readers() if reader.sections and reader.takes(file))
    check_library(reader, file)
    return reader.open(file)


class _Header(NamedTuple):
    """What a section is, without its array, which may keep its file open: there are thousands."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    palette: NDArray[np.uint8] | None
    sizes: Sizes
    in_colour: bool


def _header(file: Path) -> _Header:
    """The header of a section, which is not decoded."""
    stored = _open_section(file)
    if stored.array.shape[0] > 1:
        raise DataError(
            f"{file.name} holds {stored.array.shape[0]} sections, but in a folder each file is "
            "one: choose that file itself."
        )
    array = stored.array
    dtype = np.dtype(array.dtype)
    return _Header(array.shape[1:], dtype, stored.palette, stored.sizes, stored.in_colour)


def _decode(file: Path) -> NDArray[Any]:
    return np.asarray(_open_section(file).array[0])

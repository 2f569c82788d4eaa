"""A folder of section images as one volume."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from napari_emda.data.lazy import SectionStack
from napari_emda.errors import DataError
from napari_emda.io.tiff import open_tiff
from napari_emda.io.units import Stored

TIFF_SUFFIXES = (".tif", ".tiff")
# Opened by their own classes, because PIL.Image.open refuses sections beyond 179 megapixels as "bombs".
PICTURES: dict[str, type[Any]] = {
    ".png": PngImageFile,
    ".jpg": JpegImageFile,
    ".jpeg": JpegImageFile,
}
SECTION_SUFFIXES = (*TIFF_SUFFIXES, *PICTURES)

_GREY_MODES = {
    "1": "bool",
    "L": "uint8",
    "I;16": "uint16",
    "I;16B": "uint16",
    "I": "int32",
    "F": "float32",
}


def open_sections(folder: Path) -> Stored:
    """Open a folder of sections (TIFF, PNG, JPEG), in natural order of their names: 2 comes before 10.

    Sections are decoded when they are asked for. Some programs store a section with only two values as 1-bit: next to
    8-bit sections its "on" becomes their "on" (255, or 1 where they hold nothing above 1).

    Args:
        folder: an existing folder; hidden files and other kinds of file in it are passed over.

    Returns:
        (z, y, x); folders state no voxel size.

    Raises:
        DataError: no section in it, a colour or damaged one, or sections of different shape or type.
    """
    paths = sorted(
        (
            p
            for p in folder.iterdir()
            if p.suffix.lower() in SECTION_SUFFIXES and not p.name.startswith(".")
        ),
        key=_natural,
    )
    if not paths:
        raise DataError(
            f"The folder {folder.name} holds no sections: put {', '.join(SECTION_SUFFIXES)} files there."
        )
    headers = [_header(path) for path in paths]
    for path, (shape, _) in zip(paths, headers, strict=True):
        if shape != headers[0][0]:
            raise DataError(
                f"{path.name} is {shape} but {paths[0].name} is {headers[0][0]}, and a volume has sections of one"
                " shape: crop or pad them to the same size."
            )
    kinds = {np.dtype(kind) for _, kind in headers}
    high = 1
    if kinds == {np.dtype(bool), np.dtype(np.uint8)}:
        kinds = {np.dtype(np.uint8)}
        grey = (path for path, (_, kind) in zip(paths, headers, strict=True) if kind.kind != "b")
        high = 255 if any(_decode(path).max(initial=0) > 1 for path in grey) else 1
    if len(kinds) > 1:
        names = " and ".join(sorted(kind.name for kind in kinds))
        raise DataError(
            f"The folder {folder.name} mixes sections of {names}: save all of them as one type."
        )
    dtype = kinds.pop()

    def read(z: int) -> NDArray[Any]:
        values = _decode(paths[z])
        return values.astype(dtype) * dtype.type(high) if values.dtype != dtype else values

    return Stored(SectionStack(read, (len(paths), *headers[0][0]), dtype))


def open_picture(path: Path) -> Stored:
    """Open a single PNG or JPEG as a volume of one section; DataError when it is coloured or damaged."""
    shape, dtype = _header(path)
    return Stored(SectionStack(lambda _: _decode(path), (1, *shape), dtype))


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _header(path: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape and type of a section, without decoding it."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        array = open_tiff(path).array
        if array.shape[0] > 1:
            raise DataError(
                f"{path.name} holds {array.shape[0]} sections, but in a folder each file is one: choose that file"
                " itself."
            )
        return (array.shape[1], array.shape[2]), np.dtype(array.dtype)
    with _picture(path) as picture:
        return (picture.height, picture.width), np.dtype(_GREY_MODES[picture.mode])


def _decode(path: Path) -> NDArray[Any]:
    if path.suffix.lower() in TIFF_SUFFIXES:
        return np.asarray(open_tiff(path).array[0])
    try:
        with _picture(path) as picture:
            return np.asarray(picture)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path.name} is damaged or cut short ({error}): copy it again.") from None


def _picture(path: Path) -> Image:
    try:
        picture: Image = PICTURES[path.suffix.lower()](path)
    except (
        OSError,
        ValueError,
        SyntaxError,
    ) as error:  # SyntaxError: PIL's word for "not this format"
        raise DataError(f"{path.name} cannot be read ({error}): save or copy it again.") from None
    if picture.mode not in _GREY_MODES:
        mode = picture.mode
        picture.close()
        raise DataError(f"{path.name} is a colour image ({mode}): convert it to grey values.")
    return picture

"""PNG and JPEG pictures: one section each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from napari_emda.data.lazy import SectionStack
from napari_emda.errors import DataError
from napari_emda.io.equal_channels import grey_values
from napari_emda.io.reader import Reader, readers
from napari_emda.io.units import Stored

# Opened by their own classes, because PIL.Image.open refuses sections beyond 179 megapixels as
# "decompression bombs", and montages of electron microscopes are larger than that.
PICTURES: dict[str, type[Any]] = {
    ".png": PngImageFile,
    ".jpg": JpegImageFile,
    ".jpeg": JpegImageFile,
}
# Pillow's names of its pixel formats without colours, and what np.asarray makes of them. "P" are
# numbers in a table of colours.
_GREY_MODES = {
    "1": "bool",
    "L": "uint8",
    "I;16": "uint16",
    "I;16B": "uint16",
    "I": "int32",
    "F": "float32",
    "P": "uint8",
}
# Formats in which grey values are saved often, with equal colours or with an opacity.
_COLOUR_MODES = ("LA", "RGB", "RGBA")

# A file cannot hold more bytes of pixels than this for each of its own: Deflate writes at least a
# bit for 258 bytes of two bits of length and distance each (zlib's manual: 1032 to 1).
_LARGEST_RATIO = 1032
# What Pillow raises on damaged files; SyntaxError means "not this format".
_UNREADABLE = (OSError, ValueError, SyntaxError)


@readers.register("pictures")
class Pictures(Reader):
    """PNG and JPEG images in grey values, as volumes of one section; they state no voxel size."""

    formats: ClassVar = ("PNG", "JPEG")
    suffixes: ClassVar = tuple(PICTURES)
    sections: ClassVar = True
    lazily: ClassVar = "section by section"

    @classmethod
    def open(cls, path: Path) -> Stored:
        """Read shape and dtype from the header; the picture is decoded when it is sliced."""
        with _picture(path) as picture:
            shape = (1, picture.height, picture.width)
            in_colour = picture.mode in _COLOUR_MODES
            dtype = np.dtype(np.uint8 if in_colour else _GREY_MODES[picture.mode])
            palette = _palette(picture)
        array = SectionStack(lambda _: _decode(path), shape, dtype)
        return Stored(array, in_colour=in_colour, palette=palette)


def _palette(picture: Image) -> NDArray[np.uint8] | None:
    colours = picture.getpalette("RGB") if picture.mode == "P" else None
    return None if colours is None else np.array(colours, np.uint8).reshape(-1, 3)


def _decode(path: Path) -> NDArray[Any]:
    try:
        with _picture(path) as picture:
            values = np.asarray(picture)
    except _UNREADABLE as error:
        raise DataError(f"{path.name} is damaged or cut short ({error}): copy it again.") from None
    return values if values.ndim == 2 else grey_values(values, path.name)


def _picture(path: Path) -> Image:
    try:
        picture: Image = PICTURES[path.suffix.lower()](path)
    except _UNREADABLE as error:
        raise DataError(f"{path.name} cannot be read ({error}): save or copy it again.") from None
    if fault := _fault(picture, path):
        # Nobody else will: the caller gets an exception instead of the picture.
        picture.close()
        raise DataError(f"{path.name} {fault}.")
    return picture


def _fault(picture: Image, path: Path) -> str:
    """Why a picture cannot be used, with the remedy; empty if it can."""
    mode = picture.mode
    # The format in the file, of which Pillow would drop the lower eight bits.
    # Of the base class Pillow declares no "tile", which all of its readers fill.
    tiles = getattr(picture, "tile", ())
    in_file = str(tiles[0][3]) if tiles else ""
    if (mode not in _GREY_MODES and mode not in _COLOUR_MODES) or in_file.endswith(";16B") > (
        mode in _GREY_MODES
    ):
        return f"is a colour image ({in_file or mode}): convert it to grey values"
    # A pixel of a PNG takes a bit at least.
    most_pixels = 8 * _LARGEST_RATIO * path.stat().st_size
    if path.suffix.lower() == ".png" and picture.width * picture.height > most_pixels:
        return (
            f"says that it has {picture.width} x {picture.height} pixels, but holds fewer: save or "
            "copy it again"
        )
    return ""

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
from napari_emda.io.reader import Reader, readers
from napari_emda.io.units import Stored

# Opened by their own classes, because PIL.Image.open refuses sections beyond 179 megapixels as
# "decompression bombs", and montages of electron microscopes are larger than that.
PICTURES: dict[str, type[Any]] = {
    ".png": PngImageFile,
    ".jpg": JpegImageFile,
    ".jpeg": JpegImageFile,
}
# Pillow's names of its grey pixel formats, and what np.asarray makes of them. All others have
# colours, a palette or transparency.
_GREY_MODES = {
    "1": "bool",
    "L": "uint8",
    "I;16": "uint16",
    "I;16B": "uint16",
    "I": "int32",
    "F": "float32",
}
# What Pillow raises on damaged files; SyntaxError means "not this format".
_UNREADABLE = (OSError, ValueError, SyntaxError)


@readers.register("pictures")
class Pictures(Reader):
    """PNG and JPEG images in grey values, as volumes of one section; they state no voxel size."""

    formats: ClassVar = ("PNG", "JPEG")
    suffixes: ClassVar = tuple(PICTURES)
    sections: ClassVar = True

    @classmethod
    def open(cls, path: Path) -> Stored:
        """Read shape and dtype from the header; the picture is decoded when it is sliced."""
        with _picture(path) as picture:
            shape = (1, picture.height, picture.width)
            dtype = np.dtype(_GREY_MODES[picture.mode])
        return Stored(SectionStack(lambda _: _decode(path), shape, dtype))


def _decode(path: Path) -> NDArray[Any]:
    try:
        with _picture(path) as picture:
            return np.asarray(picture)
    except _UNREADABLE as error:
        raise DataError(f"{path.name} is damaged or cut short ({error}): copy it again.") from None


def _picture(path: Path) -> Image:
    try:
        picture: Image = PICTURES[path.suffix.lower()](path)
    except _UNREADABLE as error:
        raise DataError(f"{path.name} cannot be read ({error}): save or copy it again.") from None
    if picture.mode not in _GREY_MODES:
        mode = picture.mode
        # Nobody else will: the caller gets an exception instead of the picture.
        picture.close()
        raise DataError(f"{path.name} is a colour image ({mode}): convert it to grey values.")
    return picture

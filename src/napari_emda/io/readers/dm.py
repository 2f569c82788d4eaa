"""Gatan's images, as Digital Micrograph and the 3View write them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import numpy as np

from napari_emda.errors import DataError
from napari_emda.io.axes import raw_volume
from napari_emda.io.dm_tags import Tags
from napari_emda.io.location import Part, SeveralImages, chosen_scene
from napari_emda.io.reader import MultiImageReader, readers
from napari_emda.io.units import Calibration, Stored, calibrated

# Types of voxels, by the codes of Digital Micrograph's images.
_TYPES = {
    1: "i2",
    2: "f4",
    6: "u1",
    7: "i4",
    9: "i1",
    10: "u2",
    11: "u4",
    12: "f8",
    14: "u1",
    39: "i8",
    40: "u8",
}
# Red, green, blue and opacity, as thumbnails have it.
_COLOUR = 23


@readers.register("dm")
class Dm(MultiImageReader):
    """DM3 and DM4 images and stacks of Gatan's Digital Micrograph and 3View."""

    formats: ClassVar = ("DM3", "DM4")
    suffixes: ClassVar = (".dm3", ".dm4")
    # A 3View writes a file for each section.
    sections: ClassVar = True
    voxel_size: ClassVar = "calibration of each axis"

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """Read the tags of an image; voxels are read where they are sliced."""
        tags = Tags(path)
        image = _image(tags, part, path)
        data = tags.tags[f"{image}/Data"]
        code = tags.whole(f"{image}/DataType")
        if code == _COLOUR:
            raise DataError(f"{path.name} is a colour image: convert it to grey values.")
        if code not in _TYPES:
            raise DataError(
                f"{path.name} holds values of Digital Micrograph's type {code}, which are no grey "
                "values: save it as real numbers."
            )
        dtype = np.dtype(_TYPES[code]).newbyteorder(data.dtype.byteorder)
        shape = _shape(tags, image)
        if math.prod(shape) * dtype.itemsize != data.nbytes:
            raise ValueError(f"{data.nbytes} bytes of voxels for {shape} of {dtype.itemsize}")
        names = ["z", "y", "x"][-len(shape) :] if len(shape) <= 3 else None
        volume = raw_volume(path, shape, names, part, dtype, data.offset, also=["scene"])
        return Stored(volume, *_calibration(tags, image))


def _image(tags: Tags, part: Part, path: Path) -> str:
    """Path of the image that is meant, which is the largest: others are thumbnails."""
    images = [
        f"ImageList/{number}/ImageData"
        for number in range(tags.unnamed.get("ImageList/", 0))
        if f"ImageList/{number}/ImageData/Data" in tags.tags
    ]
    if not images:
        raise DataError(f"{path.name} holds no image: choose another file.")
    grey = [name for name in images if tags.whole(f"{name}/DataType") != _COLOUR]
    scenes = _largest(tags, grey or images)
    scene = chosen_scene(part, len(scenes), path.name)
    if len(scenes) > 1 and "scene" not in part.at:
        raise SeveralImages(
            f"{path.name} holds {len(scenes)} images of the same size: choose one by its number "
            f"from 0 on, as in '{path.name}?scene=0'.",
            [Part(part.inside, {**part.at, "scene": k}) for k in range(len(scenes))],
        )
    return scenes[scene]


def _largest(tags: Tags, names: list[str]) -> list[str]:
    counts = {name: math.prod(_shape(tags, name)) for name in names}
    return [name for name in names if counts[name] == max(counts.values())]


def _shape(tags: Tags, image: str) -> tuple[int, ...]:
    """Voxels along the axes, x last."""
    numbers = [
        tags.whole(f"{image}/Dimensions/{axis}") or 0
        for axis in range(tags.unnamed.get(f"{image}/Dimensions/", 0))
    ]
    if not numbers or min(numbers) < 1:
        raise ValueError(f"a size of {numbers}")
    return tuple(reversed(numbers))


def _calibration(tags: Tags, image: str) -> Calibration:
    """The voxel size, from the scale and unit of each axis, x first."""
    sizes: list[float | None] = []
    units: list[str | None] = []
    for axis in range(3):
        place = f"{image}/Calibrations/Dimension/{axis}"
        scale = tags.number(f"{place}/Scale")
        # Numbers of 32 bits: 8 nm would be 8.000000119.
        sizes.append(None if scale is None else float(f"{abs(scale):.6g}"))
        # Without a unit, 1 is no size.
        units.append(tags.text(f"{place}/Units") or None)
    return calibrated(
        [size if unit else None for size, unit in zip(sizes, units, strict=True)][::-1],
        units[::-1],
    )

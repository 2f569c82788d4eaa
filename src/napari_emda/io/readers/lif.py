"""Leica's image files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from napari_emda.errors import DataError, listed
from napari_emda.io.axes import raw_volume
from napari_emda.io.location import Part, SeveralImages, chosen_scene
from napari_emda.io.reader import MultiImageReader, readers
from napari_emda.io.units import Calibration, Stored, calibrated, number

if TYPE_CHECKING:
    from liffile import LifImageABC

# Names of images that a message lists.
_LISTED = 5
# The numbers that Leica gives to the axes of space.
_NUMBERS = {"Z": "3", "Y": "2", "X": "1"}


@readers.register("lif")
class Lif(MultiImageReader):
    """Leica's LIF and LOF images; of several in a file, choose one as `file.lif?scene=1`."""

    formats: ClassVar = ("LIF",)
    suffixes: ClassVar = (".lif", ".lof")
    library: ClassVar = "liffile"
    voxel_size: ClassVar = "length of each axis"

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """Read the description of an image; voxels are read where they are sliced."""
        from liffile import LifFile, LifFileType

        with LifFile(path) as file:
            # Other kinds keep their voxels in files of any name and place.
            if file.type not in (LifFileType.LIF, LifFileType.LOF):
                raise DataError(
                    f"{path.name} has its voxels in other files: export the image as LIF or TIFF."
                )
            image = _image(list(file.images), part, path)
            block = image.memory_block
            sizes = dict(image.sizes)
            dtype = np.dtype(image.dtype)
            offset = int(block.offset)
            expected = math.prod(sizes.values()) * dtype.itemsize
            size = _calibration(image)
            in_order = _is_in_order(image, sizes, dtype.itemsize)
        if min(sizes.values()) < 1:
            raise ValueError(f"a size of {sizes}")
        if block.frames or offset < 0 or block.size != expected or not in_order:
            raise DataError(
                f"{path.name} holds {block.size} bytes of voxels in an order that it does not "
                f"describe as {sizes}: export the image as TIFF."
            )
        if sizes.get("S", 1) > 1:
            raise DataError(f"{path.name} is a colour image: convert it to grey values.")
        names = [axis.lower() for axis in sizes]
        volume = raw_volume(path, tuple(sizes.values()), names, part, dtype, offset, also=["scene"])
        return Stored(volume, *size)


def _image(images: list[LifImageABC], part: Part, path: Path) -> LifImageABC:
    """The image that is meant."""
    if not images:
        raise DataError(f"{path.name} holds no image: choose another file.")
    scene = chosen_scene(part, len(images), path.name)
    if len(images) > 1 and "scene" not in part.at:
        names = [image.path for image in images]
        shown = [*names[:_LISTED], "others"] if len(names) > _LISTED else names
        raise SeveralImages(
            f"{path.name} holds {len(images)} images ({listed(shown)}): choose one by its number "
            f"from 0 on, as in '{path.name}?scene=0'.",
            [Part(part.inside, {**part.at, "scene": k}) for k in range(len(images))],
            titles=names,
        )
    return images[scene]


def _is_in_order(image: LifImageABC, sizes: dict[str, int], itemsize: int) -> bool:
    """Whether the voxels follow each other as the sizes say, the last axis first."""
    stated = {
        axis.get("DimID"): number(axis.get("BytesInc"))
        for axis in image.xml_element.iter("DimensionDescription")
        if axis.get("NumberOfElements") != "1"
    }
    stride = itemsize
    for axis, size in reversed(sizes.items()):
        if stated.get(_NUMBERS.get(axis, ""), stride) != stride:
            return False
        stride *= size
    return True


def _calibration(image: LifImageABC) -> Calibration:
    """The voxel size: Leica states the length from the first voxel of an axis to the last."""
    sizes: dict[str, float] = {}
    units: dict[str, str] = {}
    for axis in image.xml_element.iter("DimensionDescription"):
        steps = (number(axis.get("NumberOfElements")) or 0) - 1
        length = number(axis.get("Length"))
        if steps > 0 and length:
            # Twelve digits of a number that was computed from others are noise.
            sizes[axis.get("DimID", "")] = float(f"{abs(length) / steps:.8g}")
            units[axis.get("DimID", "")] = axis.get("Unit", "")
    axes = _NUMBERS.values()
    return calibrated([sizes.get(axis) for axis in axes], [units.get(axis) for axis in axes])

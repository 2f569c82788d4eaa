"""N5 arrays, as BigDataViewer, Paintera and the COSEM project write them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from napari_emda.data.units import nanometres
from napari_emda.errors import DataError, listed
from napari_emda.io.axes import volume_of
from napari_emda.io.description import description, numbers
from napari_emda.io.location import Part
from napari_emda.io.reader import MultiImageReader, readers
from napari_emda.io.section_names import natural
from napari_emda.io.tensorstore_array import TensorStoreArray
from napari_emda.io.units import Calibration, Stored, calibrated

_ATTRIBUTES = "attributes.json"
# Folders that are looked into for arrays, and names that a message lists.
_LOOKED_AT = 2000
_LISTED = 5
# The axes of an array that does not name them, the fastest first.
_AXES = ("x", "y", "z", "c", "t")


@readers.register("n5")
class N5(MultiImageReader):
    """N5 arrays and pyramids (BigDataViewer, Paintera, COSEM); choose one by its folder."""

    formats: ClassVar = ("N5",)
    library: ClassVar = "tensorstore"
    voxel_size: ClassVar = "`transform`, `pixelResolution` or `resolution` (nm)"

    @classmethod
    def takes(cls, path: Path) -> bool:
        """A folder with the attributes of N5, or one that is called so or lies in one."""
        if not path.is_dir():
            return False
        if any(folder.suffix == ".n5" for folder in (path, *list(path.parents)[:3])):
            return True
        return bool({"n5", "dimensions"} & description(path / _ATTRIBUTES).keys())

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """The ``level`` of a pyramid, at a channel or time."""
        folder = _array_in(path, part.at.get("level", 0))
        attributes = description(folder / _ATTRIBUTES)
        array = TensorStoreArray("n5", folder)
        axes = attributes.get("axes")
        names = list(_AXES[: len(array.shape)])
        if isinstance(axes, list) and len(axes) == len(names):
            names = [str(axis) for axis in axes]
        also = ["level"] if folder != path else []
        volume = volume_of(array, names, part, path.name, also=also)
        calibration = _calibration(attributes, description(folder.parent / _ATTRIBUTES))
        return Stored(volume, *calibration, origin=_origin(attributes))


def _array_in(path: Path, level: int) -> Path:
    """The folder of the array that is meant.

    Raises:
        DataError: there is none, or there are several.
    """
    if _is_array(path):
        return path
    if _is_array(path / "s0"):
        if not _is_array(path / f"s{level}"):
            raise DataError(f"{path.name} has no level {level}: choose another one.")
        return path / f"s{level}"
    found = sorted(_images(path), key=natural)
    if len(found) == 1:
        return _array_in(path / found[0], level)
    if not found:
        raise DataError(f"{path.name} is an N5 folder without an image: choose another folder.")
    shown = [*found[:_LISTED], "others"] if len(found) > _LISTED else found
    raise DataError(
        f"{path.name} holds {len(found)} images ({listed(shown)}): choose one of them, such as "
        f"{path.name}/{found[0]}."
    )


def _is_array(path: Path) -> bool:
    return "dimensions" in description(path / _ATTRIBUTES)


def _images(folder: Path) -> Iterator[str]:
    """Paths of arrays and pyramids in a folder."""
    waiting = [folder]
    count = 0
    while waiting and count < _LOOKED_AT:
        with os.scandir(waiting.pop(0)) as entries:
            # Links are not followed: they may lead back here.
            folders = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
        for inner in folders:
            count += 1
            if _is_array(inner) or _is_array(inner / "s0"):
                yield inner.relative_to(folder).as_posix()
            else:
                waiting.append(inner)


def _calibration(array: dict[str, Any], group: dict[str, Any]) -> Calibration:
    """The voxel size by the attributes of an array, or by those of its pyramid."""
    if (found := _transform(array)) is not None:
        scale, _, units = found
        return calibrated(scale, units)
    for attributes, factors in (
        (array, [1.0] * 3),
        (group, numbers(array.get("downsamplingFactors"), 3) or [1.0] * 3),
    ):
        resolution = attributes.get("pixelResolution", attributes.get("resolution"))
        # Without a unit, Paintera and its relatives mean nm.
        unit = attributes.get("unit", "nm")
        if isinstance(resolution, dict):
            unit = resolution.get("unit")
            resolution = resolution.get("dimensions")
        sizes = numbers(resolution, 3)
        if sizes is not None:
            scale = [size * factor for size, factor in zip(sizes, factors, strict=True)]
            return calibrated(scale[::-1], [str(unit)] * 3)
    return Calibration()


def _origin(attributes: dict[str, Any]) -> tuple[float, float, float]:
    """The position that COSEM's files state, in nm."""
    found = _transform(attributes)
    if found is None:
        return (0.0, 0.0, 0.0)
    _, translation, units = found
    z, y, x = (
        position * (nanometres(unit) or 0.0)
        for position, unit in zip(translation, units, strict=True)
    )
    return z, y, x


def _transform(attributes: dict[str, Any]) -> tuple[list[float], list[float], list[str]] | None:
    """Scale, translation and units along z, y, x, as COSEM's files state them by axis."""
    transform = attributes.get("transform")
    if not isinstance(transform, dict):
        return None
    axes = transform.get("axes")
    units = transform.get("units")
    scale = numbers(transform.get("scale"), 3)
    if not isinstance(axes, list) or sorted(map(str, axes)) != ["x", "y", "z"]:
        return None
    if scale is None or not isinstance(units, list) or len(units) != 3:
        return None
    translation = numbers(transform.get("translate"), 3) or [0.0] * 3
    order = [axes.index(axis) for axis in "zyx"]
    return (
        [scale[k] for k in order],
        [translation[k] for k in order],
        [str(units[k]) for k in order],
    )

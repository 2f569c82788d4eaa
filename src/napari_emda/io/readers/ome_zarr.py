"""Zarr arrays and OME-Zarr images (NGFF 0.4 in zarr 2, 0.5 in zarr 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import zarr
from pydantic import ValidationError
from zarr.errors import BaseZarrError

from napari_emda.data.lazy import AxisView
from napari_emda.errors import DataError
from napari_emda.io.chunk_files import ChunkFiles
from napari_emda.io.reader import Reader, readers
from napari_emda.io.units import Stored, calibrated

# A folder with one of these files is zarr: format 3, or an array or a group of format 2.
MARKERS = ("zarr.json", ".zarray", ".zgroup")


@readers.register("ome_zarr")
class OmeZarr(Reader):
    """OME-Zarr images (NGFF 0.4 and 0.5) and plain zarr arrays, read chunk by chunk."""

    formats: ClassVar = ("OME-Zarr", "zarr")

    @classmethod
    def takes(cls, path: Path) -> bool:
        """A folder that is a zarr array or group."""
        return path.is_dir() and (
            path.suffix == ".zarr" or any((path / name).exists() for name in MARKERS)
        )

    @classmethod
    def open(cls, path: Path) -> Stored:
        """The array, or the finest level of the image; see `open_zarr`."""
        return open_zarr(path)


def open_zarr(path: Path) -> Stored:
    """Open a zarr array, or the finest level of an OME-Zarr image.

    Args:
        path: an existing folder.

    Returns:
        (z, y, x), read chunk by chunk; the voxel size from the OME metadata.

    Raises:
        DataError: not zarr, no image in it, more than one channel or time point, or axes in another
            order.
    """
    try:
        node = zarr.open(path, mode="r")
    except (OSError, ValueError, KeyError, BaseZarrError) as error:
        raise DataError(f"{path.name} cannot be read as zarr ({error}): copy it again.") from None
    if isinstance(node, zarr.Array):
        return Stored(_volume(node, path))
    return _open_image(node, path)


def _open_image(group: zarr.Group, path: Path) -> Stored:
    image = _multiscale(group, path)
    # NGFF orders the levels of a pyramid from the finest to the coarsest.
    finest = image.datasets[0]
    try:
        array = group[finest.path]
    except KeyError:
        raise DataError(
            f"{path.name} names a level '{finest.path}' that is not in it: copy it again."
        ) from None
    names = [str(axis.name) for axis in image.axes]
    if not isinstance(array, zarr.Array) or array.ndim != len(names):
        raise DataError(
            f"{path.name} describes {len(names)} axes, which its data do not have: write it again."
        )
    if [name for name in names if name in "zyx"] not in (["z", "y", "x"], ["y", "x"]):
        raise DataError(
            f"{path.name} has its axes as {', '.join(names)}, but z, y, x is needed: transpose it."
        )
    volume = _volume(array, path, names)
    sizes, units = _voxel_size(image, names)
    return Stored(volume, *calibrated(sizes, units))


def _voxel_size(image: Any, names: list[str]) -> tuple[list[float | None], list[str | None]]:
    """Sizes and units of the finest level along z, y, x, as the metadata state them."""
    scale = np.ones(len(names))
    # NGFF applies the transformations of a level first, then those of the whole pyramid.
    transformations = (
        *image.datasets[0].coordinateTransformations,
        *(image.coordinateTransformations or ()),
    )
    for step in transformations:
        # The other kind of scale in NGFF is a path to an array of numbers.
        if step.type == "scale" and hasattr(step, "scale"):
            scale *= step.scale
    size_of = dict(zip(names, scale.tolist(), strict=True))
    unit_of = {str(axis.name): axis.unit for axis in image.axes}
    sizes = [size_of.get(axis) for axis in "zyx"]
    units = [None if unit_of.get(axis) is None else str(unit_of[axis]) for axis in "zyx"]
    return sizes, units


def _multiscale(group: zarr.Group, path: Path) -> Any:
    """The first image of an OME-Zarr group, as ome-zarr-models describes it."""
    # Imported here, because importing these models takes longer than opening the file.
    from ome_zarr_models import v04, v05

    attributes = group.attrs.asdict()
    try:
        # NGFF 0.5 moved everything below the key "ome"; in 0.4 it lay at the top.
        if "ome" in attributes:
            return v05.image.ImageAttrs.model_validate(attributes["ome"]).multiscales[0]
        if "multiscales" in attributes:
            return v04.image.ImageAttrs.model_validate(attributes).multiscales[0]
    except ValidationError as error:
        # pydantic lists all faults; the first one fits into a sentence.
        fault = error.errors()[0]
        location = ".".join(map(str, fault["loc"]))
        raise DataError(
            f"{path.name} is not OME-Zarr 0.4 or 0.5 ({location}: {fault['msg']}): write it again, "
            "or choose the array in it."
        ) from None
    # Five names are enough to see what the group holds; some groups hold thousands of arrays.
    names = ", ".join(sorted(group.array_keys())[:5])
    raise DataError(
        f"{path.name} is a zarr group without an OME-Zarr image: choose an array in it "
        f"({names or 'there is none'})."
    )


def _volume(array: zarr.Array[Any], path: Path, names: list[str] | None = None) -> AxisView:
    """The array as (z, y, x), without its axes of length one.

    Args:
        array: as stored.
        path: for the messages.
        names: of its axes; None for a plain zarr array, which does not name them.
    """
    if array.ndim < 2:
        raise DataError(
            f"{path.name} has {array.ndim} axis, but a volume has z, y and x: choose an image."
        )
    # Axes without names: RGB and RGBA (y, x, 3 or 4) are recognised by their shape, because volumes
    # are hardly ever three or four pixels wide. Tiny ones, with at most 4 sections, pass.
    if names is None and array.ndim == 3 and array.shape[-1] in (3, 4) and array.shape[0] > 4:
        raise DataError(
            f"{path.name} looks like a colour image {array.shape}: convert it to grey values."
        )
    section_axis = names.index("z") if names and "z" in names else None
    # Channels, time points and the like: a volume has one of each.
    others = [axis for axis, n in enumerate(array.shape[:-2]) if n > 1 and axis != section_axis]
    # In a plain array, the only long axis besides y and x holds the sections.
    if names is None and len(others) == 1:
        section_axis = others.pop()
    if others:
        raise DataError(
            f"{path.name} has the shape {array.shape}, but a volume has z, y and x: save one "
            "channel of one time point."
        )
    return AxisView(ChunkFiles(array), section_axis)

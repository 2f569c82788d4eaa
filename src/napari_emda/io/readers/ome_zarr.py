"""Zarr arrays and OME-Zarr images (NGFF 0.4 in zarr 2, 0.5 in zarr 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import zarr
from pydantic import ValidationError
from zarr.errors import BaseZarrError

from napari_emda.data.lazy import AxisView
from napari_emda.data.units import nanometres
from napari_emda.errors import DataError, listed
from napari_emda.io.checked_store import CheckedStore
from napari_emda.io.chunk_files import ChunkFiles
from napari_emda.io.reader import Reader, readers
from napari_emda.io.section_names import natural
from napari_emda.io.units import Stored, calibrated

# A folder with one of these files is zarr: format 3, or an array or a group of format 2.
MARKERS = ("zarr.json", ".zarray", ".zgroup")

# Images that a message lists; a plate or a series may hold thousands.
_LISTED = 5


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
        # Links are followed: users link their images, and images are only read.
        node = zarr.open(CheckedStore(path, read_only=True, follow_links=True), mode="r")
    except (OSError, ValueError, KeyError, BaseZarrError) as error:
        raise DataError(f"{path.name} cannot be read as zarr ({error}): copy it again.") from None
    if isinstance(node, zarr.Array):
        return Stored(_volume(node, path))
    return _open_image(_image_group(node, path), path)


def _image_group(group: zarr.Group, path: Path) -> zarr.Group:
    """The group of the image in a folder: itself, or the only one in it.

    The root that bioformats2raw writes holds numbered images, and "labels" holds named ones.

    Raises:
        DataError: there are several images, and the user has to choose.
    """
    metadata = _metadata(group)
    if "multiscales" in metadata:
        return group
    if "plate" in metadata:
        raise DataError(
            f"{path.name} is a plate of wells: choose one image in it, such as "
            f"{path.name}/{_first_field(metadata)}."
        )
    images = {name: child for name, child in group.groups() if "multiscales" in _metadata(child)}
    if len(images) > 1:
        names = sorted(images, key=natural)
        shown = [*names[:_LISTED], "others"] if len(names) > _LISTED else names
        kind = "labels" if path.name == "labels" else "images"
        raise DataError(
            f"{path.name} holds {len(images)} {kind} ({listed(shown)}): choose one of them, such "
            f"as {path.name}/{names[0]}."
        )
    return next(iter(images.values()), group)


def _metadata(group: zarr.Group) -> dict[str, Any]:
    """The OME metadata of a group: below the key "ome" in NGFF 0.5, at the top in 0.4."""
    attributes = group.attrs.asdict()
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, dict) else {}


def _first_field(metadata: dict[str, Any]) -> str:
    """The path of the first image of a plate, if its metadata are as they should be."""
    try:
        return f"{metadata['plate']['wells'][0]['path']}/0"
    except (LookupError, TypeError):
        return "A/1/0"


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
    scale, translation = _placement(image, len(names))
    size_of = dict(zip(names, scale, strict=True))
    unit_of = {str(axis.name): None if axis.unit is None else str(axis.unit) for axis in image.axes}
    units = [unit_of.get(axis) for axis in "zyx"]
    calibration = calibrated([size_of.get(axis) for axis in "zyx"], units)
    position_of = dict(zip(names, translation, strict=True))
    z, y, x = (
        position_of.get(axis, 0.0) * (nanometres(unit) or 0.0)
        for axis, unit in zip("zyx", units, strict=True)
    )
    return Stored(volume, *calibration, origin=(z, y, x))


def _placement(image: Any, axes: int) -> tuple[list[float], list[float]]:
    """Scale and translation of the finest level along all axes, as the metadata state them."""
    scale = np.ones(axes)
    translation = np.zeros(axes)
    # NGFF applies the transformations of a level first, then those of the whole pyramid.
    transformations = (
        *image.datasets[0].coordinateTransformations,
        *(image.coordinateTransformations or ()),
    )
    for step in transformations:
        # The other kind of both in NGFF is a path to an array of numbers.
        if step.type == "scale" and hasattr(step, "scale"):
            scale *= step.scale
            translation *= step.scale
        elif step.type == "translation" and hasattr(step, "translation"):
            translation += step.translation
    return scale.tolist(), translation.tolist()


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
    names = sorted(group.array_keys())[:5]
    remedy = f"choose an array in it ({', '.join(names)})" if names else "choose another folder"
    raise DataError(f"{path.name} is a zarr group without an OME-Zarr image: {remedy}.")


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

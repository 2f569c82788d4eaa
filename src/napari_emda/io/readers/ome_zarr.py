"""Zarr arrays and OME-Zarr images (NGFF 0.3 and 0.4 in zarr 2, 0.5 in zarr 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import zarr
from pydantic import ValidationError
from zarr.errors import BaseZarrError

from napari_emda.data.units import nanometres
from napari_emda.errors import DataError, listed
from napari_emda.io.axes import volume_of
from napari_emda.io.checked_store import CheckedStore
from napari_emda.io.checked_zip import CheckedZip
from napari_emda.io.chunk_files import ChunkFiles
from napari_emda.io.location import AXES, WHOLE, Part, SeveralImages
from napari_emda.io.reader import MultiImageReader, readers
from napari_emda.io.section_names import natural
from napari_emda.io.units import Stored, calibrated
from napari_emda.io.zip_damage import DAMAGE

# A folder with one of these files is zarr: format 3, or an array or a group of format 2.
MARKERS = ("zarr.json", ".zarray", ".zgroup")

# Images that a message lists; a plate or a series may hold thousands.
_LISTED = 5


@readers.register("ome_zarr")
class OmeZarr(MultiImageReader):
    """OME-Zarr images (NGFF 0.3 to 0.5) and plain zarr arrays, in folders or zip files."""

    formats: ClassVar = ("OME-Zarr", "zarr")
    suffixes: ClassVar = (".zarr.zip", ".ozx")
    voxel_size: ClassVar = "`coordinateTransformations`, with the units of the axes"

    @classmethod
    def takes(cls, path: Path) -> bool:
        """A folder that is a zarr array or group, or a zip file of one."""
        return super().takes(path) or (
            path.is_dir()
            and (path.suffix == ".zarr" or any((path / name).exists() for name in MARKERS))
        )

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """A channel, time or level (the finest by default), or an image in a zip file."""
        return open_zarr(path, part)


def open_zarr(path: Path, part: Part = WHOLE) -> Stored:
    """Open a zarr array, or a level of an OME-Zarr image.

    Args:
        path: an existing folder or zip file.
        part: channel, time, and ``level`` of the pyramid, by default 0, the finest; in a zip file
            also the path of the image.

    Returns:
        (z, y, x), read chunk by chunk; the voxel size from the OME metadata.

    Raises:
        DataError: not zarr, no image in it, several channels or times of which none is chosen, or
            no such level.
    """
    try:
        node = _node(path, part.inside)
    except (OSError, BaseZarrError, *DAMAGE) as error:
        raise DataError(f"{path.name} cannot be read as zarr ({error}): copy it again.") from None
    return open_node(node, path.name, part, within="/" if path.is_dir() else ":/")


def open_node(node: zarr.Array[Any] | zarr.Group, name: str, part: Part, *, within: str) -> Stored:
    """Open an array, or the image in a group.

    Args:
        node: opened for reading.
        name: for the messages.
        part: see `open_zarr`.
        within: what stands between the name and the path of an image in the group.

    Raises:
        DataError: see `open_zarr`.
    """
    if isinstance(node, zarr.Array):
        return Stored(volume_of(ChunkFiles(node), _dimension_names(node), part, name))
    return _open_image(_image_group(node, name, within), name, part)


def _node(path: Path, inside: str) -> zarr.Array[Any] | zarr.Group:
    """The array or group of a folder, or of a path in a zip file."""
    if path.is_dir():
        # Links are followed: users link their images, and images are only read.
        return zarr.open(CheckedStore(path, read_only=True, follow_links=True), mode="r")
    store = CheckedZip(path)
    try:
        return zarr.open(store, path="/".join(filter(None, [store.folder, inside])), mode="r")
    except BaseException:
        store.close()
        raise


def _dimension_names(array: zarr.Array[Any]) -> list[str] | None:
    """Names of the axes of a plain array, where it has such that say what is x and y.

    Format 3 has a place for them, and in format 2 xarray has made one.
    """
    stated = getattr(array.metadata, "dimension_names", None)
    stated = stated or array.attrs.asdict().get("_ARRAY_DIMENSIONS")
    if not isinstance(stated, list | tuple) or len(stated) != array.ndim:
        return None
    names = [str(name).lower() for name in stated]
    if not {"y", "x"} <= set(names) or len(set(names)) < len(names):
        return None
    others = [axis for axis, name in enumerate(names) if name not in ("y", "x")]
    # The only further axis holds the sections, whatever it is called.
    if len(others) == 1:
        names[others[0]] = "z"
    return [AXES.get(name, name) for name in names]


def _image_group(group: zarr.Group, file: str, within: str) -> zarr.Group:
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
            f"{file} is a plate of wells: choose one image in it, such as "
            f"{file}/{_first_field(metadata)}."
        )
    images = {name: child for name, child in group.groups() if "multiscales" in _metadata(child)}
    if len(images) > 1:
        names = sorted(images, key=natural)
        shown = [*names[:_LISTED], "others"] if len(names) > _LISTED else names
        kind = "labels" if file == "labels" else "images"
        raise SeveralImages(
            f"{file} holds {len(images)} {kind} ({listed(shown)}): choose one of them, such "
            f"as {file}{within}{names[0]}.",
            # In a folder, an image is a path of its own.
            [] if within == "/" else [Part(name) for name in names],
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


def _open_image(group: zarr.Group, file: str, part: Part) -> Stored:
    image = _multiscale(group, file)
    # NGFF orders the levels of a pyramid from the finest to the coarsest.
    number = part.at.get("level", 0)
    if number >= len(image.datasets):
        raise DataError(
            f"{file} has the levels 0 to {len(image.datasets) - 1}, and {number} is none of "
            "them: choose another one."
        )
    level = image.datasets[number]
    try:
        array = group[level.path]
    except KeyError:
        raise DataError(
            f"{file} names a level '{level.path}' that is not in it: copy it again."
        ) from None
    names = [str(axis.name) for axis in image.axes]
    if not isinstance(array, zarr.Array) or array.ndim != len(names):
        raise DataError(
            f"{file} describes {len(names)} axes, which its data do not have: write it again."
        )
    volume = volume_of(ChunkFiles(array), names, part, file, also=["level"])
    scale, translation = _placement(level, image, len(names))
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


def _placement(level: Any, image: Any, axes: int) -> tuple[list[float], list[float]]:
    """Scale and translation of a level along all axes, as the metadata state them."""
    scale = np.ones(axes)
    translation = np.zeros(axes)
    # NGFF applies the transformations of a level first, then those of the whole pyramid.
    transformations = (
        *level.coordinateTransformations,
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


def _multiscale(group: zarr.Group, file: str) -> Any:
    """The first image of an OME-Zarr group, as ome-zarr-models describes it."""
    # Imported here, because importing these models takes longer than opening the file.
    from ome_zarr_models import v04, v05

    attributes = group.attrs.asdict()
    try:
        # NGFF 0.5 moved everything below the key "ome"; in 0.4 it lay at the top.
        if "ome" in attributes:
            return v05.image.ImageAttrs.model_validate(attributes["ome"]).multiscales[0]
        if "multiscales" in attributes:
            attributes = _as_version_4(attributes)
            return v04.image.ImageAttrs.model_validate(attributes).multiscales[0]
    except ValidationError as error:
        # pydantic lists all faults; the first one fits into a sentence.
        fault = error.errors()[0]
        location = ".".join(map(str, fault["loc"]))
        raise DataError(
            f"{file} is not OME-Zarr 0.3 to 0.5 ({location}: {fault['msg']}): write it again, "
            "or choose the array in it."
        ) from None
    # Five names are enough to see what the group holds; some groups hold thousands of arrays.
    names = sorted(group.array_keys())[:5]
    remedy = f"choose an array in it ({', '.join(names)})" if names else "choose another folder"
    raise DataError(f"{file} is a zarr group without an OME-Zarr image: {remedy}.")


def _as_version_4(attributes: dict[str, Any]) -> dict[str, Any]:
    """The metadata of NGFF 0.3 as those of 0.4: it named the axes only, and stated no sizes."""
    types = {"t": "time", "c": "channel"}
    images = []
    for image in attributes["multiscales"]:
        if not isinstance(image, dict) or not isinstance(image.get("axes"), list):
            return attributes
        axes = image["axes"]
        if not all(isinstance(axis, str) for axis in axes):
            return attributes
        no_scale = [{"type": "scale", "scale": [1.0] * len(axes)}]
        images.append(
            {
                "version": "0.4",
                "axes": [{"name": name, "type": types.get(name, "space")} for name in axes],
                "datasets": [
                    {"path": level["path"], "coordinateTransformations": no_scale}
                    for level in image["datasets"]
                ],
            }
        )
    return {"multiscales": images}

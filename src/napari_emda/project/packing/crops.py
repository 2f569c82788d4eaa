"""Parts of images that are packed in place of whole ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zarr
from zarr.core.common import JSON

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.errors import EmdaError, listed
from napari_emda.io.checked_store import CheckedStore
from napari_emda.project.region import Region

if TYPE_CHECKING:
    from napari_emda.project.project import Project

# Pixels around a patch that are packed with it: what a person looks at to decide on its rim.
MARGIN = 64
# Voxels of the part of a volume that has no patches: enough to see what it looks like, a few MB.
_PART = (8, 512, 512)
# Side of a chunk in pixels. Around a patch, no more is stored than what its chunks add.
_CHUNK = 256
# Attribute of an array that is empty beside its parts. It travels with the array, so that a pack of
# a project that was unpacked says the same.
_MARK = "napari_emda_parts"


def boxes_to_keep(regions: Sequence[Region], shape: tuple[int, ...]) -> list[Box]:
    """What is kept of an image: all around its annotated patches, or a part in the middle.

    Args:
        regions: of the volume.
        shape: of the volume, (z, y, x).
    """
    patches = [region.voxels for region in regions if region.annotated and region.is_patch]
    boxes = [patch.grown(MARGIN).clip(shape) for patch in patches]
    return [box for box in boxes if box.size] or [middle(shape)]


def middle(shape: tuple[int, ...]) -> Box:
    """A part in the middle of a volume of this shape."""
    sides = [min(side, part) for side, part in zip(shape, _PART, strict=True)]
    start = [(side - part) // 2 for side, part in zip(shape, sides, strict=True)]
    z, y, x = start
    return Box((z, y, x), (z + sides[0], y + sides[1], x + sides[2]))


def write_part(image: Array, box: Box, path: Path) -> None:
    """Write a part of an image as a zarr array of its own."""
    _write(image, box.shape, [(box, box.start)], path, {})


def write_in_place(image: Array, boxes: Sequence[Box], path: Path) -> None:
    """Write parts of an image at their places in a zarr array of the same shape, empty elsewhere.

    Annotations and boxes still fit it.
    """
    mark: dict[str, JSON] = {_MARK: [str(box) for box in boxes]}
    _write(image, tuple(image.shape), [(box, (0, 0, 0)) for box in boxes], path, mark)


def remark_on_crops(project: Project) -> str:
    """A sentence on volumes of which a project holds parts alone; empty if there are none."""
    names = [
        f"'{entry.name}'"
        for entry in project.volumes.entries
        if "://" not in entry.image and _is_in_parts(project.volumes.path(entry.image))
    ]
    if not names:
        return ""
    return (
        f"The project was packed with crops: of {listed(names)} it holds what is around the "
        "annotated patches, and black elsewhere, so masks, scores and models that are computed "
        "here are not those of the whole image. Ask for a pack with whole images."
    )


def _is_in_parts(path: Path) -> bool:
    # Only arrays of zarr that `write_in_place` has written; whatever is wrong with others is said
    # by those who open them.
    if not (path / "zarr.json").is_file():
        return False
    try:
        return _MARK in zarr.open_array(CheckedStore(path), mode="r").attrs
    except (OSError, ValueError, TypeError, LookupError, EmdaError):
        return False


def _write(
    image: Array,
    shape: tuple[int, ...],
    parts: Sequence[tuple[Box, tuple[int, int, int]]],
    path: Path,
    attributes: dict[str, JSON],
) -> None:
    chunks = (1, min(shape[1], _CHUNK), min(shape[2], _CHUNK))
    stored = zarr.create_array(
        CheckedStore(path),
        shape=shape,
        dtype=image.dtype,
        chunks=chunks,
        fill_value=0,
        attributes=attributes,
    )
    for box, (z, y, x) in parts:
        # Section by section: a box may be larger than memory.
        for section in range(box.start[0], box.stop[0]):
            flat = box.in_sections(section, section + 1)
            stored[flat.moved((-z, -y, -x)).slices] = np.asarray(image[flat.slices])

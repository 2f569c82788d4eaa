"""The part of a volume that a job predicts: a box, what a mask marks, or all of it."""

from __future__ import annotations

from pathlib import Path

from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.data.masked_part import marked, ratios_to
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError
from napari_emda.inference.predict import part_around
from napari_emda.io.read import open_labels
from napari_emda.io.units import Stored


def part_of(volume: Volume, box: str, mask: str | None) -> Coverage | None:
    """The chunks of the prediction that hold what is wanted; None for the whole volume.

    Args:
        volume: that is predicted.
        box: z0:z1,y0:y1,x0:x1 in voxels; empty for the whole volume.
        mask: path of a mask or of labels, of which only what is not 0 is wanted; None for all.

    Raises:
        DataError: the box does not lie in the volume, the mask is not of the volume or marks
            nothing of it.
    """
    if not box and mask is None:
        return None
    part = part_around(volume, [Box.parse(box, volume.shape)])
    if mask is None:
        return part
    stored = open_labels(mask)
    array = stored.array
    ratios = ratios_to(array.shape, volume.shape, _relative_sizes(stored, volume))
    if ratios is None:
        raise DataError(
            f"The mask {Path(mask).name} is {_size(array.shape)} voxels, the image "
            f"{_size(volume.shape)}: choose one of the image's shape, or one that is coarser by a "
            "whole number or states its voxel size."
        )
    part = marked(array, ratios, part)
    if not part.cells.any():
        where = f" in the box {box}" if box else ""
        raise DataError(
            f"The mask {Path(mask).name} marks no voxel{where}: choose one that is not 0 where to "
            "predict."
        )
    return part


def _relative_sizes(stored: Stored, volume: Volume) -> tuple[float | None, ...]:
    """Size of a mask's voxels in voxels of the volume; None where a file does not state it."""
    grid = volume.grid.in_nanometres()
    if grid.unit != "nm":
        return None, None, None
    sizes = zip(stored.sizes, grid.spacing, strict=True)
    return tuple(None if size is None else size / side for size, side in sizes)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))

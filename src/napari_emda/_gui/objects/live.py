"""The objects of the section on view by settings that the user is trying. No Qt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import result_of
from napari_emda.objects.components import find_objects
from napari_emda.objects.separation import separate
from napari_emda.settings.objects import SeparationSettings


def objects_of_section(
    probabilities: Array,
    box: Box,
    settings: SeparationSettings,
    grid: VoxelGrid,
    class_id: int,
    maps: Array | None = None,
) -> NDArray[np.uint32]:
    """Find and separate the objects in a part of one section.

    They are those of the section alone: through all sections, parts that are apart here may be
    joined, and small ones may be large.

    Args:
        probabilities: stored probabilities, (C - 1, Z, Y, X) uint8.
        box: of one section.
        settings: what counts as an object.
        grid: of the voxels.
        class_id: of the objects, from 1.
        maps: contours and distances of the model, (2, Z, Y, X) uint8; None if it predicts none.

    Returns:
        Ids, shaped as the box.
    """
    values = np.asarray(probabilities[(slice(None), *box.slices)])
    found = np.zeros(box.shape, np.uint32)
    result_of(
        find_objects(
            values,
            found,
            threshold=settings.threshold,
            minimum_size=settings.minimum_size,
            connectivity=settings.connectivity,
            class_id=class_id,
        )
    )
    if not settings.separate:
        return found
    separated = np.zeros_like(found)
    plane = VoxelGrid(grid.spacing, grid.unit, sections_are_independent=True)
    result_of(
        separate(
            found,
            separated,
            plane,
            neck=settings.separate,
            minimum_size=settings.minimum_size,
            maps=None if maps is None else np.asarray(maps[(slice(None), *box.slices)]),
        )
    )
    return separated

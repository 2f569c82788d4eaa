"""The class of each voxel as an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.probabilities import Mask
from napari_emda.events import TileDone, stage
from napari_emda.export.base import ImageExporter, Result, exporters, save_image
from napari_emda.io.atomic import workspace
from napari_emda.objects.components import find_objects_in
from napari_emda.settings.objects import ObjectSettings


@exporters.register("mask")
class MaskExporter(ImageExporter):
    """A number for the class of each voxel: 0 is background, 1 the first class.

    uint8. Objects smaller than ``minimum_size`` become background.
    """

    # Without names, the mask holds cluster numbers, so that the user can see what to name.
    needs_names: ClassVar = False
    takes_box: ClassVar = True

    class Settings(ObjectSettings):
        """What counts as foreground and as an object."""

    def write(self, result: Result, path: Path) -> Iterator[TileDone]:
        """Write the mask in one pass, after one per class if small objects are dropped.

        Each pass counts as an equal share of the progress.
        """
        probabilities = result.probabilities
        volume = result.volume
        # Every object has at least one voxel, so a minimum of 0 or 1 drops nothing.
        filtered_classes = probabilities.shape[0] if self.settings.minimum_size > 1 else 0
        stages = filtered_classes + 1
        with workspace(path) as folder:
            # On disk, beside the result: the ids of a whole volume need not fit into memory.
            objects_by_class = []
            for class_id in range(1, filtered_classes + 1):
                search = find_objects_in(
                    folder,
                    probabilities,
                    self.settings,
                    class_id,
                    volume.name,
                    volume.grid.sections_are_independent,
                    result.runner,
                )
                objects, _ = yield from stage(search, class_id - 1, stages)
                objects_by_class.append(objects)
            # Computed block by block as it is written: memory never holds the whole mask.
            mask = _FilteredMask(probabilities, self.settings.threshold, objects_by_class)
            saving = save_image([mask], path, np.uint8, volume, labels=True, runner=result.runner)
            yield from stage(saving, filtered_classes, stages)


class _FilteredMask(Mask):
    """The mask without small objects.

    Args:
        probabilities: (C - 1, Z, Y, X) uint8.
        threshold: see `napari_emda.data.probabilities.class_ids`.
        objects_by_class: for each class from 1, its objects (Z, Y, X) without small ones, 0 being
            background; empty to keep all objects.
    """

    def __init__(
        self, probabilities: Array, threshold: float, objects_by_class: Sequence[Array]
    ) -> None:
        super().__init__(probabilities, threshold)
        self._objects_by_class = objects_by_class

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        ids = super()._read(z, y, x)
        for class_id, objects in enumerate(self._objects_by_class, start=1):
            # A voxel of the class that belongs to none of its objects was part of a small one.
            ids[(ids == class_id) & (np.asarray(objects[z, y, x]) == 0)] = 0
        return ids

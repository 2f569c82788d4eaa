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
from napari_emda.export.base import Exporter, Result, exporters, save_image
from napari_emda.io.atomic import workspace
from napari_emda.io.write import VOLUME_FORMATS
from napari_emda.objects.components import find_objects_in
from napari_emda.settings.objects import ObjectSettings


@exporters.register("mask")
class MaskExporter(Exporter):
    """The class of every voxel: 0 is background, k is class k.

    uint8. Objects smaller than ``minimum_size`` become background.
    """

    formats: ClassVar = VOLUME_FORMATS
    # Of clusters without names it holds their numbers, so that the user sees what to name.
    needs_names: ClassVar = False

    class Settings(ObjectSettings):
        """What counts as foreground and as an object."""

    def write(self, result: Result, path: Path) -> Iterator[TileDone]:
        """One pass over the volume for each class whose small objects are dropped, and one more."""
        probabilities = result.probabilities
        volume = result.volume
        filtered = probabilities.shape[0] if self.settings.minimum_size > 1 else 0
        stages = filtered + 1
        with workspace(path) as folder:
            objects = []
            for class_id in range(1, filtered + 1):
                finding = find_objects_in(
                    folder,
                    probabilities,
                    self.settings,
                    class_id,
                    volume.name,
                    volume.grid.sections_are_independent,
                )
                objects.append((yield from stage(finding, class_id - 1, stages))[0])
            mask = _FilteredMask(probabilities, self.settings.threshold, objects)
            saving = save_image([mask], path, np.uint8, volume)
            yield from stage(saving, filtered, stages)


class _FilteredMask(Mask):
    """The mask with those objects alone that were large enough; all of it if none were looked for.

    Args:
        probabilities: (C - 1, Z, Y, X) uint8.
        threshold: see `napari_emda.data.probabilities.class_ids`.
        kept: the numbered objects of each class that are kept, or nothing.
    """

    def __init__(self, probabilities: Array, threshold: float, kept: Sequence[Array]) -> None:
        super().__init__(probabilities, threshold)
        self._kept = kept

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        ids = super()._read(z, y, x)
        for k, objects in enumerate(self._kept, start=1):
            ids[(ids == k) & (np.asarray(objects[z, y, x]) == 0)] = 0
        return ids

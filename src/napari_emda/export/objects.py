"""The objects of a class as an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from napari_emda.events import TileDone, stage
from napari_emda.export.base import ImageExporter, Result, exporters, save_image
from napari_emda.io.atomic import workspace
from napari_emda.settings.objects import SeparationSettings


@exporters.register("objects")
class ObjectsExporter(ImageExporter):
    """The objects of one class, numbered from 1; 0 is background.

    Connected voxels of a class form an object. With ``separate``, objects that touch are split at
    their necks (`napari_emda.objects.separation.separate`). The image is uint32;
    a TIFF is uint16 up to 65 535 objects, because ImageJ's format has no uint32. Edits of the
    objects are carried out: what was deleted is missing among the numbers, and what was split off
    has those after the last.
    """

    classes: ClassVar = "one"

    class Settings(SeparationSettings):
        """What counts as foreground and as an object."""

    def write(self, result: Result, path: Path) -> Iterator[TileDone]:
        """Find the objects, then save them: two passes over the volume."""
        volume = result.volume
        with workspace(path) as folder:
            search = result.find_objects(self.settings, folder)
            objects, highest = yield from stage(search, 0, 2)
            # The smallest type that holds all ids, so that ImageJ can open the file where possible.
            is_small = self.writer(path).small_ids and highest < 2**16
            dtype = np.uint16 if is_small else np.uint32
            saving = save_image([objects], path, dtype, volume, labels=True)
            yield from stage(saving, 1, 2)

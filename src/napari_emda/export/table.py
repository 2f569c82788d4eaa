"""The objects of a class as a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from napari_emda.data.probabilities import ClassProbability
from napari_emda.events import TileDone, stage
from napari_emda.export.base import Exporter, Result, exporters
from napari_emda.io.atomic import replacing_file, workspace
from napari_emda.objects.table import measure_objects
from napari_emda.objects.table_file import write_csv
from napari_emda.settings.objects import SeparationSettings


@exporters.register("table")
class TableExporter(Exporter):
    """A table of the objects of one class: volume, surface, solidity, position and more.

    One row per object, with the units in the names of the columns
    (`napari_emda.objects.table.object_table`), and the name of the class last. The ids are those of
    the export ``objects`` with the same settings.
    """

    formats: ClassVar = {"CSV": (".csv",)}
    classes: ClassVar = "one"

    class Settings(SeparationSettings):
        """What counts as foreground and as an object."""

    def write(self, result: Result, path: Path) -> Iterator[TileDone]:
        """Find the objects, then measure them: two passes over the volume."""
        volume = result.volume
        (class_id,) = result.class_ids
        with workspace(path) as folder:
            search = result.find_objects(self.settings, folder)
            objects, _ = yield from stage(search, 0, 2)
            measurement = measure_objects(
                objects,
                volume.grid,
                ClassProbability(result.probabilities, class_id),
                volume.name,
                result.runner,
            )
            table = yield from stage(measurement, 1, 2)
            table["class"] = np.full(len(table["id"]), result.classes[class_id - 1])
            with replacing_file(path) as partial:
                write_csv(table, partial)

"""The objects of a class as a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from napari_emda.data.probabilities import ClassProbability
from napari_emda.events import TileDone, stage
from napari_emda.export.base import Exporter, Result, exporters
from napari_emda.io.atomic import replacing_file, workspace
from napari_emda.objects.components import find_objects_in
from napari_emda.objects.table import Table, measure_objects
from napari_emda.settings.objects import ObjectSettings


@exporters.register("table")
class TableExporter(Exporter):
    """A table of the objects of one class: volume, surface, solidity, position and more.

    What `napari_emda.objects.table.object_table` measures: a row per object, with the units in the
    names of the columns. The ids are those of the export ``objects`` with the same settings.
    """

    formats: ClassVar = {"CSV": (".csv",)}
    classes: ClassVar = "one"

    class Settings(ObjectSettings):
        """What counts as foreground and as an object."""

    def write(self, result: Result, path: Path) -> Iterator[TileDone]:
        """Two passes over the volume: the objects are found, then measured."""
        volume = result.volume
        (class_id,) = result.class_ids
        with workspace(path) as folder:
            finding = find_objects_in(
                folder,
                result.probabilities,
                self.settings,
                class_id,
                volume.name,
                volume.grid.sections_are_independent,
            )
            objects, _ = yield from stage(finding, 0, 2)
            measuring = measure_objects(
                objects,
                volume.grid,
                ClassProbability(result.probabilities, class_id),
                volume.name,
            )
            table = yield from stage(measuring, 1, 2)
            with replacing_file(path) as partial:
                _write_csv(table, partial)


def _write_csv(table: Table, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        columns = [
            [f"{value:.9g}" if column.dtype.kind == "f" else value for value in column.tolist()]
            for column in table.values()
        ]
        writer.writerows(zip(*columns, strict=True))

"""Results as files that other programs open: masks, objects, probabilities and tables.

Volumes become TIFF (as Fiji likes it, with voxel size) or, where the path ends in .zarr, OME-Zarr 0.5; tables become
CSV. All of it is computed and written piece by piece. Every function is a generator of `TileDone` events, whose share
``done / total`` never falls, and ends with `Saved`; under its name a file is complete or absent, also after a stop.
What exists is only replaced with ``overwrite=True``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.probabilities import ClassProbability, Mask
from napari_emda.data.volume import Array
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.events import Saved, TileDone, stage
from napari_emda.export.bioimageio import export_model
from napari_emda.io.atomic import replacing_file, workspace
from napari_emda.io.write import VOLUME_SUFFIXES, claim, save_volume
from napari_emda.objects.components import find_objects_in
from napari_emda.objects.table import Table, measure_objects
from napari_emda.settings.objects import ObjectSettings

__all__ = ["export_mask", "export_model", "export_objects", "export_probabilities", "export_table"]

Events = Iterator[TileDone | Saved]


def export_mask(
    probabilities: Array,
    path: Path | str,
    grid: VoxelGrid,
    *,
    threshold: float = 0.5,
    minimum_size: int = 0,
    connectivity: int = 1,
    overwrite: bool = False,
    volume: str = "",
) -> Events:
    """Save the class of each voxel: uint8, 0 background, k class k.

    Args:
        probabilities: (C - 1, Z, Y, X) uint8, channel c being class c + 1; read lazily.
        path: ends in .tif, .tiff or .zarr.
        grid: of the voxels; in independent sections objects end with their section.
        threshold: see `napari_emda.data.probabilities.class_ids`.
        minimum_size: objects of fewer voxels become background.
        connectivity: what makes an object, see `napari_emda.settings.objects.ObjectSettings`.
        overwrite: replace an existing file.
        volume: name for the events.

    Raises:
        DataError: the path cannot be written or is taken.
        SettingsError: a setting is out of range.
    """
    path = claim(path, VOLUME_SUFFIXES, overwrite)
    settings = _settings(threshold, minimum_size, connectivity)
    filtered = probabilities.shape[0] if settings.minimum_size > 1 else 0
    with workspace(path) as folder:
        objects = []
        for k in range(1, filtered + 1):
            finding = find_objects_in(
                folder, probabilities, settings, k, volume, grid.sections_are_independent
            )
            objects.append((yield from stage(finding, k - 1, filtered + 1))[0])
        mask = _FilteredMask(probabilities, settings.threshold, objects)
        yield from stage(
            save_volume([mask], path, np.uint8, grid, volume),
            filtered,
            filtered + 1,
        )
    yield Saved(path=str(path))


def export_objects(
    probabilities: Array,
    path: Path | str,
    grid: VoxelGrid,
    *,
    threshold: float = 0.5,
    minimum_size: int = 0,
    connectivity: int = 1,
    class_id: int = 1,
    overwrite: bool = False,
    volume: str = "",
) -> Events:
    """Save the objects of a class, numbered from 1 (0 background).

    They are those that `napari_emda.objects.components.find_objects` finds.

    A zarr image is uint32. A TIFF is uint16 up to 65 535 objects, because ImageJ's format knows no uint32.

    Args:
        probabilities: as in `export_mask`.
        path: as in `export_mask`.
        grid: as in `export_mask`.
        threshold: as in `export_mask`.
        minimum_size: objects of fewer voxels are dropped.
        connectivity: as in `export_mask`.
        class_id: the class whose objects are saved, from 1.
        overwrite: replace an existing file.
        volume: name for the events.

    Raises:
        DataError: the path cannot be written or is taken, or there is no such class.
        SettingsError: a setting is out of range.
    """
    path = claim(path, VOLUME_SUFFIXES, overwrite)
    settings = _settings(threshold, minimum_size, connectivity)
    with workspace(path) as folder:
        objects, count = yield from stage(
            find_objects_in(
                folder, probabilities, settings, class_id, volume, grid.sections_are_independent
            ),
            0,
            2,
        )
        dtype = np.uint32 if path.suffix == ".zarr" or count >= 2**16 else np.uint16
        yield from stage(save_volume([objects], path, dtype, grid, volume), 1, 2)
    yield Saved(path=str(path))


def export_probabilities(
    probabilities: Array,
    path: Path | str,
    grid: VoxelGrid,
    *,
    class_id: int | None = None,
    overwrite: bool = False,
    volume: str = "",
) -> Events:
    """Save probabilities as they are stored: uint8, 255 being certain.

    Args:
        probabilities: as in `export_mask`.
        path: as in `export_mask`.
        grid: as in `export_mask`.
        class_id: the class whose probability is saved, from 1; None for all foreground classes, which for more than
            one takes .zarr (axes c, z, y, x).
        overwrite: replace an existing file.
        volume: name for the events.

    Raises:
        DataError: the path cannot be written or is taken, there is no such class, or several for one TIFF.
    """
    path, count = claim(path, VOLUME_SUFFIXES, overwrite), probabilities.shape[0]
    chosen = list(range(1, count + 1)) if class_id is None else [class_id]
    if not 1 <= chosen[-1] <= count:
        raise DataError(f"There is no class {class_id} in the prediction: choose 1 to {count}.")
    if len(chosen) > 1 and path.suffix.lower() != ".zarr":
        raise DataError(
            f"A TIFF takes the probability of one class, and there are {count}: choose one, or save .zarr."
        )
    channels = [ClassProbability(probabilities, k) for k in chosen]
    yield from save_volume(channels, path, np.uint8, grid, volume)
    yield Saved(path=str(path))


def export_table(
    probabilities: Array,
    path: Path | str,
    grid: VoxelGrid,
    *,
    threshold: float = 0.5,
    minimum_size: int = 0,
    connectivity: int = 1,
    class_id: int = 1,
    overwrite: bool = False,
    volume: str = "",
) -> Events:
    """Save what `napari_emda.objects.table.object_table` measures as CSV, a row per object, units in the column names.

    The ids are those of `export_objects` with the same arguments.

    Args:
        probabilities: as in `export_mask`.
        path: ends in .csv.
        grid: as in `export_mask`.
        threshold: as in `export_mask`.
        minimum_size: objects of fewer voxels are dropped.
        connectivity: as in `export_mask`.
        class_id: the class whose objects are measured, from 1.
        overwrite: replace an existing file.
        volume: name for the events.

    Raises:
        DataError: the path cannot be written or is taken, or there is no such class.
        SettingsError: a setting is out of range.
    """
    path = claim(path, (".csv",), overwrite)
    settings = _settings(threshold, minimum_size, connectivity)
    with workspace(path) as folder:
        objects, _ = yield from stage(
            find_objects_in(
                folder, probabilities, settings, class_id, volume, grid.sections_are_independent
            ),
            0,
            2,
        )
        probability = ClassProbability(probabilities, class_id)
        table = yield from stage(measure_objects(objects, grid, probability, volume), 1, 2)
    with replacing_file(path) as partial:
        _write_csv(table, partial)
    yield Saved(path=str(path))


def _write_csv(table: Table, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        columns = [
            [f"{value:.9g}" if column.dtype.kind == "f" else value for value in column.tolist()]
            for column in table.values()
        ]
        writer.writerows(zip(*columns, strict=True))


def _settings(threshold: float, minimum_size: int, connectivity: int) -> ObjectSettings:
    values = {"threshold": threshold, "minimum_size": minimum_size, "connectivity": connectivity}
    return ObjectSettings.parse(values)


class _FilteredMask(Mask):
    """The mask with those objects alone that were large enough; all of it where none were looked for.

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

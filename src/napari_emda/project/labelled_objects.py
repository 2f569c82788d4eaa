"""Sizes and shapes of the labelled objects of a source: what objects that are right look like."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.lazy import Lazy3D, PartOf
from napari_emda.data.probabilities import CERTAIN
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone, stage
from napari_emda.objects.components import find_objects_in
from napari_emda.objects.suspicion import Usual, touches_border
from napari_emda.objects.table import measure_objects
from napari_emda.settings.objects import ObjectSettings

# Voxels of a source that are looked at, around its middle: enough objects, in a minute at most.
_MOST_VOXELS = 2**26


class _ClassMask(Lazy3D):
    """Labels of one class as stored probabilities of one channel, uint8 (z, y, x)."""

    def __init__(self, volume: Volume, class_id: int) -> None:
        super().__init__(volume.shape, np.uint8)
        self._volume = volume
        self._class_id = class_id

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        labels = self._volume.class_ids[z, y, x]
        return np.where(labels == self._class_id, CERTAIN, 0).astype(np.uint8)


class _OneChannel:
    """A (z, y, x) array as the only channel of four axes."""

    def __init__(self, array: Lazy3D) -> None:
        self._array = array
        self.shape = (1, *array.shape)
        self.dtype = array.dtype

    def __getitem__(self, key: tuple[slice, slice, slice, slice]) -> NDArray[np.uint8]:
        return self._array[key[1:]][None][key[0]]


def labelled_objects(
    folder: Path, sources: Sequence[Volume], class_id: int, grid: VoxelGrid
) -> Generator[TileDone, None, Usual | None]:
    """Measure the labelled objects of a class; what the border cuts off does not count.

    Args:
        folder: takes temporary arrays.
        sources: volumes of which those with labels are used.
        class_id: of the objects, from 1.
        grid: of the volume whose objects are compared with them; sources whose sizes cannot be
            given in its unit, or that are independent images where it is none, are left out.

    Returns:
        Their sizes and shapes; None if there are none.
    """
    sizes = [np.empty(0)]
    solidity = [np.empty(0)]
    target = grid.in_nanometres()
    comparable = [volume for volume in sources if _is_comparable(volume, target)]
    for number, volume in enumerate(comparable):
        labelled_grid = volume.grid.in_nanometres()
        box = _middle(volume)
        mask = PartOf(_ClassMask(volume, class_id), box)
        search = find_objects_in(
            folder / f"labelled-{number}",
            _OneChannel(mask),
            ObjectSettings(),
            1,
            volume.name,
            labelled_grid.sections_are_independent,
        )
        steps = 2 * len(comparable)
        objects, _ = yield from stage(search, 2 * number, steps)
        measurement = measure_objects(objects, labelled_grid, volume=volume.name)
        table = yield from stage(measurement, 2 * number + 1, steps)
        whole = ~touches_border(table, labelled_grid, box.shape)
        size = next(name for name in table if name.startswith(("volume (", "area (")))
        sizes.append(table[size].astype(np.float64)[whole])
        solidity.append(table["solidity"].astype(np.float64)[whole])
    values = np.concatenate(sizes)
    if not len(values):
        return None
    # Back to the unit of the objects that they are compared with.
    factor = grid.spacing[1] / target.spacing[1]
    power = 2 if grid.sections_are_independent else 3
    return Usual(values * factor**power, np.concatenate(solidity))


def _is_comparable(volume: Volume, target: VoxelGrid) -> bool:
    grid = volume.grid.in_nanometres()
    alike = grid.sections_are_independent == target.sections_are_independent
    return volume.labels is not None and grid.unit == target.unit and alike


def _middle(volume: Volume) -> Box:
    """The middle of a volume, as much of it as is looked at; first fewer sections."""
    sides = list(volume.shape)
    for axis in range(3):
        others = int(np.prod(sides)) // max(1, sides[axis])
        sides[axis] = max(1, min(sides[axis], _MOST_VOXELS // max(1, others)))
    start = [(whole - side) // 2 for whole, side in zip(volume.shape, sides, strict=True)]
    z, y, x = ((low, low + side) for low, side in zip(start, sides, strict=True))
    return Box((z[0], y[0], x[0]), (z[1], y[1], x[1]))

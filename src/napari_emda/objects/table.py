"""A table of objects: size, surface, solidity and position in physical units.

Memory is bounded by one block and the number of objects, however large the objects are.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.block_runner import IN_TURN, BlockRunner, Item
from napari_emda.data.blocks import block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.events import TileDone, result_of
from napari_emda.objects.by_block import each_block
from napari_emda.objects.edited import Extents
from napari_emda.objects.masks import ObjectMask, objects_in
from napari_emda.objects.shape import Solidity, surface_within

Table = dict[str, NDArray[np.generic]]
"""Columns by name, a row per object; units are in the names."""

# Every foreground voxel of a block is listed with its position, some 100 bytes each: 100 MiB.
_BLOCK_VOXELS = 2**20


def object_table(
    objects: Array,
    grid: VoxelGrid,
    probability: Array | None = None,
) -> Table:
    """Measure every object; `measure_objects` does the same with progress.

    Args:
        objects: (Z, Y, X) integer ids, 0 being background; read lazily.
        grid: of the voxels; its unit becomes part of the column names, ``volume (nm^3)``.
        probability: (Z, Y, X) stored probabilities (uint8) of the objects' class, for their mean.

    Returns:
        A row per object in order of id: ``id``; ``voxels``; ``volume`` (unit^3); ``surface``
        (unit^2, see `napari_emda.objects.shape.surface_within`; closed where the border of the
        volume cuts an object); ``solidity`` (see `napari_emda.objects.shape.Solidity`);
        ``centroid z``, ``y`` and ``x`` (unit, from the centre of the volume's first voxel); the
        half-open bounding box ``z start (voxel)`` to ``x stop (voxel)``; and ``mean probability``
        if ``probability`` is given. An object of independent sections lies in one of them: it has
        ``area`` (unit^2) instead of ``volume`` and ``surface``, and no ``centroid z``.

    Raises:
        DataError: ``probability`` has another shape.
    """
    return result_of(measure_objects(objects, grid, probability))


def measure_objects(
    objects: Array,
    grid: VoxelGrid,
    probability: Array | None = None,
    volume: str = "",
    runner: BlockRunner = IN_TURN,
) -> Generator[TileDone, None, Table]:
    """As `object_table`, yielding an event per block, in two passes."""
    if probability is not None and tuple(probability.shape) != tuple(objects.shape):
        raise DataError(
            f"The probabilities have shape {tuple(probability.shape)} and the objects "
            f"{tuple(objects.shape)}: give those of the same volume."
        )
    extents = yield from _find_extents(objects, probability, volume, runner)
    shapes = yield from _find_shapes(objects, extents, grid, volume, runner)
    return _columns(extents, _sizes(extents, shapes, grid), probability is not None)


@dataclass(frozen=True)
class _Extents:
    """A row per object: id, sums over its voxels of (1, z, y, x, probability), corners of its box.

    Sums, minima and maxima of parts add up to those of the whole, so blocks can be measured apart.
    """

    ids: NDArray[np.int64]
    sums: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @classmethod
    def of_block(
        cls, objects: NDArray[np.generic], probability: NDArray[np.uint8] | None, box: Box
    ) -> _Extents:
        inside = np.nonzero(objects)
        positions = np.stack(inside, axis=1) + box.start
        ones = np.ones(len(positions), np.int64)
        # Bytes are summed as integers: exact for any size of object.
        stored = 0 * ones if probability is None else probability[inside].astype(np.int64)
        sums = np.concatenate([ones[:, None], positions, stored[:, None]], axis=1)
        return cls(objects[inside].astype(np.int64), sums, positions, positions + 1).merged()

    @classmethod
    def joined(cls, parts: list[_Extents]) -> _Extents:
        columns = (
            [getattr(part, name) for part in parts] for name in ("ids", "sums", "low", "high")
        )
        return cls(*(np.concatenate(column) for column in columns)).merged()

    def merged(self) -> _Extents:
        """One row per id."""
        if not len(self.ids):
            return self
        # reduceat needs the rows of an id side by side.
        order = np.argsort(self.ids, kind="stable")
        ids, first = np.unique(self.ids[order], return_index=True)
        sums = np.add.reduceat(self.sums[order], first)
        low = np.minimum.reduceat(self.low[order], first)
        return _Extents(ids, sums, low, np.maximum.reduceat(self.high[order], first))


def find_extents(
    objects: Array, volume: str = "", runner: BlockRunner = IN_TURN
) -> Generator[TileDone, None, Extents]:
    """Where objects lie and how many voxels they have, in one pass over the volume."""
    found = yield from _find_extents(objects, None, volume, runner)
    return Extents.of(found.ids, found.sums[:, 0], found.low, found.high)


def _find_extents(
    objects: Array, probability: Array | None, volume: str, runner: BlockRunner
) -> Generator[TileDone, None, _Extents]:
    # An empty part first, so that a volume without objects is joined like any other.
    parts = [_Extents.of_block(np.empty((0, 0, 0), np.int64), None, Box.whole((0, 0, 0)))]
    work = _FindExtents(objects, probability)
    yield from each_block(runner, work, _blocks_of(objects), parts.append, volume, 0, 2)
    return _Extents.joined(parts)


def _blocks_of(objects: Array) -> list[Item]:
    whole = Box.whole(objects.shape)
    return [(box,) for box in blocks(whole, block_shape(objects, _BLOCK_VOXELS))]


@dataclass(frozen=True)
class _FindExtents:
    """Measures the parts of objects that lie in a block."""

    objects: Array
    probability: Array | None

    def __call__(self, box: Box) -> _Extents:
        stored = None if self.probability is None else np.asarray(self.probability[box.slices])
        return _Extents.of_block(np.asarray(self.objects[box.slices]), stored, box)


def _find_shapes(
    objects: Array, extents: _Extents, grid: VoxelGrid, volume: str, runner: BlockRunner
) -> Generator[TileDone, None, NDArray[np.float64]]:
    """Surface and solidity of each object, put together block by block."""
    shapes = np.zeros((len(extents.ids), 2))
    # Those of which a part is still to come.
    begun: dict[int, Solidity] = {}

    def add(parts: list[_Part]) -> None:
        for part in parts:
            row = int(np.searchsorted(extents.ids, part.object_id))
            shapes[row, 0] += part.surface
            if part.shape is None:
                continue
            voxels = int(extents.sums[row, 0])
            if part.solidity is not None and part.shape.voxels == voxels:
                shapes[row, 1] = part.solidity
                continue
            solidity = begun.setdefault(row, Solidity(voxels))
            solidity.add_part(part.shape)
            if solidity.complete:
                shapes[row, 1] = begun.pop(row).value()

    # The area of objects of one section is no surface.
    spacing = None if grid.sections_are_independent else grid.spacing
    work = _FindShapes(objects, spacing)
    yield from each_block(runner, work, _blocks_of(objects), add, volume, 1, 2)
    return shapes


@dataclass(frozen=True)
class _Part:
    """What a block holds of an object.

    Attributes:
        object_id: of the object.
        surface: of the object, in the block and its rim.
        shape: of its voxels in the block; None if there are none.
        solidity: of these voxels, if they are probably the whole object.
    """

    object_id: int
    surface: float
    shape: Solidity | None
    solidity: float | None


@dataclass(frozen=True)
class _FindShapes:
    """Measures surface and shape of the parts of objects that lie in a block.

    Most objects lie in one block, and are measured there; the parts of others are put together.
    """

    objects: Array
    spacing: tuple[float, float, float] | None

    def __call__(self, box: Box) -> list[_Part]:
        return [self._measured(k, mask, box) for k, mask in objects_in(self.objects, box)]

    def _measured(self, object_id: int, mask: ObjectMask, box: Box) -> _Part:
        surface = 0.0 if self.spacing is None else surface_within(mask.values, self.spacing)
        within, start = mask.within(box)
        voxels = int(np.count_nonzero(within))
        if not voxels:
            return _Part(object_id, surface, None, None)
        shape = Solidity(voxels)
        shape.add(within, start)
        stop = np.add(start, within.shape)
        ends = zip(stop, box.stop, self.objects.shape, strict=True)
        # The rim shows only what lies before the block. An object need not be connected, so that
        # only its number of voxels says whether this is all.
        is_whole = voxels == np.count_nonzero(mask.values) and all(
            last < end or end == size for last, end, size in ends
        )
        return _Part(object_id, surface, shape, shape.value() if is_whole else None)


def _sizes(extents: _Extents, shapes: NDArray[np.float64], grid: VoxelGrid) -> Table:
    voxels = extents.sums[:, 0]
    unit = _ascii(grid.unit)
    if grid.sections_are_independent:
        sizes: Table = {f"area ({unit}^2)": voxels * grid.pixel_area}
    else:
        sizes = {
            f"volume ({unit}^3)": voxels * grid.voxel_volume,
            f"surface ({unit}^2)": shapes[:, 0],
        }
    sizes["solidity"] = shapes[:, 1]
    for name in grid.axes:
        axis = "zyx".index(name)
        centre = extents.sums[:, 1 + axis] / voxels
        sizes[f"centroid {name} ({unit})"] = centre * grid.spacing[axis]
    return sizes


def _columns(extents: _Extents, sizes: Table, has_probability: bool) -> Table:
    voxels = extents.sums[:, 0]
    table: Table = {"id": extents.ids, "voxels": voxels, **sizes}
    for axis, name in enumerate("zyx"):
        table[f"{name} start (voxel)"] = extents.low[:, axis]
        table[f"{name} stop (voxel)"] = extents.high[:, axis]
    if has_probability:
        table["mean probability"] = extents.sums[:, 4] / voxels / 255  # stored as bytes
    return table


def _ascii(unit: str) -> str:
    """The unit in ASCII: spreadsheets read CSV in their own code page and garble the micro sign."""
    # U+00B5 is the micro sign, U+03BC the Greek letter; files hold either.
    return unit.replace("\u00b5", "u").replace("\u03bc", "u")

"""The tiles of a prediction in units of work, which several processes can carry out at once."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable, Iterator, Sequence
from itertools import product
from typing import Protocol

from napari_emda.data.box import Box
from napari_emda.events import Event
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.section_stacks import SectionStacks
from napari_emda.inference.tiles import Tile
from napari_emda.project.stored_prediction import CHUNK, StoredPrediction
from napari_emda.settings.prediction import PredictSettings

# Units for each worker at least, so that none waits long for the last one at the end.
_UNITS_PER_WORKER = 4
# Sections of a unit at most. Of every unit, the neighbours of its first and last section are
# computed once more, or read: of 64 sections, these are a few per cent.
_MOST_SECTIONS = 64
# A unit holds at least so many sections for each one that it computes in addition on a side.
_SECTIONS_PER_MARGIN = 4

Unit = list[Tile]
BlockDone = tuple[Box, bool]
"""Voxels that are on the disk, and whether their image is empty."""
_Cell = tuple[int, int]
"""Row and column of a chunk."""


class PredictingWorkers(Protocol):
    """Other processes, in which units of work are carried out."""

    @property
    def count(self) -> int:
        """How many there are, or will be."""

    @property
    def openvino(self) -> bool:
        """Whether all of them can compute with this process's version of OpenVINO."""

    def predict(
        self,
        predictor: Predictor,
        prediction: StoredPrediction,
        settings: PredictSettings,
        units: Sequence[Unit],
    ) -> Generator[BlockDone | Event]:
        """Predict and write all tiles of all units, in any order.

        Args:
            predictor: the model, loaded from a file.
            prediction: to which the tiles belong.
            settings: of the prediction.
            units: see `work_units`.
        """


def work_units(
    tiles: Sequence[Tile],
    shape: tuple[int, int, int],
    workers: int,
    sections: int = 0,
    stacks: SectionStacks | None = None,
) -> list[Unit]:
    """The tiles in units that share no chunk of the stored prediction.

    Two processes that write into one chunk would overwrite each other's voxels. What a unit sees
    along z is its own: sections between two units are seen by both. Tiles of many sections are cut
    where there would be too few units otherwise.

    Args:
        tiles: what is to be predicted; those of one place follow each other along z.
        shape: of the volume, (z, y, x).
        workers: number of processes.
        sections: predicted before and after each tile, see `tiling.plan`.
        stacks: what a 3-D network sees around these.

    Returns:
        The units, those of one place in the order of their sections.
    """
    stacks = stacks or SectionStacks()
    voxels = sum(tile.native.size for tile in tiles) / (_UNITS_PER_WORKER * workers)
    fewest = max(1, _SECTIONS_PER_MARGIN * (sections + stacks.halo))
    units: list[Unit] = []
    for column in _columns(tiles, shape):
        first = min(tile.native.start[0] for tile in column)
        stop = max(tile.native.stop[0] for tile in column)
        area = sum(tile.native.size for tile in column) / (stop - first)
        most = max(fewest, min(_MOST_SECTIONS, int(voxels / area)))
        # A 3-D network sees all sections of a tile together.
        if not stacks.deep:
            column = [part for tile in column for part in _cut(tile, most, shape[0], sections)]
        units += _grouped(column, most)
    return units


def _columns(tiles: Sequence[Tile], shape: tuple[int, int, int]) -> Iterable[Unit]:
    """Tiles that lie above each other, with those that share chunks with them."""
    columns: dict[Hashable, Unit] = {}
    # The chunks that tiles share, as a forest: what leads to the same root is one column.
    above: dict[_Cell, _Cell] = {}

    def root(cell: _Cell) -> _Cell:
        while above.setdefault(cell, cell) != cell:
            cell = above[cell]
        return cell

    sharing = [tile for tile in tiles if not _ends_at_chunks(tile.native, shape)]
    for tile in sharing:
        cells = _cells(tile.native)
        for cell in cells:
            above[root(cell)] = root(cells[0])
    for tile in tiles:
        ends_at_chunks = _ends_at_chunks(tile.native, shape)
        place = tile.native.bounds[2:] if ends_at_chunks else root(_cells(tile.native)[0])
        columns.setdefault(place, []).append(tile)
    return columns.values()


def _ends_at_chunks(box: Box, shape: tuple[int, int, int]) -> bool:
    """Whether a box covers all of the chunks that it touches."""
    return all(
        box.start[axis] % CHUNK == 0
        and (box.stop[axis] % CHUNK == 0 or box.stop[axis] == shape[axis])
        for axis in (1, 2)
    )


def _cells(box: Box) -> list[_Cell]:
    """Rows and columns of the chunks that a box touches."""
    rows, columns = (
        range(box.start[axis] // CHUNK, -(-box.stop[axis] // CHUNK)) for axis in (1, 2)
    )
    return list(product(rows, columns))


def _cut(tile: Tile, most: int, depth: int, sections: int) -> Iterator[Tile]:
    """A tile in parts of at most so many sections, each seen with its neighbours."""
    z0, z1 = tile.native.bounds[:2]
    if z1 - z0 <= most:
        yield tile
        return
    for first in range(z0, z1, most):
        stop = min(first + most, z1)
        seen = tile.seen.in_sections(max(0, first - sections), min(depth, stop + sections))
        yield Tile(tile.native.in_sections(first, stop), seen)


def _grouped(column: Unit, most: int) -> Iterator[Unit]:
    """A column in units of about so many sections, cut where no tile lies on both sides."""
    unit: Unit = []
    for tile in sorted(column, key=lambda tile: tile.native):
        start, stop = tile.native.bounds[:2]
        reach = max((before.native.stop[0] for before in unit), default=start)
        if unit and start >= reach and stop - unit[0].native.start[0] > most:
            yield _ordered(unit)
            unit = []
        unit.append(tile)
    yield _ordered(unit)


def _ordered(unit: Unit) -> Unit:
    """Place by place: what a tile sees of the sections of the next one is computed once."""
    return sorted(unit, key=lambda tile: (tile.native.bounds[2:], tile.native.start[0]))

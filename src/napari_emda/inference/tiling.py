"""How a volume is cut into tiles: at the chunks of its stored prediction, within the memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, product

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.data.resampled import Resampled
from napari_emda.inference.section_stacks import SectionStacks
from napari_emda.inference.tiles import Span, Tile, make_tile, seen_span
from napari_emda.nn.network import Network
from napari_emda.project.stored_prediction import CHUNK
from napari_emda.settings.prediction import PredictSettings

_Rectangle = tuple[int, int, int, int]
"""First row, one past the last, and the same of columns."""


@dataclass(frozen=True)
class _Layout:
    """One way to cut the rows or the columns of a volume.

    Attributes:
        width: of all tiles but the last, in voxels.
        native: voxels of each tile.
        seen: working pixels that the network sees of each tile.
        shares_chunks: whether several tiles lie in one chunk of the stored prediction.
    """

    width: int
    native: list[Span]
    seen: list[Span]
    shares_chunks: bool

    @property
    def longest(self) -> int:
        """Most working pixels that the network sees at once."""
        return max(stop - start for start, stop in self.seen)

    @property
    def total(self) -> int:
        """Working pixels that the network computes, those of the halos once for each tile."""
        return sum(stop - start for start, stop in self.seen)


def plan(
    view: Resampled,
    network: Network,
    settings: PredictSettings,
    sections: int = 0,
    stacks: SectionStacks | None = None,
) -> list[Tile]:
    """Tiles that cover a volume once: whole sections, several at once, where the memory allows.

    Larger sections are cut at the borders of the stored prediction's chunks: then no chunk is read
    and written again for a second tile, and tiles can be written by several processes. Only where
    not even one chunk fits into the memory, each chunk is cut into tiles of its own.

    Tiles of the same place follow each other along z: what a tile sees of the sections of the next
    one is computed once.

    Args:
        view: the volume at the network's pixel size.
        network: sets halo and memory.
        settings: the memory, or the side of a block.
        sections: predicted before and after each tile.
        stacks: what a 3-D network sees around these.
    """
    depth = view.shape[0]
    stacks = stacks or SectionStacks()
    # A 3-D network sees a margin of sections on both sides. Tiles are deep enough that no more than
    # half of what is computed is margin.
    thinnest = min(depth, max(1, 2 * stacks.halo))
    margin = 2 * stacks.halo
    pixels = settings.memory * 2**30 / network.bytes_per_pixel / min(depth, thinnest + margin)
    if settings.block:
        rows = _widest(_layouts(view, 1, network, network.stride), settings.block / view.scale[0])
        columns = _widest(
            _layouts(view, 2, network, network.stride), settings.block / view.scale[1]
        )
        thickness = thinnest
    else:
        # Small tiles are mostly halo. Below a quarter of the side that fits, the
        # memory is too small for this network anyway, and is exceeded rather than the time.
        smallest = max(network.stride, pixels**0.5 / 4)
        rows, columns = _cheapest(
            _layouts(view, 1, network, smallest), _layouts(view, 2, network, smallest), pixels
        )
        fitting = int(pixels * min(depth, thinnest + margin) / (rows.longest * columns.longest))
        # Where the whole depth fits, there is no margin.
        thickness = depth if fitting >= depth else max(thinnest, fitting - margin)
    tiles = []
    for row, column in product(range(len(rows.native)), range(len(columns.native))):
        y0, y1 = rows.native[row]
        x0, x1 = columns.native[column]
        top, bottom = rows.seen[row]
        left, right = columns.seen[column]
        for z0 in range(0, depth, thickness):
            z1 = min(z0 + thickness, depth)
            first, stop = stacks.span(z0, z1, depth, sections)
            seen = Box((first, top, left), (stop, bottom, right))
            tiles.append(Tile(Box((z0, y0, x0), (z1, y1, x1)), seen))
    return tiles


def chunks_of(shape: tuple[int, int, int]) -> Coverage:
    """The chunks of a volume's stored prediction, none of them wanted: predictions are cut there.

    Args:
        shape: of the volume, (z, y, x).
    """
    return Coverage.nothing(shape, CHUNK)


def tiles_of(
    tiles: list[Tile],
    wanted: Coverage,
    view: Resampled,
    network: Network,
    sections: int = 0,
    stacks: SectionStacks | None = None,
) -> list[Tile]:
    """The tiles of a plan that hold what is wanted, cut down to it.

    What is left of a tile are whole cells of ``wanted``, as far as these lie in the tile.

    Args:
        tiles: of the whole volume, from `plan`.
        wanted: a part of the volume.
        view: as for the plan, as the others.
        network: as for the plan.
        sections: as for the plan.
        stacks: as for the plan.
    """
    if wanted.is_all:
        return tiles
    stacks = stacks or SectionStacks()
    wanted = wanted.cut_at_boxes(tile.native for tile in tiles)
    remaining = []
    for tile in tiles:
        for box in _wanted_boxes(tile.native, wanted, together=stacks.deep):
            remaining.append(
                tile
                if box == tile.native
                else make_tile(view, box, network.halo, network.stride, sections, stacks)
            )
    return remaining


def _wanted_boxes(native: Box, wanted: Coverage, *, together: bool) -> Iterator[Box]:
    """Boxes that hold exactly what is wanted of a tile, as few as consecutive sections allow.

    Args:
        native: voxels of the tile.
        wanted: in cells that end where the tile does.
        together: whether the network sees sections together. Then all sections from the first to
            the last that is wanted are taken: each one would be seen with the same neighbours.
    """
    z, y, x = wanted.slices(native)
    cells = wanted.cells[z, y, x]
    if together:
        found = np.flatnonzero(cells.any((1, 2)))
        taken = np.zeros(len(cells), bool)
        taken[found.min(initial=len(cells)) : found.max(initial=-1) + 1] = True
        cells = taken[:, None, None] & cells.any(0)
    begun: dict[_Rectangle, int] = {}
    # One section more, without anything, ends all that has begun.
    for section, here in enumerate([*cells, np.zeros_like(cells[0])], native.start[0]):
        rectangles = dict.fromkeys(_rectangles(here))
        for rectangle in [rectangle for rectangle in begun if rectangle not in rectangles]:
            top, bottom, left, right = rectangle
            start = (int(wanted.rows[y.start + top]), int(wanted.columns[x.start + left]))
            stop = (int(wanted.rows[y.start + bottom]), int(wanted.columns[x.start + right]))
            yield Box((begun.pop(rectangle), *start), (section, *stop))
        for rectangle in rectangles:
            begun.setdefault(rectangle, section)


def _rectangles(cells: NDArray[np.bool_]) -> Iterator[_Rectangle]:
    """Rectangles that cover the cells of a section once, as high as rows are alike."""
    rows = [_runs(row) for row in cells]
    first = 0
    for runs, group in groupby(rows):
        stop = first + len(list(group))
        for left, right in runs:
            yield first, stop, left, right
        first = stop


def _runs(cells: NDArray[np.bool_]) -> list[Span]:
    """Runs of cells of a row: first, and one past the last."""
    ends = np.flatnonzero(np.diff(cells, prepend=False, append=False)).tolist()
    return list(zip(ends[::2], ends[1::2], strict=True))


def _layouts(view: Resampled, axis: int, network: Network, smallest: float) -> list[_Layout]:
    """All layouts along rows (1) or columns (2), the one with the widest tiles first.

    Args:
        view: the volume at the network's pixel size.
        axis: of the volume.
        network: sets halo and stride.
        smallest: least width of a part of a chunk, in working pixels.
    """
    size = view.volume.shape[axis]
    scale = view.scale[axis - 1]
    layouts = []
    for width in _widths(size, scale, network.stride, smallest):
        period = max(width, CHUNK)
        native = [
            (start, min(start + width, first + period, size))
            for first in range(0, size, period)
            for start in range(first, min(first + period, size), width)
        ]
        seen = [
            seen_span(span, scale, view.shape[axis], network.halo, network.stride)
            for span in native
        ]
        # At another pixel size, cuts fall between the network's strides: the spans differ by a
        # stride. All of one length make one shape, which a GPU records once (see `Recorded`).
        longest = max(stop - start for start, stop in seen)
        seen[1:] = [(start, min(start + longest, view.shape[axis])) for start, _ in seen[1:]]
        layouts.append(_Layout(width, native, seen, shares_chunks=width < min(CHUNK, size)))
    return layouts


def _widths(size: int, scale: float, stride: int, smallest: float) -> Iterator[int]:
    """Widths of tiles in voxels: the whole axis, multiples of a chunk, then parts of a chunk."""
    yield size
    chunks = -(-size // CHUNK) - 1
    # A tile narrower than the network's stride would share its bottleneck cells with others.
    yield from (n * CHUNK for n in range(chunks, 0, -1) if n * CHUNK * scale >= stride)
    # As many parts as equal as the network's grid allows; a part that begins between two of its
    # strides sees almost a stride more.
    parts = (-(-CHUNK // (n * stride)) * stride for n in range(2, CHUNK // stride + 1))
    narrower = dict.fromkeys(width for width in parts if width < min(CHUNK, size))
    yield from (width for width in narrower if width * scale >= smallest)


def _widest(layouts: list[_Layout], limit: float) -> _Layout:
    """The widest tiles of at most ``limit`` voxels; the narrowest ones where all are wider."""
    return next((layout for layout in layouts if layout.width <= limit), layouts[-1])


def _cheapest(
    rows: list[_Layout], columns: list[_Layout], pixels: float
) -> tuple[_Layout, _Layout]:
    """The layouts with the least work for the network, among those that fit into the memory.

    The most compact halo is not always that of a square: 1 x 2 chunks may fit where 2 x 2 do not.
    """
    fitting = [
        pair for pair in product(rows, columns) if pair[0].longest * pair[1].longest <= pixels
    ]

    def cost(pair: tuple[_Layout, _Layout]) -> tuple[bool, int, int]:
        shares_chunks = pair[0].shares_chunks or pair[1].shares_chunks
        work = pair[0].total * pair[1].total
        return shares_chunks, work, len(pair[0].native) * len(pair[1].native)

    return min(fitting, key=cost, default=(rows[-1], columns[-1]))

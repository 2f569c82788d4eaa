"""Which part of a volume something is known of, or wanted of: whole cells of single sections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box

Edges = NDArray[np.int64]


@dataclass(frozen=True)
class Coverage:
    """A part of a volume. Its rows and columns are cut into cells, all of one section each.

    Attributes:
        rows: where cells begin along y, ascending from 0, and at last the volume's size.
        columns: the same along x.
        cells: whether a cell belongs to the part, bool (z, row, column).
    """

    rows: Edges
    columns: Edges
    cells: NDArray[np.bool_]

    @classmethod
    def nothing(cls, shape: tuple[int, int, int], side: int = 0) -> Coverage:
        """No voxel of a volume, in square cells; in cells of whole sections if ``side`` is 0."""
        rows, columns = (
            np.append(np.arange(0, size, side or max(1, size)), size) for size in shape[1:]
        )
        cells = np.zeros((shape[0], len(rows) - 1, len(columns) - 1), bool)
        return cls(rows, columns, cells)

    @classmethod
    def of(cls, shape: tuple[int, int, int], boxes: Iterable[Box]) -> Coverage:
        """Exactly the voxels of some boxes, all of which lie in the volume."""
        boxes = list(boxes)
        rows, columns = (_ends(boxes, axis, shape[axis]) for axis in (1, 2))
        part = cls(rows, columns, np.zeros((shape[0], len(rows) - 1, len(columns) - 1), bool))
        part.add(boxes)
        return part

    def of_windows(self, bounds: NDArray[np.int64]) -> Coverage:
        """The cells that any of many boxes touches, in the cells of this part.

        Args:
            bounds: z0, z1, y0, y1, x0, x1 of each box, n x 6.
        """
        touched = np.array(bounds)
        for edges, low in ((self.rows, 2), (self.columns, 4)):
            touched[:, low] = np.searchsorted(edges, bounds[:, low], side="right") - 1
            touched[:, low + 1] = np.searchsorted(edges, bounds[:, low + 1], side="left")
        cells = np.zeros_like(self.cells)
        # Most windows share their cells with others.
        for z0, z1, y0, y1, x0, x1 in np.unique(touched, axis=0).tolist():
            cells[z0:z1, y0:y1, x0:x1] = True
        return Coverage(self.rows, self.columns, cells)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the volume along z, y, x."""
        return len(self.cells), int(self.rows[-1]), int(self.columns[-1])

    @property
    def is_all(self) -> bool:
        """Whether every voxel of the volume belongs to the part."""
        # Of no voxel at all, NumPy says that all of them are true.
        return self.cells.size > 0 and bool(self.cells.all())

    @property
    def share(self) -> float:
        """Voxels of the part as a fraction of the volume."""
        areas = np.outer(np.diff(self.rows), np.diff(self.columns))
        voxels = int((self.cells.sum(0) * areas).sum())
        return voxels / max(1, len(self.cells) * int(areas.sum()))

    def slices(self, box: Box) -> tuple[slice, slice, slice]:
        """The cells that a box touches, as an index of `cells`."""
        spans = [slice(box.start[0], box.stop[0])]
        for axis, edges in ((1, self.rows), (2, self.columns)):
            first = int(np.searchsorted(edges, box.start[axis], side="right")) - 1
            stop = int(np.searchsorted(edges, box.stop[axis], side="left"))
            spans.append(slice(first, stop))
        z, y, x = spans
        return z, y, x

    def add(self, boxes: Iterable[Box]) -> None:
        """Take every cell that one of the boxes touches into the part."""
        for box in boxes:
            self.cells[self.slices(box)] = True

    def covers(self, box: Box) -> bool:
        """Whether all voxels of a box belong to the part."""
        cells = self.cells[self.slices(box)]
        return cells.size > 0 and bool(cells.all())

    def touches(self, box: Box) -> bool:
        """Whether a cell of the part holds a voxel of a box."""
        return bool(self.cells[self.slices(box)].any())

    def boxes(self) -> Iterator[Box]:
        """The cells of the part, in (z, y, x) order."""
        for z, row, column in np.argwhere(self.cells).tolist():
            start = (z, int(self.rows[row]), int(self.columns[column]))
            yield Box(start, (z + 1, int(self.rows[row + 1]), int(self.columns[column + 1])))

    def some_cells(self, count: int, side: int) -> list[Box]:
        """Cells of the part, evenly spaced in their order, as boxes of at most ``side`` voxels.

        Args:
            count: of the cells; all of them if there are fewer.
            side: of a box; a larger cell is cut to its middle.
        """
        cells = list(self.boxes())
        numbers = np.unique(np.linspace(0, len(cells) - 1, min(count, len(cells))).round())
        boxes = []
        for number in numbers.astype(int).tolist():
            z, z_stop, *ends = cells[number].bounds
            top, bottom = _middle(ends[0], ends[1], side)
            left, right = _middle(ends[2], ends[3], side)
            boxes.append(Box((z, top, left), (z_stop, bottom, right)))
        return boxes

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """Which voxels of a box belong to the part, bool (z, y, x)."""
        z, y, x = self.slices(box)
        cells = self.cells[z, y, x]
        _, y0, x0 = box.start
        _, y1, x1 = box.stop
        heights = np.diff(self.rows[y.start : y.stop + 1].clip(y0, y1))
        widths = np.diff(self.columns[x.start : x.stop + 1].clip(x0, x1))
        return cells.repeat(heights, axis=1).repeat(widths, axis=2)

    def cut_at(self, rows: Iterable[int], columns: Iterable[int]) -> Coverage:
        """The same part in smaller cells, which end at these voxels as well."""
        new_rows = np.union1d(self.rows, np.fromiter(rows, np.int64))
        new_columns = np.union1d(self.columns, np.fromiter(columns, np.int64))
        row_of = np.searchsorted(self.rows, new_rows[:-1], side="right") - 1
        column_of = np.searchsorted(self.columns, new_columns[:-1], side="right") - 1
        cells = self.cells[:, row_of][:, :, column_of]
        return Coverage(new_rows, new_columns, cells)

    def cut_at_boxes(self, boxes: Iterable[Box]) -> Coverage:
        """The same part in cells none of which lies on both sides of a box's end."""
        boxes = list(boxes)
        _, rows, columns = self.shape
        return self.cut_at(_ends(boxes, 1, rows).tolist(), _ends(boxes, 2, columns).tolist())

    def without(self, other: Coverage) -> Coverage:
        """What of this part does not belong to another one of the same volume."""
        here = self.cut_at(other.rows, other.columns)
        covered = other.cut_at(self.rows, self.columns)
        return Coverage(here.rows, here.columns, here.cells & ~covered.cells)


def _middle(start: int, stop: int, side: int) -> tuple[int, int]:
    """The middle of an interval, at most ``side`` long."""
    first = max(start, (start + stop - side) // 2)
    return first, min(stop, first + side)


def _ends(boxes: list[Box], axis: int, size: int) -> Edges:
    """Where boxes begin and end along an axis of this size, ascending."""
    ends = {end for box in boxes for end in (box.start[axis], box.stop[axis])}
    return np.array(sorted({0, size} | ends), np.int64)

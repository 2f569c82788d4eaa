"""The table of objects: sorted by a click on a header, the most suspicious first at the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_emda._gui.objects.rows import Rows

# Rows that are seen; with more the table scrolls.
_VISIBLE = 7
# The column by which the table is sorted at first: suspicion.
FIRST = 1
_DISPLAY = Qt.ItemDataRole.DisplayRole
_NONE = QModelIndex()


class ObjectModel(QAbstractTableModel):
    """Rows in an order; only the cells on view are ever made into text.

    Attributes:
        rows: that are shown; None for none.
        order: row by line of the table.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: Rows | None = None
        self.order: NDArray[np.intp] = np.empty(0, np.intp)
        self._sorted = (FIRST, Qt.SortOrder.DescendingOrder)

    def show_rows(self, rows: Rows | None) -> None:
        """Show these rows, in the order chosen before."""
        self.beginResetModel()
        self.rows = rows
        self._arrange()
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; what was decided comes last where suspicion decides."""
        self._sorted = (column, order)
        self.beginResetModel()
        self._arrange()
        self.endResetModel()

    def _arrange(self) -> None:
        column, order = self._sorted
        if self.rows is None or not 0 <= column < len(self.rows.columns):
            self.order = np.arange(0 if self.rows is None else len(self.rows.ids))
            return
        descending = order == Qt.SortOrder.DescendingOrder
        self.order = self.rows.columns[column].order(descending=descending)
        if column == FIRST and descending:
            decided = self.rows.decided[self.order]
            self.order = np.concatenate([self.order[~decided], self.order[decided]])

    def line_of(self, object_id: int) -> int | None:
        """The line of an object; None if it is not shown."""
        if self.rows is None:
            return None
        lines = np.flatnonzero(self.rows.ids[self.order] == object_id)
        return int(lines[0]) if len(lines) else None

    def id_at(self, line: int) -> int:
        """The id of the object in a line."""
        assert self.rows is not None
        return int(self.rows.ids[self.order[line]])

    def undecided_from(self, line: int) -> int | None:
        """The first line from one on, wrapping around, whose object is not decided."""
        if self.rows is None or not len(self.order):
            return None
        open_lines = np.flatnonzero(~self.rows.decided[self.order])
        if not len(open_lines):
            return None
        later = open_lines[open_lines >= line]
        return int(later[0] if len(later) else open_lines[0])

    # -- what Qt asks ------------------------------------------------------------------------

    def rowCount(self, parent: QModelIndex = _NONE) -> int:
        """See `QAbstractTableModel`."""
        return 0 if parent.isValid() else len(self.order)

    def columnCount(self, parent: QModelIndex = _NONE) -> int:
        """See `QAbstractTableModel`."""
        return 0 if self.rows is None or parent.isValid() else len(self.rows.columns)

    def data(self, index: QModelIndex, role: int = _DISPLAY) -> Any:
        """See `QAbstractTableModel`."""
        if self.rows is None or not index.isValid():
            return None
        column = self.rows.columns[index.column()]
        if role == _DISPLAY:
            return column.text(int(self.order[index.row()]))
        if role == Qt.ItemDataRole.ToolTipRole:
            return self.rows.reason(int(self.order[index.row()])) or None
        if role == Qt.ItemDataRole.TextAlignmentRole and column.values.dtype.kind in "fi":
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = _DISPLAY) -> Any:
        """See `QAbstractTableModel`."""
        if self.rows is None or orientation != Qt.Orientation.Horizontal:
            return None
        column = self.rows.columns[section]
        if role == _DISPLAY:
            return column.title
        return column.tip if role == Qt.ItemDataRole.ToolTipRole else None


class ObjectTable(QTableView):
    """The objects, one per line; a click or Enter goes to one.

    Args:
        go: called with the id of the object that was chosen.
    """

    def __init__(self, go: Callable[[int], object]) -> None:
        super().__init__()
        self._go = go
        self.objects = ObjectModel()
        self.setModel(self.objects)
        self.setAccessibleName("Objects")
        self.setToolTip(
            "Click an object, or press Enter on it, to go there; click a heading to sort. The most "
            "suspicious come first."
        )
        # By Tab alone: after a click, the keys still act on the canvas.
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setTabKeyNavigation(False)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerItem)
        self.setWordWrap(False)
        self.setSortingEnabled(True)
        headings = self.horizontalHeader()
        lines = self.verticalHeader()
        assert headings is not None and lines is not None
        headings.setSortIndicator(FIRST, Qt.SortOrder.DescendingOrder)
        headings.setStretchLastSection(True)
        # Rows of one height: measuring 100 000 of them would take seconds.
        lines.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        height = self.fontMetrics().height() + 6
        lines.setDefaultSectionSize(height)
        lines.hide()
        self.setFixedHeight((_VISIBLE + 1) * height + self.horizontalScrollBarHeight())
        self.clicked.connect(lambda index: go(self.objects.id_at(index.row())))

    def horizontalScrollBarHeight(self) -> int:
        """Pixels that a scroll bar below the lines takes."""
        bar = self.horizontalScrollBar()
        return bar.sizeHint().height() if bar is not None else 0

    def show_rows(self, rows: Rows | None) -> None:
        """Show these objects, with columns as wide as they need."""
        first_time = self.objects.rows is None
        self.objects.show_rows(rows)
        if rows is None or not first_time:
            return
        metrics = self.fontMetrics()
        for index, column in enumerate(rows.columns):
            # From few of the lines: the widest of 100 000 is not worth seconds.
            # The mark of the sorted column needs room beside the title.
            texts = [column.title + "xx", *(column.text(row) for row in range(len(rows.ids))[:50])]
            width = max(metrics.horizontalAdvance(text) for text in texts) + 14
            self.setColumnWidth(index, width)

    def select(self, object_id: int) -> None:
        """Mark the line of an object, and scroll to it."""
        line = self.objects.line_of(object_id)
        selection = self.selectionModel()
        if line is None or selection is None:
            self.clearSelection()
            return
        index = self.objects.index(line, 0)
        flags = QItemSelectionModel.SelectionFlag
        selection.setCurrentIndex(index, flags.ClearAndSelect | flags.Rows)
        self.scrollTo(index)

    @property
    def line(self) -> int:
        """The line that is marked; -1 for none."""
        return self.currentIndex().row()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Go to the object at Enter, as a click does."""
        keys = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space)
        if event is not None and event.key() in keys and self.line >= 0:
            self._go(self.objects.id_at(self.line))
        else:
            super().keyPressEvent(event)

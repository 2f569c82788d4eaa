"""The table of clusters: a click names one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_emda._gui.data.cluster_naming import ClusterRow

_VISIBLE = 10
"""Rows at most; beyond them the table scrolls."""
_FRAME = 4
"""Pixels above and below the rows."""
_SWATCH = 16
"""Pixels along a side of the square in the cluster's colour."""


class ClusterTable(QTableWidget):
    """Cluster with its colour, share, class.

    Args:
        clicked: called with the cluster whose row was clicked.
    """

    def __init__(self, clicked: Callable[[int], None]) -> None:
        super().__init__(0, 3)
        self.setHorizontalHeaderLabels(["cluster", "share", "class"])
        self.setToolTip(
            "A click names the cluster, or takes its name away. Clusters without a name are "
            "background."
        )
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setHorizontalHeader(_header(Qt.Orientation.Horizontal))
        self.setVerticalHeader(_header(Qt.Orientation.Vertical, hidden=True))
        self.cellClicked.connect(lambda line, _: clicked(line + 1))

    def show_rows(self, rows: Sequence[ClusterRow]) -> None:
        """Show these clusters; without any the table is not to be seen."""
        self.setRowCount(len(rows))
        self.setVisible(bool(rows))
        height = (1 + min(len(rows), _VISIBLE)) * self.rowHeight(0)  # with the header
        self.setFixedHeight(height + _FRAME)
        for line, row in enumerate(rows):
            cluster = QTableWidgetItem(f"cluster {row.cluster}")
            swatch = QPixmap(_SWATCH, _SWATCH)
            swatch.fill(QColor(row.colour))
            cluster.setData(Qt.ItemDataRole.DecorationRole, swatch)
            items = (cluster, QTableWidgetItem(row.share), QTableWidgetItem(row.name))
            for at, item in enumerate(items):
                self.setItem(line, at, item)


def _header(orientation: Qt.Orientation, *, hidden: bool = False) -> QHeaderView:
    """A header as a table has it, over columns of the same width."""
    header = QHeaderView(orientation)
    header.setSectionsClickable(True)
    header.setHighlightSections(True)
    if hidden:
        header.hide()
    else:
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
    return header

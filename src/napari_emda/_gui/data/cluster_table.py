"""The table of clusters: a click names one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_emda._gui.data.cluster_naming import ClusterRow

# Rows at most; with more the table scrolls, so that the rest of the dock stays in reach.
_VISIBLE = 10
# Pixels for the frame above and below the rows.
_FRAME = 4
# Pixels along a side of the square in the cluster's colour.
_SWATCH = 16


class ClusterTable(QTableWidget):
    """One row per cluster: its colour, share and class.

    Args:
        clicked: called with the cluster whose row was clicked.
    """

    def __init__(self, clicked: Callable[[int], None]) -> None:
        super().__init__(0, 3)
        self.setHorizontalHeaderLabels(["cluster", "share", "class"])
        self.setToolTip(
            "Click a cluster to name it or to remove its name. Clusters without a name are "
            "background."
        )
        # The keyboard stays with the canvas.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setHorizontalHeader(_header(Qt.Orientation.Horizontal))
        self.setVerticalHeader(_header(Qt.Orientation.Vertical, hidden=True))
        self.cellClicked.connect(lambda line, _: clicked(line + 1))

    def show_rows(self, rows: Sequence[ClusterRow]) -> None:
        """Show these clusters; hide the table if there are none."""
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
            for position, item in enumerate(items):
                self.setItem(line, position, item)


def _header(orientation: Qt.Orientation, *, hidden: bool = False) -> QHeaderView:
    """A header over columns of the same width."""
    header = QHeaderView(orientation)
    header.setSectionsClickable(True)
    header.setHighlightSections(True)
    if hidden:
        header.hide()
    else:
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
    return header

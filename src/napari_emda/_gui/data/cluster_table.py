"""The table of clusters: a click names one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QKeyEvent, QPixmap
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
        self.setAccessibleName("Clusters")
        # By Tab alone: after a click, the keys still act on the canvas.
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        # Tab leaves the table; the arrow keys go through it.
        self.setTabKeyNavigation(False)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        columns = _header(Qt.Orientation.Horizontal)
        self.setHorizontalHeader(columns)
        # Number and share are short; the names of classes get the rest.
        for column in (0, 1):
            columns.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.setVerticalHeader(_header(Qt.Orientation.Vertical, hidden=True))
        self._clicked = clicked
        self.cellClicked.connect(lambda line, _: clicked(line + 1))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Name the current cluster at Enter or the space bar, as a click does."""
        keys = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space)
        if event is not None and event.key() in keys and self.currentRow() >= 0:
            self._clicked(self.currentRow() + 1)
        else:
            super().keyPressEvent(event)

    def show_rows(self, rows: Sequence[ClusterRow]) -> None:
        """Show these clusters; hide the table if there are none."""
        self.setRowCount(len(rows))
        self.setVisible(bool(rows))
        height = (1 + min(len(rows), _VISIBLE)) * self.rowHeight(0)  # with the header
        self.setFixedHeight(height + _FRAME)
        for line, row in enumerate(rows):
            cluster = QTableWidgetItem(str(row.cluster))
            swatch = QPixmap(_SWATCH, _SWATCH)
            swatch.fill(QColor(row.colour))
            cluster.setData(Qt.ItemDataRole.DecorationRole, swatch)
            items = (cluster, QTableWidgetItem(row.share), QTableWidgetItem(row.name))
            for position, item in enumerate(items):
                self.setItem(line, position, item)


def _header(orientation: Qt.Orientation, *, hidden: bool = False) -> QHeaderView:
    """A header over columns that share the width, or beside rows."""
    header = QHeaderView(orientation)
    header.setSectionsClickable(True)
    header.setHighlightSections(True)
    if hidden:
        header.hide()
    else:
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
    return header

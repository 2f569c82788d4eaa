"""What a user's hands do: real keys and a real mouse, on the canvas of a viewer and elsewhere."""

from collections.abc import Iterable, Sequence

from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent, QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

BUTTON = Qt.MouseButton.LeftButton
PAUSE = 12
"""Milliseconds before a movement: the canvas drops those that come less than 10 after the last."""
KEYS = {
    "Shift": Qt.KeyboardModifier.ShiftModifier,
    "Ctrl": Qt.KeyboardModifier.ControlModifier,
}


def press_mouse(widget, point):
    """Press and release the left button at a point of a widget."""
    QTest.mouseClick(widget, BUTTON, Qt.KeyboardModifier.NoModifier, point)
    QTest.qWait(1)


def drop(viewer, paths):
    """Drop files on the canvas, as from a file manager."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    none = Qt.KeyboardModifier.NoModifier
    copy = Qt.DropAction.CopyAction
    event = QDropEvent(QPointF(50, 50), copy, data, BUTTON, none, QDropEvent.Type.Drop)
    # Qt delivers drops only within a drag, which belongs to the desktop.
    viewer.window._qt_viewer.dropEvent(event)


class Hands:
    """Presses keys and moves the mouse in one viewer.

    Args:
        viewer: with a window that is shown.
        session: of its dock; knows where volumes lie.
    """

    def __init__(self, viewer, session):
        self.viewer, self.session = viewer, session
        self.canvas = viewer.window._qt_viewer.canvas.native

    def press(self, key, where=None):
        """A key as the help writes it, such as Shift-N, with the mouse at a voxel of a volume."""
        *held, letter = key.split("-")
        modifier = Qt.KeyboardModifier.NoModifier
        for name in held:
            modifier |= KEYS[name]
        point = self.canvas.rect().center() if where is None else self.pixel(*where)
        self._move(point, Qt.MouseButton.NoButton)
        QTest.keyClick(self.canvas, getattr(Qt.Key, f"Key_{letter}"), modifier)
        QTest.qWait(1)

    def pixel(self, volume: str, voxel: Sequence[float]) -> QPoint:
        """Where on the canvas a voxel of the section on view is seen."""
        world = self.session.opened.place(volume).to_world(self.viewer, voxel)
        camera = self.viewer.scene.camera
        height, width = (world[axis - self.viewer.dims.ndim] for axis in self.viewer.dims.displayed)
        size = self.canvas.size()
        x = size.width() / 2 + (width - camera.center[2]) * camera.zoom
        y = size.height() / 2 + (height - camera.center[1]) * camera.zoom
        return QPoint(round(x), round(y))

    def hover(self, volume, voxel):
        """Move the mouse to a voxel."""
        self._move(self.pixel(volume, voxel), Qt.MouseButton.NoButton)

    def click(self, volume, voxel):
        """Press and release the button at a voxel."""
        point = self.pixel(volume, voxel)
        self._move(point, Qt.MouseButton.NoButton)
        QTest.mouseClick(self.canvas, BUTTON, Qt.KeyboardModifier.NoModifier, point)
        QTest.qWait(1)

    def stroke(self, volume, voxels: Iterable[Sequence[float]]):
        """Press the button at the first voxel, move over the others, release at the last."""
        points = [self.pixel(volume, voxel) for voxel in voxels]
        none = Qt.KeyboardModifier.NoModifier
        self._move(points[0], Qt.MouseButton.NoButton)
        QTest.mousePress(self.canvas, BUTTON, none, points[0])
        for point in points[1:]:
            self._move(point, BUTTON)
        QTest.mouseRelease(self.canvas, BUTTON, none, points[-1])
        QTest.qWait(1)

    def _move(self, point, held):
        """Deliver a movement at once: QTest's may arrive after the button."""
        where, none = QPointF(point), Qt.KeyboardModifier.NoModifier
        event = QMouseEvent(
            QEvent.Type.MouseMove,
            where,
            QPointF(self.canvas.mapToGlobal(point)),
            Qt.MouseButton.NoButton,
            held,
            none,
        )
        QTest.qWait(PAUSE)
        QApplication.sendEvent(self.canvas, event)
        QTest.qWait(1)

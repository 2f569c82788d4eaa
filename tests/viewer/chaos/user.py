"""The user of a random sequence: a viewer with a dock, a mouse and a keyboard."""

import contextlib

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_emda._gui.dock import Dock
from tests.gui.fake import fake_command, methods_command
from tests.viewer.chaos.drawn import FAR, flat, pixels_of
from tests.viewer.hands import BUTTON, KEYS, PAUSE

# Milliseconds for which the user watches a job; most give up before it has ended.
PATIENCE = 15_000


class User:
    """One user, who acts on one viewer and sometimes on a second one.

    Args:
        viewer: with a window.
        folder: of the project.
        seed: of the sequence.
        plain: without the dock.
        new_viewer: creates another viewer.

    Attributes:
        dock: None without the plugin.
        others: viewers and docks that were opened beside.
        log: names of the actions that were taken.
        renamed: ids of the layers to which the user has given a name, or has added.
    """

    def __init__(self, viewer, folder, seed, *, plain, new_viewer):
        self.viewer = viewer
        self.folder = folder
        self.seed = seed
        self.plain = plain
        self.new_viewer = new_viewer
        self.dock = None
        self.others = []
        self.log = []
        self.said = []
        self.renamed = set()
        self.held = None

    # -- what is there -----------------------------------------------------------------------

    @property
    def window(self):
        return self.viewer.window._qt_window

    @property
    def canvas(self):
        return self.viewer.window._qt_viewer.canvas.native

    @property
    def opened(self):
        return None if self.dock is None else self.dock.session.opened

    @property
    def patches(self):
        return None if self.dock is None else self.dock.annotate.patches

    @property
    def current(self):
        return None if self.patches is None else self.patches.current

    def layer(self, rng, kind=None):
        """One of the layers, at random; None if there is none of that kind."""
        layers = [layer for layer in self.viewer.layers if kind is None or isinstance(layer, kind)]
        return layers[int(rng.integers(len(layers)))] if layers else None

    def choose(self, rng, most, kind=None):
        """Select some layers in the list; returns them."""
        layers = [layer for layer in self.viewer.layers if kind is None or isinstance(layer, kind)]
        rng.shuffle(layers)
        chosen = layers[: int(rng.integers(1, most + 1))]
        self.viewer.layers.selection.clear()
        self.viewer.layers.selection.update(chosen)
        return chosen

    @property
    def painting(self):
        """The labels layer whose tool the mouse has."""
        active = self.viewer.layers.selection.active
        return active if isinstance(active, Labels) else None

    # -- a dock ------------------------------------------------------------------------------

    def new_dock(self, viewer):
        dock = Dock(viewer, fake_command(), methods_command())
        dock.session.said.connect(lambda text, tone: self.said.append((tone, text)))
        viewer.window.add_dock_widget(dock, name="napari-emda")
        return dock

    # -- hands -------------------------------------------------------------------------------

    def press(self, key):
        """A key on the canvas, written as in the help."""
        *held, letter = key.split("-")
        modifier = Qt.KeyboardModifier.NoModifier
        for name in held:
            modifier |= KEYS[name]
        QTest.keyClick(self.canvas, getattr(Qt.Key, f"Key_{letter}"), modifier)

    def point(self, rng):
        """A point of the canvas: in the open patch where it is drawn, or anywhere."""
        region = self.current
        if region is not None and chance(rng, 0.6):
            (_, y0, x0), (_, y1, x1) = region.voxels.start, region.voxels.stop
            layer = self.opened.output("annotations", region.volume)
            drawn = None
            if layer is not None and flat(self):
                drawn = pixels_of(self, layer, rng.uniform(y0, y1 - 1), rng.uniform(x0, x1 - 1))
            if drawn is not None and np.isfinite(drawn).all() and np.abs(drawn).max() < FAR:
                return QPoint(*(int(value) for value in drawn[0]))
        size = self.canvas.size()
        x, y = rng.uniform(0.2, 0.8, 2)
        return QPoint(int(x * size.width()), int(y * size.height()))

    def mouse(self, kind, point, *, held=True):
        """A press, move or release, delivered at once: QTest's moves may come after the button."""
        where = QPointF(point)
        none = Qt.MouseButton.NoButton
        moves = kind == QEvent.Type.MouseMove
        down = held and kind != QEvent.Type.MouseButtonRelease
        event = QMouseEvent(
            kind,
            where,
            QPointF(self.canvas.mapToGlobal(point)),
            none if moves else BUTTON,
            BUTTON if down else none,
            Qt.KeyboardModifier.NoModifier,
        )
        QTest.qWait(PAUSE)
        # The window may have closed meanwhile.
        with contextlib.suppress(RuntimeError):
            QApplication.sendEvent(self.canvas, event)

    def drag(self, rng, *, between=None, release=True):
        """Press, move, release; something else may happen in between."""
        points = [self.point(rng) for _ in range(4)]
        self.mouse(QEvent.Type.MouseMove, points[0], held=False)
        self.mouse(QEvent.Type.MouseButtonPress, points[0])
        self.held = points[0]
        for k, point in enumerate(points[1:]):
            if k == 1 and between is not None:
                between()
            self.mouse(QEvent.Type.MouseMove, point)
        if release:
            self.release(points[-1])

    def release(self, point=None):
        """Let go of the button, if it is held."""
        if self.held is not None:
            self.mouse(QEvent.Type.MouseButtonRelease, point or self.held)
            self.held = None

    def click(self, point, *, double=False):
        """A click of the canvas, or a double click."""
        self.mouse(QEvent.Type.MouseMove, point, held=False)
        self.mouse(QEvent.Type.MouseButtonPress, point)
        self.mouse(QEvent.Type.MouseButtonRelease, point)
        if double:
            self.mouse(QEvent.Type.MouseButtonDblClick, point)
            self.mouse(QEvent.Type.MouseButtonRelease, point)

    def watch(self):
        """Wait for the running job, as long as patience lasts."""
        runner = self.dock.session.runner
        for _ in range(PATIENCE // 20):
            if runner.job is None:
                break
            QTest.qWait(20)


def integers(rng, low, high):
    """A random whole number, as Python's: napari's models refuse numpy's."""
    return int(rng.integers(low, high))


def chance(rng, share):
    return bool(rng.random() < share)


def random_array(rng, shape, top):
    return np.asarray(rng.integers(0, top, shape), np.uint8)

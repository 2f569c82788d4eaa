"""From one's own TIFFs to an exported mask by the keyboard alone."""

import time

import pytest
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication

from napari_emda._gui.dock import Dock
from tests.gui.fake import fake_command, methods_command
from tests.viewer.test_own_files import write_files

# More than there are controls in the window: Tab then leads nowhere.
MOST_TABS = 90
# Seconds in which the dock has certainly taken its shape.
PATIENCE = 20
MOUSE = (
    QEvent.Type.MouseButtonPress,
    QEvent.Type.MouseButtonRelease,
    QEvent.Type.MouseButtonDblClick,
)


def is_whole(control):
    """Whether all of a control is in sight."""
    return control.visibleRegion().boundingRect() == control.rect()


class Keyboard(QObject):
    """Presses keys on what has the focus, which must be seen; fails when the mouse is used."""

    def __init__(self, dock):
        super().__init__()
        self.dock = dock
        self.mouse = 0
        QApplication.instance().installEventFilter(self)

    def eventFilter(self, watched, event):
        self.mouse += event.type() in MOUSE
        return False

    @property
    def focus(self):
        focus = QApplication.focusWidget()
        assert focus is not None, "the focus is lost"
        return focus

    def press(self, key, *modifiers):
        held = Qt.KeyboardModifier.NoModifier
        for modifier in modifiers:
            held |= modifier
        QTest.keyClick(self.focus, key, held)
        QTest.qWait(1)

    def type(self, text):
        QTest.keyClicks(self.focus, text)
        QTest.qWait(1)

    def go_to(self, wanted, key=Qt.Key.Key_Tab):
        for _ in range(MOST_TABS):
            if self.focus is wanted:
                break
            self.press(key)
            self.check_focus()
        assert self.focus is wanted, f"{wanted.accessibleName()} is not reached"

    def check_focus(self):
        focus = self.focus
        # The dock may still be taking its shape, as after the end of a job.
        end = time.monotonic() + PATIENCE
        while self.dock.isAncestorOf(focus) and not is_whole(focus) and time.monotonic() < end:
            QTest.qWait(10)
        assert not focus.visibleRegion().isEmpty(), f"{focus.accessibleName()} is out of sight"
        if self.dock.isAncestorOf(focus):
            assert is_whole(focus), f"{focus.accessibleName()} is cut off"

    def enter(self, wanted):
        """Go to a button and press it."""
        assert isinstance(wanted, QAbstractButton)
        self.go_to(wanted)
        self.press(Qt.Key.Key_Return)


def type_sizes(keys, sizes):
    keys.go_to(sizes._boxes[0])
    for size in ("50", "4.6", "4.6"):
        keys.type(size)
        keys.press(Qt.Key.Key_Tab)


def leave_modes_on_the_canvas(keys, dock):
    """Escape gives up drawing, then a polygon, then the brush, while the canvas has the focus."""
    patches = dock.annotate.patches
    keys.press(Qt.Key.Key_F6)
    assert keys.focus is dock.session.viewer.window._qt_viewer.canvas.native
    keys.press(Qt.Key.Key_W)
    assert "Draw a rectangle" in dock.notices.text()
    keys.press(Qt.Key.Key_Escape)
    assert "No patch was drawn" in dock.notices.text()
    keys.press(Qt.Key.Key_N)
    layer = dock.session.opened.output("annotations", patches.current.volume)
    for tool, mode in ((Qt.Key.Key_P, "paint"), (Qt.Key.Key_G, "polygon"), (Qt.Key.Key_F, "fill")):
        keys.press(tool)
        assert layer.mode == mode
        keys.press(Qt.Key.Key_Escape)
        assert layer.mode == "pan_zoom"
        assert patches.current is not None
    keys.press(Qt.Key.Key_F6)
    assert dock.isAncestorOf(keys.focus)


def annotate(keys, dock, wait, line):
    """Get patches suggested, accept one, go to another in the list, give up drawing."""
    patches = dock.annotate.patches
    for text in ("Suggest patches", "Next patch"):
        wait(lambda text=text: line.isEnabled() and line.text() == text)
        keys.enter(line)
    wait(lambda: patches.current is not None)
    first = patches.current.id
    # The keys of the round act where the focus is.
    keys.press(Qt.Key.Key_K)
    wait(lambda: [r.state for r in patches.regions if r.id == first] == ["accepted"])
    assert patches.current.id != first
    keys.go_to(dock.annotate.list)
    keys.press(Qt.Key.Key_Home)
    keys.press(Qt.Key.Key_Return)
    assert patches.current.id == first
    keys.press(Qt.Key.Key_W)
    assert "Draw a rectangle" in dock.notices.text()
    keys.press(Qt.Key.Key_Escape)
    assert "No patch was drawn" in dock.notices.text()
    leave_modes_on_the_canvas(keys, dock)


@pytest.fixture
def dock(make_napari_viewer, qtbot, tmp_path):
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1366, 768)
    viewer.open(write_files(tmp_path), stack=False, plugin="napari")
    new_dock = Dock(viewer, fake_command(), methods_command())
    viewer.window.add_dock_widget(new_dock, name="napari-emda")
    qtbot.waitUntil(lambda: new_dock.session.catalogue is not None, timeout=240_000)
    window = viewer.window._qt_window
    # Only an active window has a focus, and the display says so when it likes.
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=60_000)
    viewer.window._qt_viewer.canvas.native.setFocus()
    yield new_dock
    new_dock.shut_down()


def test_own_files_become_an_exported_mask_without_a_mouse(dock, qtbot, tmp_path):
    def wait(condition):
        qtbot.waitUntil(condition, timeout=240_000)

    def idle():
        wait(lambda: dock.session.runner.job is None)

    keys = Keyboard(dock)
    data = dock.data
    # From the canvas into the dock.
    keys.press(Qt.Key.Key_F6)
    assert dock.isAncestorOf(keys.focus)
    type_sizes(keys, data.source_size)
    # Layers: those that are proposed are right, and others can be chosen.
    keys.go_to(data.target)
    proposed = data.target.currentText()
    keys.press(Qt.Key.Key_Up)
    assert data.target.currentText() != proposed
    keys.press(Qt.Key.Key_Down)
    assert data.target.currentText() == proposed == "target"
    type_sizes(keys, data.target_size)
    assert data.target_size.value() == data.source_size.value() == (50, 4.6, 4.6)
    wait(data.use.isEnabled)
    keys.enter(data.use)
    wait(lambda: dock.session.opened is not None)
    # The focus was on a button that has gone: it waits at the next step.
    line = dock.guide.line.button
    wait(lambda: keys.focus is line and line.text() == "Start")
    keys.go_to(dock.train.main["steps"].native)
    keys.press(Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    keys.type("40")
    keys.enter(dock.train.start)
    wait(lambda: dock.session.runner.job is not None)
    idle()
    assert "Run 001-fake is trained" in dock.notices.text()
    wait(lambda: keys.focus is line and line.text() == "Suggest patches")
    annotate(keys, dock, wait, line)
    keys.enter(dock.drawers["Predict"].toggleButton())
    assert dock.predict.isVisible()
    keys.enter(dock.predict.start)
    idle()
    keys.enter(dock.drawers["Export"].toggleButton())
    keys.enter(dock.export.start)
    idle()
    assert dock.export.target().is_file()
    # Back, not round.
    keys.go_to(dock.drawers["Export"].toggleButton(), Qt.Key.Key_Backtab)
    keys.press(Qt.Key.Key_F6)
    assert keys.focus is dock.session.viewer.window._qt_viewer.canvas.native
    assert not keys.mouse

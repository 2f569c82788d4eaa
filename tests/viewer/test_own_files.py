"""From one's own TIFFs, without voxel sizes and with the mask opened as an image, to a training."""

import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget

from napari_emda._gui.dock import Dock
from napari_emda.synthetic.phantom import phantom
from tests.gui.fake import fake_command, methods_command
from tests.viewer import story
from tests.viewer.hands import drop, press_mouse

SHAPE = (6, 112, 96)
MOST_CLICKS = 12


class Mouse:
    """Clicks in the middle of what can be clicked, and counts."""

    def __init__(self):
        self.clicks = 0

    def click(self, widget: QWidget) -> None:
        # What a user can see and press: not hidden, not disabled, not scrolled out of sight.
        assert widget.isVisible() and widget.isEnabled()
        assert not widget.visibleRegion().isEmpty()
        self.clicks += 1
        middle = QPoint(widget.width() // 2, widget.height() // 2)
        press_mouse(widget, middle)


def write_files(folder):
    """Three stacks as most programs write them: no voxel size."""
    source, labels = phantom(SHAPE, "source", 0)
    target, _ = phantom(SHAPE, "target", 0)
    arrays = {"source.tif": source, "source_labels.tif": labels * 255, "target.tif": target}
    for name, array in arrays.items():
        tifffile.imwrite(folder / name, array)
    return [folder / name for name in arrays]


def type_sizes(mouse, widget, sizes):
    """Click into the first box, and go on by the Tab key."""
    mouse.click(widget._boxes[0].lineEdit())
    for box, size in zip(widget._boxes, sizes, strict=True):
        QTest.keyClicks(box.lineEdit(), size)
        QTest.keyClick(box.lineEdit(), Qt.Key.Key_Tab)
    QTest.qWait(1)


def test_a_training_starts_after_few_clicks(make_napari_viewer, qtbot, tmp_path):
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1366, 768)
    dock = Dock(viewer, fake_command(), methods_command())
    viewer.window.add_dock_widget(dock, name="napari-emda")
    qtbot.waitUntil(lambda: dock.session.catalogue is not None, timeout=240_000)
    drop(viewer, write_files(tmp_path))
    data = dock.data
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=60_000)
    assert data.source.currentText() == "source"
    assert data.labels.currentText() == "source_labels (image)"
    assert data.target.currentText() == "target"
    mouse = Mouse()
    type_sizes(mouse, data.source_size, ("50", "4,6", "4.6"))
    type_sizes(mouse, data.target_size, ("50", "4.6", "4.6"))
    assert data.target_size.value() == data.source_size.value() == (50, 4.6, 4.6)
    qtbot.waitUntil(lambda: data.use.isEnabled(), timeout=60_000)
    viewer.dims.set_current_step(0, 4)
    mouse.click(data.use)
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=240_000)
    # The voxel size moves the sections below the slider, and the user stays at the same one.
    assert viewer.dims.current_step[0] == 4
    qtbot.waitUntil(lambda: dock.train.start.isVisible(), timeout=60_000)
    mouse.click(dock.train.start)
    qtbot.waitUntil(lambda: dock.session.runner.job is not None, timeout=60_000)
    assert mouse.clicks <= MOST_CLICKS
    # All on one grid in nm, and the slider ends where the target ends.
    for layer in viewer.layers:
        assert [str(unit) for unit in layer.units] == ["nanometer"] * 3
        assert layer.scale.tolist() == [50, 4.6, 4.6]
    assert viewer.dims.nsteps[0] == SHAPE[0]
    dock.shut_down()


STACK = np.random.default_rng(0).integers(0, 255, story.SHAPE).astype(np.uint8)
# Of each kind of layer that napari makes of a TIFF: array, and how it is written.
DROPPED = {
    "stack": (STACK, {}),
    "section": (STACK[0], {}),
    "times": (np.stack([STACK, STACK]), {}),
    "colours": (np.stack([STACK[0]] * 3, axis=-1), {"photometric": "rgb"}),
    "fiji": (STACK, {"imagej": True, "resolution": (1 / 8, 1 / 8), "metadata": {"unit": "nm"}}),
}


@pytest.fixture
def project(make_napari_viewer, qtbot, tmp_path):
    """A viewer with an open project, and the list of what napari has said since."""
    viewer = make_napari_viewer(show=True)
    dock, _ = story.start(viewer, fake=True)

    def wait(condition):
        qtbot.waitUntil(condition, timeout=240_000)

    story.make_project(dock, tmp_path / "project", wait)
    said = []
    notification_manager.notification_ready.connect(said.append)
    yield viewer, said
    notification_manager.notification_ready.disconnect(said.append)
    dock.shut_down()


def test_files_dropped_beside_a_project_are_placed_in_nm_without_a_warning(
    project, qtbot, tmp_path
):
    viewer, said = project
    for name, (array, options) in DROPPED.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", array, **options)
        drop(viewer, [tmp_path / f"{name}.tif"])
        qtbot.waitUntil(lambda name=name: name in viewer.layers, timeout=60_000)
        layer = viewer.layers[name]
        axes = min(layer.ndim, 3)
        assert layer.scale[-axes:].tolist() == list(story.SPACING[-axes:])
        assert {str(unit) for unit in layer.units[-axes:]} == {"nanometer"}
    viewer.add_points(np.array([[1, 2, 3]]))
    assert viewer.layers.extent.units is not None
    canvas = viewer.window._qt_viewer.canvas
    # It is drawn, and no longer held back.
    assert not canvas._pause_scene_graph
    canvas.on_draw()
    assert [notice.message for notice in said] == []

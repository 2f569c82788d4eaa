"""What a patch needs fits on the screen of a laptop, beside the canvas."""

from functools import partial

from qtpy.QtCore import QRect, Qt

from napari_emda._gui.common.widgets import Drawer
from tests.gui.suggested import suggest
from tests.viewer import story
from tests.viewer.hands import BUTTON

# Widths of the windows, largest first, and what is left of each for the canvas.
SIZES = ((1366, 700), (1024, 340))


def in_sight(widget, dock):
    """Whether a widget is seen in full without scrolling."""
    shown = widget.visibleRegion().boundingRect()
    inside = QRect(widget.mapTo(dock, widget.rect().topLeft()), widget.size())
    return shown == widget.rect() and dock.rect().contains(inside)


def test_no_part_of_the_dock_is_so_wide_that_the_canvas_suffers(
    make_napari_viewer, tmp_path, qtbot
):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1024, 768)
    dock, _ = story.start(viewer, fake=True)
    story.make_project(dock, tmp_path / "project", partial(qtbot.waitUntil, timeout=240_000))
    for name, drawer in dock.drawers.items():
        dock.show_only(name)
        for part in drawer.findChildren(Drawer):
            part.expand()
        qtbot.wait(100)
        assert viewer.window._qt_viewer.canvas.native.width() >= 340, name
    dock.shut_down()


def test_a_patch_needs_no_scrolling(make_napari_viewer, tmp_path, qtbot):
    def wait(condition):
        qtbot.waitUntil(condition, timeout=240_000)

    viewer = make_napari_viewer(show=True)
    viewer.window.resize(SIZES[0][0], 768)
    dock, _ = story.start(viewer, fake=True)
    story.make_project(dock, tmp_path / "project", wait)
    story.fake_model(dock.session.opened.project)
    dock.session.project_changed.emit()
    boxes = [f"{z}:{z + 1},40:64,30:54" for z in range(5)]
    suggested = [{"volume": "new", "box": box, "score": 0.5} for box in boxes]
    suggest(dock.annotate.patches, suggested, "entropy", "001-fake")
    line = dock.guide.line
    for text in ("Next patch", "Done"):
        wait(lambda text=text: line.button.isEnabled() and line.button.text() == text)
        qtbot.mouseClick(line.button, BUTTON)
    assert sum(region.annotated for region in dock.annotate.patches.regions) == 1
    painting = dock.annotate.painting
    deciding = (*painting.deciding, *painting.moving, *painting.history)
    correcting = (*painting.tools.values(), *painting.classes.classes)
    wanted = [*deciding, *correcting, line.button]
    for width, canvas in SIZES:
        viewer.window.resize(width, 768)
        wait(lambda width=width: viewer.window._qt_window.width() == width)
        assert viewer.window._qt_viewer.canvas.native.width() >= canvas
        for control in (*wanted, dock.annotate.retrain.start):
            wait(lambda control=control: in_sight(control, dock))
    # The headings are reached by keys alone.
    heading = dock.drawers["Export"].toggleButton()
    heading.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.keyClick(heading, Qt.Key.Key_Return)
    wait(lambda: dock.export.start.isVisible())
    assert painting.done.isVisible()
    # A retraining shows its progress, and how to stop it.
    heading = dock.drawers["Annotate"].toggleButton()
    heading.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.keyClick(heading, Qt.Key.Key_Return)
    retrain = dock.annotate.retrain
    retrain.steps.setFocus()
    retrain.steps.selectAll()
    qtbot.keyClicks(retrain.steps, "20000")
    wait(lambda: in_sight(retrain.start, dock))
    qtbot.mouseClick(retrain.start, BUTTON)
    wait(lambda: in_sight(retrain.strip.bar, dock) and in_sight(retrain.strip.stop, dock))
    qtbot.mouseClick(retrain.strip.stop, BUTTON)
    wait(lambda: dock.session.runner.job is None)
    dock.shut_down()

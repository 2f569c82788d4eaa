"""Tools that correct by object, without a window: what they take over and what they leave."""

import numpy as np
import pytest

from napari_emda._gui.annotate.click_tools import OBJECTS, ClickTools
from napari_emda._gui.annotate.correction_preview import PREVIEW
from tests.gui.annotate.test_patches import on_disk
from tests.gui.suggested import with_suggestions


@pytest.fixture
def patches(session, predicted, qtbot):
    new_patches = with_suggestions(session, predicted)
    new_patches.next()
    return new_patches


@pytest.fixture
def clicks(session, patches):
    return ClickTools(session, session.opened, patches)


def test_the_tool_stays_in_hand_from_patch_to_patch_and_gives_way_to_napari_s(
    session, patches, clicks
):
    layer = session.opened.output("annotations", "target")
    assert layer.mode == "paint"
    clicks.take(OBJECTS)
    assert layer.mode == "pan_zoom"
    patches.paint.select_class(0)
    assert (patches.paint.tools.clicks, layer.mode) == (OBJECTS, "pan_zoom")
    patches.next()
    assert (patches.paint.tools.clicks, layer.mode) == (OBJECTS, "pan_zoom")
    layer.mode = "fill"
    assert patches.paint.tools.clicks == ""
    clicks.take(OBJECTS)
    assert clicks.leave()
    assert not clicks.leave()


def test_brackets_change_the_brush_while_no_object_is_clicked(session, patches, clicks):
    layer = session.opened.output("annotations", "target")
    size = layer.brush_size
    clicks.resize(1)
    assert (layer.brush_size, patches.paint.tools.brush) == (size + 1, size + 1)
    clicks.resize(-99)
    assert layer.brush_size == 1


def test_a_project_that_is_left_is_not_touched_any_more(session, patches, clicks):
    layer = session.opened.output("annotations", "target")
    clicks.take_brush(snaps=True)
    assert layer.snapping is not None
    clicks.close()
    patches.paint.tools.take_brush(snaps=False)
    assert layer.snapping is not None


def test_without_its_layers_nothing_is_corrected_and_nothing_raised(session, patches, clicks):
    clicks.take(OBJECTS)
    viewer = session.viewer
    viewer.layers.remove(session.opened.output(PREVIEW, "target"))
    point = session.opened.place("target").to_world(viewer, (1, 5, 5))
    clicks._pressed = patches.current
    clicks._point = point
    clicks._preview()
    viewer.layers.remove(session.opened.output("annotations", "target"))
    clicks._click(point)
    clicks._preview()
    assert not np.any(on_disk(patches))

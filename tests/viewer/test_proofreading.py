"""Going through the objects of a prediction by real clicks and keys."""

from functools import partial

import numpy as np
import pytest

from napari_emda._gui.objects.layers import ALL, LIVE, ONE
from napari_emda.project.project import Project
from napari_emda.project.proofreading import Proofreading
from tests.gui.found import DISCS, RUN, disc_model, find_objects
from tests.viewer import story
from tests.viewer.hands import BUTTON, Hands

Z = 2


@pytest.fixture
def proofreading(make_napari_viewer, tmp_path, qtbot):
    """A viewer with the panel of objects open; its parts, and a patient wait."""
    wait = partial(qtbot.waitUntil, timeout=240_000)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1024, 768)
    dock, _ = story.start(viewer, fake=True)
    story.make_project(dock, tmp_path / "project", wait)
    disc_model(dock.session.opened.project)
    dock.session.project_changed.emit()
    dock.show_only("Objects")
    wait(lambda: dock.objects.proofreader is not None)
    qtbot.wait(50)
    yield viewer, dock, Hands(viewer, dock.session), wait
    dock.shut_down()


def at(dock, centre):
    return dock.objects.proofreader.objects.at((Z, *centre))


def idle(dock, wait):
    wait(lambda: not dock.objects.proofreader.busy)


def test_a_session_by_clicks_and_keys(proofreading, qtbot, tmp_path):
    _viewer, dock, hands, wait = proofreading
    panel, opened = dock.objects, dock.session.opened
    reader = panel.proofreader
    assert "3 objects, 0 decided." in panel.status.text()
    # The first in the queue, by the button; the pair has a neck.
    qtbot.mouseClick(panel.buttons.next, BUTTON)
    first = reader.current
    assert first == panel.table.objects.id_at(0) and "perhaps two objects" in panel.why.text()
    pair = at(dock, DISCS["pair"][0])
    assert first == pair
    seen = np.asarray(opened.output(ONE, "new").data[Z])
    own = np.asarray(reader.objects.objects[Z]) == pair
    assert (seen == 1).any() and own[seen > 0].all() and not seen[DISCS["pair"][0]]

    # A seed beside the object is refused, and two in it split it.
    hands.press("S")
    assert reader.mode == "split"
    hands.click("new", (Z, 45, 27))
    assert "not in object" in dock.notices.text()
    hands.click("new", (Z, *DISCS["pair"][0]))
    hands.click("new", (Z, *DISCS["pair"][1]))
    idle(dock, wait)
    assert at(dock, DISCS["pair"][0]) != at(dock, DISCS["pair"][1])
    assert opened.output("seeds", "new") is None
    # It went on to the next one.
    assert reader.current not in (0, pair)
    faint = at(dock, DISCS["faint"][0])
    panel.table.selectRow(panel.table.objects.line_of(faint))
    qtbot.keyClick(panel.table, "\r")
    assert reader.current == faint
    hands.press("D")
    idle(dock, wait)
    assert at(dock, DISCS["faint"][0]) == 0
    assert "3 objects, 2 decided, 1 deleted." in panel.status.text()
    lone = at(dock, DISCS["lone"][0])
    assert reader.current == lone
    hands.press("K")
    idle(dock, wait)
    assert reader.objects.objects.good == {lone}
    assert "All 3 objects are decided." in dock.notices.text()

    # Undo twice, redo once.
    hands.press("U")
    idle(dock, wait)
    hands.press("U")
    idle(dock, wait)
    assert at(dock, DISCS["faint"][0]) == faint == reader.current
    hands.press("Shift-U")
    idle(dock, wait)
    assert at(dock, DISCS["faint"][0]) == 0

    # A click chooses an object, and the next one is merged with it.
    hands.press("N")
    wait(lambda: reader.current == lone)
    part, _other = (at(dock, centre) for centre in DISCS["pair"])
    panel.table.selectRow(panel.table.objects.line_of(part))
    qtbot.keyClick(panel.table, "\r")
    hands.press("M")
    hands.click("new", (Z, *DISCS["pair"][1]))
    idle(dock, wait)
    assert at(dock, DISCS["pair"][0]) == at(dock, DISCS["pair"][1]) == part
    ids = np.asarray(reader.objects.objects[...])
    annotations = np.asarray(opened.project.annotations.open("new")[...])
    dock.shut_down()

    # All of it is on the disk.
    with Project.open(tmp_path / "project", exclusive=True) as project:
        again = Proofreading.of(project, RUN, "new")
        np.testing.assert_array_equal(again.objects[...], ids)
        kinds = [edit.kind for edit in again.replayed.done]
        assert kinds == ["split", "delete", "merge"]
        np.testing.assert_array_equal(project.annotations.open("new")[...], annotations)
        assert (annotations == 1).any()


# A viewer takes seconds to open, so tests share it where one does not depend on the other.


def check_that_the_panel_fits(proofreading, qtbot):
    viewer, dock, _, _ = proofreading
    panel = dock.objects
    qtbot.wait(50)
    assert viewer.window._qt_viewer.canvas.native.width() >= 340
    for widget in (panel.table, *panel.buttons.deciding, *panel.buttons.moving):
        seen = widget.visibleRegion().boundingRect()
        assert seen.height() == widget.height(), widget


def check_escape(proofreading):
    _, dock, hands, _wait = proofreading
    reader = dock.objects.proofreader
    hands.press("N")
    for key in ("M", "S"):
        hands.press(key)
        assert reader.mode
        hands.press("Escape")
        assert not reader.mode
    hands.press("S")
    hands.click("new", (Z, *DISCS["pair"][0]))
    assert dock.session.opened.output("seeds", "new") is not None
    hands.press("Escape")
    assert dock.session.opened.output("seeds", "new") is None
    assert not reader.objects.replayed.done


def check_what_is_seen(proofreading, qtbot):
    viewer, dock, hands, wait = proofreading
    layer = dock.session.opened.output(ALL, "new")
    assert layer.visible and viewer.layers.selection.active is layer
    number = dock.objects.proofreader.current
    dock.show_only("Predict")
    assert not layer.visible
    # A click there chooses no object.
    hands.click("new", (Z, *DISCS["lone"][0]))
    assert dock.objects.proofreader.current == number != at(dock, DISCS["lone"][0])
    dock.show_only("Objects")
    wait(lambda: layer.visible)
    dock.session.opened.show_section("new", Z)
    hands.click("new", (Z, *DISCS["lone"][0]))
    assert dock.objects.proofreader.current == at(dock, DISCS["lone"][0])


def check_other_settings(proofreading):
    viewer, dock, hands, wait = proofreading
    opened = dock.session.opened
    hands.press("N")
    dock.objects.separate.setValue(0.9)
    wait(lambda: opened.output(LIVE, "new") is not None)
    live = opened.output(LIVE, "new")
    z = opened.section_on_view("new").start[0]
    shown = np.asarray(live.data)[0]
    assert shown[DISCS["pair"][0]] != shown[DISCS["pair"][1]]
    assert not opened.output(ALL, "new").visible
    assert z == round(float(opened.place("new").to_index(viewer, live.translate)[0]))
    # The threshold of the mask is the same everywhere.
    dock.predict.threshold.setValue(0.7)
    assert dock.objects.threshold.value() == 0.7
    wait(lambda: not np.asarray(opened.output(LIVE, "new").data)[0][DISCS["faint"][0]])
    # As they were found.
    dock.objects.threshold.setValue(0.5)
    dock.objects.separate.setValue(0.0)
    wait(lambda: not live.visible)
    assert opened.output(ALL, "new").visible


def test_looking_decides_nothing(proofreading, qtbot):
    check_that_the_panel_fits(proofreading, qtbot)
    check_escape(proofreading)
    check_what_is_seen(proofreading, qtbot)
    check_other_settings(proofreading)
    assert not proofreading[1].objects.proofreader.objects.replayed.done


def check_that_layers_are_added_once(proofreading):
    _, dock, hands, wait = proofreading
    opened = dock.session.opened
    before = [opened.output(role, "new") for role in (ALL, ONE)]
    hands.press("N")
    find_objects(opened.project, "new", threshold=0.7)
    reader = dock.objects.proofreader
    dock.session.project_changed.emit()
    wait(lambda: dock.objects.proofreader not in (None, reader))
    wait(lambda: before[0].visible)
    assert [opened.output(role, "new") for role in (ALL, ONE)] == before
    # The faint one is below the threshold.
    y, x = DISCS["faint"][0]
    assert not np.asarray(before[0].data[Z])[y - 9 : y + 9, x - 9 : x + 9].any()
    assert not np.asarray(before[1].data[Z]).any()


def check_that_edits_are_kept(proofreading):
    _, dock, hands, wait = proofreading
    hands.press("N")
    hands.press("S")
    for centre in DISCS["pair"]:
        hands.click("new", (Z, *centre))
    idle(dock, wait)
    find_objects(dock.session.opened.project, "new", threshold=0.6)
    before = dock.objects.proofreader
    dock.session.project_changed.emit()
    wait(lambda: dock.objects.proofreader not in (None, before))
    assert at(dock, DISCS["pair"][0]) != at(dock, DISCS["pair"][1])
    assert "matched by overlap" in dock.notices.text()


def check_that_paint_is_kept(proofreading):
    _, dock, hands, wait = proofreading
    project = dock.session.opened.project
    array = project.annotations.require("new")
    array[Z, 70, 25] = 1
    panel = dock.objects
    panel.proofreader.go(at(dock, DISCS["lone"][0]))
    hands.press("K")
    idle(dock, wait)
    taught = np.asarray(project.annotations.open("new")[Z])
    assert taught[70, 25] == 1 and taught[70, 27] == 2


def check_redrawing(proofreading):
    _, dock, hands, wait = proofreading
    reader = dock.objects.proofreader
    hands.press("N")
    number = reader.current
    hands.press("R")
    idle(dock, wait)
    patches = dock.annotate.patches
    assert dock.drawers["Annotate"].isExpanded()
    assert patches.current is not None
    box = reader.objects.largest_section(number)
    assert patches.current.voxels.clip_to(box) == box
    # The objects would lie over the paint.
    assert not dock.session.opened.output(ALL, "new").visible


def check_another_project(proofreading, tmp_path):
    _, dock, hands, _wait = proofreading
    hands.press("N")
    old = dock.session.opened.project
    journal = old.folder / "object_edits.jsonl"
    before = journal.read_bytes()
    other = Project.create(tmp_path / "other", old.classes)
    image = other.volumes.store("new", np.zeros((6, 112, 96), np.uint8))
    other.volumes.add(image, "target", name="new", spacing=story.SPACING)
    dock.session.adopt(other)
    assert dock.objects.proofreader is None
    dock.show_only("Objects")
    dock.objects.commands["delete"]()
    assert "No objects were found yet" in dock.notices.text()
    assert journal.read_bytes() == before


def test_objects_that_were_found_anew_have_layers_and_edits_of_before_and_can_be_redrawn(
    proofreading,
):
    check_that_edits_are_kept(proofreading)
    check_that_layers_are_added_once(proofreading)
    check_redrawing(proofreading)


def test_decisions_keep_paint_and_stay_in_their_project(proofreading, tmp_path):
    check_that_paint_is_kept(proofreading)
    check_another_project(proofreading, tmp_path)

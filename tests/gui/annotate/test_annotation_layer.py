"""The layer to paint in: nothing outside the patch, nothing but classes, strokes undone exactly."""

import numpy as np
import pytest

from napari_emda._gui.annotate.decisions import accept, undo
from napari_emda._gui.annotate.patches import Patches
from napari_emda._gui.annotate.tools import Tools
from napari_emda.project.project import Project
from tests.gui.annotate.test_patches import on_disk, states
from tests.gui.suggested import REGIONS, suggest, with_suggestions

PATCH = np.s_[1:2, 0:16, 0:16]


@pytest.fixture
def patches(session, predicted):
    new_patches = with_suggestions(session, predicted)
    new_patches.next()
    return new_patches


@pytest.fixture
def layer(session, patches):
    return session.opened.output("annotations", "target")


def brush(layer):
    layer.brush_size = 9
    layer.paint((1, 15, 15), 2)


def ball(layer):
    layer.brush_size = 21
    layer.n_edit_dimensions = 3
    layer.paint((1, 15, 8), 2)


def bucket(layer):
    layer.contiguous = False
    layer.fill((1, 14, 14), 1)


def polygon(layer):
    layer.mode = "polygon"
    layer.paint_polygon(np.array([[1, 5, 5], [1, 30, 5], [1, 30, 30], [1, 5, 30]]), 2)


def plugin(layer):
    layer.data_setitem(tuple(np.indices(layer.data.shape).reshape(3, -1)), 2)


def array(layer):
    layer.data[0:3, 8:30, 8:30] = 2


TOOLS = [brush, ball, bucket, polygon, plugin, array]


@pytest.mark.parametrize("tool", TOOLS)
def test_no_tool_leaves_the_patch_and_undo_restores_the_disk(tool, layer, patches):
    before = on_disk(patches)
    shown = np.asarray(layer.data[:])
    tool(layer)
    after = on_disk(patches)
    changed = after != before
    assert changed[PATCH].any()
    changed[PATCH] = False
    assert not changed.any()
    layer.undo()
    assert np.array_equal(on_disk(patches), before)
    assert np.array_equal(np.asarray(layer.data[:]), shown)
    layer.redo()
    assert np.array_equal(on_disk(patches), after)


def test_the_canvas_shows_what_is_on_disk_while_the_stroke_goes_on(layer):
    raw = layer._slice.image.raw
    outside = np.ones(raw.shape, bool)
    outside[:16, :16] = False
    before = raw[outside].copy()
    for tool in (brush, ball, bucket, polygon):
        with layer.block_history():  # as while the mouse button is held
            tool(layer)
            assert np.array_equal(layer._slice.image.raw[outside], before), tool
        layer.undo()
        layer.n_edit_dimensions = 2


@pytest.mark.parametrize("tool", TOOLS)
def test_outside_is_painted_when_asked_for_and_said_and_finished_patches_stay(
    tool, layer, patches, session
):
    patches.go(patches.regions[2])  # section 2, y 0 to 15, x 16 to 31
    accept(patches, complete=True)
    patches.go(patches.regions[0])
    patches.paint.tools.allow_outside(True)
    before = on_disk(patches)
    layer.data[2, 0:16, 16:32] = 2  # a finished patch
    assert np.array_equal(on_disk(patches), before)
    tool(layer)
    layer.draft.strokes.end(layer.draft.stored)
    after = on_disk(patches)
    outside = after != before
    outside[PATCH] = False
    assert outside.any()
    assert np.array_equal(after[2, 0:16, 16:32], before[2, 0:16, 16:32])
    if tool is not array:  # napari announces no stroke for it
        assert "outside the patch" in session.notices[-1][1]
    layer.undo()
    assert np.array_equal(on_disk(patches), before)


def test_a_stroke_that_paints_nothing_says_why(layer, patches, session):
    layer.mode = "polygon"
    layer.paint_polygon(np.array([[1, 30, 30], [1, 40, 30], [1, 40, 38]]), 2)
    assert "Only the patch can be painted" in session.notices[-1][1]
    patches.leave()
    layer.paint_polygon(np.array([[1, 3, 3], [1, 9, 3], [1, 9, 9]]), 2)
    assert "No patch is on view" in session.notices[-1][1]
    assert not on_disk(patches).any()


@pytest.mark.parametrize("section", [-1, 5])
def test_sections_beyond_the_volume_are_painted_nowhere(section, layer, patches, session):
    patches.paint.tools.allow_outside(True)
    before = on_disk(patches)
    triangle = np.array([[section, 3, 3], [section, 9, 3], [section, 9, 9]])
    for tool in ("paint", "fill", "paint_polygon"):
        session.notices.clear()
        getattr(layer, tool)(triangle if tool == "paint_polygon" else (section, 20.0, 20.0), 2)
        layer.explain()
        assert np.array_equal(on_disk(patches), before), tool
        assert "lies beyond the volume" in session.notices[-1][1], tool


def test_only_classes_can_be_chosen(layer, patches, session):
    heard = []
    layer.events.selected_label.connect(lambda: heard.append(layer.selected_label))
    for asked in (3, 9, 255, 0, -1):
        heard.clear()
        session.notices.clear()
        layer.selected_label = asked
        assert layer.selected_label == (2 if asked > 0 else 0), asked
        assert heard[-1] == layer.selected_label  # or the label box would show what was asked for
        if asked != 0:
            assert "The project has 2 classes: only these can be painted" in session.notices[-1][1]


def test_a_number_that_is_no_class_is_never_written(layer, patches):
    layer.brush_size = 5
    layer.paint((1, 14, 14), 9)
    layer.data[1, 13:15, 13:15] = 7
    layer.data[1, 13, 13] = -1
    assert not on_disk(patches).any()
    assert not layer._slice.image.raw[12:, 12:].any()


def test_labels_that_are_assigned_are_painted_in_the_patch_alone(layer, patches, session):
    before = on_disk(patches)
    draft = layer.data
    pasted = np.full(draft.shape, 2, np.uint16)
    pasted[1, 4:6] = 9  # no class
    layer.data = pasted
    assert layer.data is draft
    after = on_disk(patches)
    assert (np.asarray(draft[PATCH])[0, 6:] == 2).all()  # where it is the prediction, it stays one
    assert set(np.unique(after)) <= {0, 1, 2}
    changed = after != before
    changed[PATCH] = False
    assert not changed.any()
    assert "in the patch on view alone" in session.notices[-1][1]
    layer.undo()
    assert np.array_equal(on_disk(patches), before)
    layer.data = np.ones((2, 3, 4), np.uint8)
    assert "only such labels fit" in session.notices[-1][1]
    patches.leave()
    layer.data = pasted
    assert "No patch is on view" in session.notices[-1][1]
    assert np.array_equal(on_disk(patches), before)


def test_a_foreign_number_of_before_is_named_and_can_be_erased(session, predicted):
    stored = predicted.annotations.require("target")
    stored[1, 14, 3:5] = 9
    session.adopt(predicted)
    patches = Patches(session, session.opened, Tools())
    patches.open()
    suggest(patches, REGIONS, "entropy", "001-fake")
    patches.next()
    said = session.notices[-1][1]
    assert "'target'" in said and "number 9 in 2 voxels of section 1 (y 14 to 14, x 3 to 4)" in said
    with session.showing_errors():
        accept(patches, complete=True)
    assert "number 9" in session.notices[-1][1]
    assert states(patches)[0] == "suggested" and patches.current is not None
    layer = session.opened.output("annotations", "target")
    layer.brush_size = 5
    layer.paint((1, 14, 3), 0)
    accept(patches, complete=True)
    assert states(patches)[0] == "accepted"


def test_strokes_of_a_patch_are_undone_after_visiting_another(layer, patches):
    layer.brush_size = 1
    first = on_disk(patches)
    layer.paint((1, 14, 14), 2)
    second = on_disk(patches)
    layer.paint((1, 3, 3), 0)
    patches.next()
    layer.paint((3, 20, 20), 2)
    elsewhere = on_disk(patches)[3]
    patches.back()
    layer.undo()
    assert np.array_equal(on_disk(patches)[1], second[1])
    layer.undo()
    assert np.array_equal(on_disk(patches)[1], first[1])
    assert np.array_equal(on_disk(patches)[3], elsewhere)
    layer.redo()
    assert np.array_equal(on_disk(patches)[1], second[1])


def test_strokes_can_be_undone_again_when_the_decision_was(layer, patches, session):
    layer.brush_size = 1
    layer.paint((1, 14, 14), 2)
    accept(patches, complete=True)
    undo(patches)
    assert on_disk(patches).sum() == 2
    layer.undo()
    assert on_disk(patches).sum() == 0
    layer.undo()
    assert "no stroke to undo" in session.notices[-1][1]


def test_a_stroke_is_not_undone_where_others_have_written_since(layer, patches):
    layer.brush_size = 1
    layer.paint((1, 14, 14), 2)
    patches.project.annotations.require("target")[1, 14, 14] = 1
    layer.undo()
    assert on_disk(patches)[1, 14, 14] == 1


def test_a_stroke_outside_is_not_taken_back_in_a_patch_that_was_accepted_since(layer, patches):
    patches.paint.tools.allow_outside(True)
    layer.brush_size = 1
    layer.paint((2, 3, 20), 2)  # in the third patch
    patches.go(patches.regions[2])
    accept(patches, complete=True)
    patches.go(patches.regions[0])
    layer.undo()
    assert on_disk(patches)[2, 3, 20] == 2


def test_an_aborted_stroke_leaves_no_trace(layer, patches):
    layer.brush_size = 1
    layer.paint((1, 12, 12), 1)
    before = on_disk(patches)
    layer._begin_stroke()
    layer.paint((1, 3, 3), 0)
    layer.paint((1, 14, 14), 2)
    layer._overlays["brush_stroke"].abort(layer)
    assert np.array_equal(on_disk(patches), before)
    layer.undo()
    assert not on_disk(patches).any()


def test_the_choices_in_napari_s_controls_are_kept(layer, patches):
    layer.selected_label = 1
    layer.brush_size = 7
    assert (patches.paint.tools.class_index, patches.paint.tools.brush) == (0, 7)
    layer.selected_label = 0  # the eraser by number: the class to go back to stays
    assert patches.paint.tools.class_index == 0
    patches.next()
    assert (layer.selected_label, layer.brush_size) == (1, 7)


def test_nothing_is_undone_while_labels_are_imported(layer, patches, session):
    brush(layer)
    accept(patches, complete=True)
    before = on_disk(patches)
    layer.editable = False  # as `ImportBox` does
    undo(patches)
    assert "being imported" in session.notices[-1][1]
    assert np.array_equal(on_disk(patches), before)
    layer.editable = True
    undo(patches)
    assert states(patches)[0] == "suggested"


def test_what_is_painted_survives_a_new_project_object(layer, patches):
    brush(layer)
    assert np.array_equal(
        np.asarray(Project.open(patches.project.folder).annotations.open("target")[PATCH]),
        patches.paint.stored(patches.current),
    )

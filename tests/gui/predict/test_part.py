"""A part of a volume: which one is asked for, and what is shown of the rest."""

from __future__ import annotations

import numpy as np
import pytest

from napari_emda._gui.predict.layers import NOT_PREDICTED, show_not_predicted
from napari_emda._gui.predict.lazy_layers import NotPredicted
from napari_emda._gui.predict.panel import PredictPanel
from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from tests.gui.conftest import SHAPE
from tests.predictions import note_as_predicted


@pytest.fixture
def panel(qtbot, session, predicted):
    panel = PredictPanel(session)
    qtbot.addWidget(panel)
    session.adopt(predicted)
    return panel


def box_asked_for(panel):
    return panel.job(panel._session.opened).box


def test_the_whole_volume_is_predicted_unless_a_part_is_chosen(panel):
    assert box_asked_for(panel) == ""
    assert not panel.part.box.isVisibleTo(panel)


def test_this_section_is_the_one_on_view(panel):
    panel.part.what.setCurrentText("this section")
    for z in (0, SHAPE[0] - 1):
        panel._session.opened.show_section("target", z)
        assert box_asked_for(panel) == f"{z}:{z + 1},0:{SHAPE[1]},0:{SHAPE[2]}"


def test_what_is_in_view_is_a_part_of_the_section(panel):
    panel.part.what.setCurrentText("what is in view")
    opened = panel._session.opened
    opened.show_section("target", 1)
    box = Box.parse(box_asked_for(panel), SHAPE)
    assert box.start[0] == 1
    assert box == opened.section_on_view("target")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Type the box to segment"),
        ("1:2", "write z0:z1,y0:y1,x0:x1"),
        ("0:99,:,:", "does not lie in the volume"),
        ("1:1,:,:", "holds no voxel"),
    ],
)
def test_a_box_that_cannot_be_predicted_is_explained_while_it_is_typed(panel, text, reason):
    panel.part.what.setCurrentText("a box")
    assert panel.part.box.isVisibleTo(panel)
    panel.part.box.setText(text)
    assert reason in panel.reason.text()
    assert not panel.start.isEnabled()
    panel.part.box.setText("1:2,:,3:9")
    assert panel.reason.text() == ""
    assert panel.start.isEnabled()
    assert box_asked_for(panel) == "1:2,:,3:9"
    panel.part.box.setText("")
    panel.part.what.setCurrentText("whole volume")
    assert panel.start.isEnabled()


def test_what_is_not_predicted_is_covered(panel):
    opened = panel._session.opened
    run = opened.project.folder / "runs" / "001-fake"
    assert opened.output("not predicted", "target") is None
    part = Box((1, 0, 0), (2, SHAPE[1], 10))
    note_as_predicted(run, "target", SHAPE, [part])
    panel._show_result(opened, "001-fake", "target")
    layer = opened.output("not predicted", "target")
    expected = np.ones(SHAPE, np.uint8)
    expected[part.slices] = 0
    np.testing.assert_array_equal(np.asarray(layer.data), expected)
    assert layer.visible
    assert not layer.editable
    # More is predicted, and at last all.
    note_as_predicted(run, "target", SHAPE, [part, Box((0, 0, 0), (1, *SHAPE[1:]))])
    panel._show_result(opened, "001-fake", "target")
    assert opened.output("not predicted", "target") is layer
    assert not layer.data[0].any()
    note_as_predicted(run, "target", SHAPE)
    panel._show_result(opened, "001-fake", "target")
    assert opened.output("not predicted", "target") is None


def test_where_nothing_is_predicted_a_patch_begins_with_nothing(panel):
    opened = panel._session.opened
    regions = opened.project.regions
    box = Box((1, 0, 0), (2, 16, 16))
    region = regions.add("target", box, "001-fake")
    assert opened.project.predictions.in_region(region).any()
    run = opened.project.folder / "runs" / "001-fake"
    note_as_predicted(run, "target", SHAPE, [Box((0, 0, 0), (1, *SHAPE[1:]))])
    assert opened.project.predictions.in_region(region) is None


def test_the_cover_is_read_like_an_array():
    part = Coverage.of((3, 20, 30), [Box((0, 4, 5), (2, 20, 17)), Box((2, 0, 0), (3, 8, 8))])
    cover = NotPredicted(part)
    expected = np.asarray(cover)
    assert expected.sum() == 3 * 20 * 30 - 2 * 16 * 12 - 64
    for key in (1, (slice(None), 5), (2, slice(3, 18, 4), slice(None, None, -3)), (0, 7, 6)):
        np.testing.assert_array_equal(cover[key], expected[key])


@pytest.mark.parametrize("journal", [None, "", "nonsense\n", '{"uncertainty": false}\n'])
def test_all_is_covered_where_nothing_says_what_is_predicted(journal, session, predicted):
    path = predicted.run("001-fake").journal("target")
    path.unlink()
    if journal is not None:
        path.write_text(journal)
    session.adopt(predicted)
    part = predicted.predictions.of("001-fake", "target").predicted
    assert (part.shape, part.share) == (SHAPE, 0)
    show_not_predicted(session.opened, "001-fake", "target")
    covered = np.asarray(session.opened.output(NOT_PREDICTED, "target").data[:])
    assert covered.shape == SHAPE
    assert covered.all()

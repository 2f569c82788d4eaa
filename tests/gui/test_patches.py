"""The annotation round, without a window: what is painted, what is on disk, where the camera goes."""

import numpy as np
import pytest

from napari_emda._gui.patches import Patches
from napari_emda.project import Project

REGIONS = [
    {"volume": "target", "box": "1:2,0:16,0:16", "score": 0.9},
    {"volume": "target", "box": "3:4,8:24,8:24", "score": 0.8},
    {"volume": "target", "box": "2:3,0:16,16:32", "score": 0.7},
]


@pytest.fixture
def patches(session, predicted):
    session.adopt(predicted)
    made = Patches(session)
    made.open()
    made.take(REGIONS, "entropy", "001-fake")
    return made


def on_disk(patches):
    return np.asarray(Project.open(patches._session.project.folder).annotations("target")[:])


def states(patches):
    return [region.state for region in patches.regions]


def test_suggestions_are_drawn_as_rectangles_over_the_uncertainty(session, patches):
    layer = session.output("patches", "target")
    assert len(layer.data) == 3
    assert layer.data[0].tolist() == [[1, -0.5, -0.5], [1, -0.5, 15.5], [1, 15.5, 15.5], [1, 15.5, -0.5]]
    assert tuple(layer.scale) == (50, 4.6, 4.6)
    assert not np.allclose(layer.edge_color[0], layer.edge_color[2])
    assert session.output("uncertainty", "target").visible


def test_next_shows_the_patch_with_the_prediction_and_writes_nothing(session, patches):
    patches.step(1)
    layer = session.output("annotations", "target")
    assert session.viewer.dims.point[0] == 50
    assert session.viewer.scene.camera.center[1:] == pytest.approx((7.5 * 4.6, 7.5 * 4.6))
    assert session.viewer.layers.selection.active is layer
    assert layer.mode == "paint"
    shown = np.asarray(layer.data[1])
    assert (shown[2:12, 2:12] == 2).all()
    assert shown.sum() == 200
    assert on_disk(patches).sum() == 0
    assert not session.output("uncertainty", "target").visible


def test_done_takes_the_corrected_prediction_and_fills_with_background(session, patches):
    patches.step(1)
    layer = session.output("annotations", "target")
    layer.brush_size = 1
    layer.paint((1, 14, 14), 2)
    layer.paint((1, 3, 3), 0)
    patches.accept(complete=True)
    disk = on_disk(patches)[1, :16, :16]
    assert disk.min() == 1
    assert disk[14, 14] == 2
    assert disk[3, 3] == 1
    assert disk[5, 5] == 2
    assert states(patches) == ["accepted", "suggested", "suggested"]
    assert patches.current is None


def test_only_what_i_painted(session, patches):
    patches.step(1)
    patches.accept(complete=False)
    assert states(patches) == ["suggested"] * 3
    assert "painted nothing" in session.notices[-1][1]
    layer = session.output("annotations", "target")
    layer.brush_size = 1
    layer.paint((1, 14, 14), 1)
    patches.accept(complete=False)
    assert states(patches)[0] == "partial"
    assert on_disk(patches).sum() == 1


def test_skipping_keeps_own_paint_and_drops_the_prediction(session, patches):
    patches.step(1)
    session.output("annotations", "target").paint((1, 14, 14), 1)
    mine = on_disk(patches)
    patches.skip()
    assert states(patches)[0] == "skipped"
    assert np.array_equal(on_disk(patches), mine)
    assert np.array_equal(np.asarray(session.output("annotations", "target").data[1]), mine[1])


def test_undo_brings_back_the_patch_as_it_was_painted(session, patches):
    patches.step(1)
    layer = session.output("annotations", "target")
    layer.brush_size = 1
    layer.paint((1, 3, 3), 0)
    before = np.asarray(layer.data[1])
    patches.accept(complete=True)
    patches.step(1)
    patches.undo()
    assert states(patches)[0] == "suggested"
    assert patches.current.box == REGIONS[0]["box"]
    assert np.array_equal(np.asarray(layer.data[1]), before)
    assert on_disk(patches).sum() == 0


def test_going_round(session, patches):
    seen = []
    for by in (1, 1, 1, 1, -1):
        patches.step(by)
        seen.append(patches.current.score)
    assert seen == [0.9, 0.8, 0.7, 0.9, 0.7]
    for _ in range(3):
        patches.accept(complete=True)
        patches.step(1)
    assert patches.current is None
    assert "All patches of this round are done" in session.notices[-1][1]
    patches.accept(complete=True)
    assert "No open patch" in session.notices[-1][1]


def test_what_was_erased_stays_erased_when_one_comes_back(session, patches):
    patches.step(1)
    layer = session.output("annotations", "target")
    layer.brush_size = 1
    layer.paint((1, 3, 3), 0)
    patches.step(1)
    patches.step(-1)
    assert np.asarray(layer.data[1])[3, 3] == 0


def test_a_reopened_project_shows_its_annotations_and_regions(session, patches, predicted):
    patches.step(1)
    patches.accept(complete=True)
    folder = predicted.folder
    predicted.close()
    again = Project.open(folder, exclusive=True)
    session.adopt(again)
    patches.open()
    assert states(patches) == ["accepted", "suggested", "suggested"]
    assert np.asarray(session.output("annotations", "target").data[1, :16, :16]).min() == 1
    patches.undo()
    assert "no accepted patch" in session.notices[-1][1]


def test_a_removed_annotation_layer_comes_back_with_what_was_painted(session, patches):
    patches.step(1)
    patches.accept(complete=True)
    session.viewer.layers.remove(session.output("annotations", "target"))
    patches.leave()
    patches.step(1)
    assert np.asarray(session.output("annotations", "target").data[1, :16, :16]).min() == 1


def test_without_a_prediction_the_patch_is_empty(session, project):
    session.adopt(project)
    patches = Patches(session)
    patches.open()
    patches.take(REGIONS, "random", "")
    patches.step(1)
    assert np.asarray(session.output("annotations", "target").data[1]).sum() == 0
    patches.accept(complete=True)
    assert on_disk(patches)[1, :16, :16].tolist() == np.ones((16, 16)).tolist()

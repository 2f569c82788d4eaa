"""Correcting a patch by object: real clicks, strokes and keys; the disk after each."""

from functools import partial

import numpy as np
import pytest
import zarr
from scipy import ndimage

from napari_emda._gui.annotate.correction_preview import PREVIEW
from napari_emda.project.project import Project
from tests.gui.suggested import suggest
from tests.predictions import note_as_predicted
from tests.viewer import story
from tests.viewer.hands import BUTTON, Hands

RUN = "001-fake"
# Centres (y, x) of discs of 7 pixels: one that the model finds, one that it hardly finds.
FOUND, MISSED = (20, 20), (44, 44)
BOX = "2:3,4:60,4:60"
CORNER = (4, 4)


def disc(centre, shape, radius=7):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def predict_discs(project):
    shape = project.volumes.open("new").shape
    found, missed = (disc(centre, shape[1:]).astype(float) for centre in (FOUND, MISSED))
    likely = ndimage.gaussian_filter(0.95 * found + 0.25 * missed, 1)
    likely += ndimage.gaussian_filter(0.1 * missed, 6)  # a halo to grow into
    values = np.rint(255 * likely).astype(np.uint8)
    run = project.folder / "runs" / RUN
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").touch()
    zarr.open_group(run / "probabilities.zarr", mode="a")
    data = np.broadcast_to(values, (1, *shape)).copy()
    zarr.create_array(run / "probabilities.zarr" / "new", data=data, chunks=(1, 1, *shape[1:]))
    note_as_predicted(run, "new", shape)


@pytest.fixture
def patch(make_napari_viewer, tmp_path, qtbot):
    """A viewer with a patch on view: the dock, hands, and what is painted and seen in the patch."""
    wait = partial(qtbot.waitUntil, timeout=240_000)
    viewer = make_napari_viewer(show=True)
    dock, _ = story.start(viewer, fake=True)
    story.make_project(dock, tmp_path / "project", wait)
    project, patches = dock.session.opened.project, dock.annotate.patches
    predict_discs(project)
    suggest(patches, [{"volume": "new", "box": BOX, "score": 0.5}], "entropy", RUN)
    hands = Hands(viewer, dock.session)
    hands.press("N")

    def disk():
        return np.asarray(Project.open(project.folder).annotations.open("new")[:])

    yield dock, hands, disk, wait
    dock.shut_down()


def seen(dock):
    """What is seen in the patch, paint and proposal."""
    patches = dock.annotate.patches
    return np.asarray(patches.paint.draft("new")[2, 4:60, 4:60])


def at(centre):
    return (centre[0] - CORNER[0], centre[1] - CORNER[1])


def preview(dock):
    layer = dock.session.opened.output(PREVIEW, "new")
    return layer.data[0] if layer is not None and layer.visible else None


def test_objects_are_dropped_added_and_resized_by_clicks_and_keys(patch, qtbot):
    dock, hands, disk, wait = patch
    before = seen(dock)
    assert before[at(FOUND)] == 2 and before[at(MISSED)] == 0
    qtbot.mouseClick(dock.annotate.painting.tools["objects"], BUTTON)
    assert dock.annotate.painting.tools["objects"].isChecked()
    # The preview follows the mouse.
    hands.hover("new", (2, *FOUND))
    wait(lambda: preview(dock) is not None)
    assert np.array_equal(preview(dock), np.where(before == 2, 1, 0))
    hands.hover("new", (2, *MISSED))
    wait(lambda: preview(dock) is not None and preview(dock)[at(MISSED)] == 2)
    added = preview(dock).copy()
    assert not disk().any()
    hands.click("new", (2, *MISSED))
    hands.click("new", (2, *FOUND))
    after = disk()
    assert np.array_equal(after[2, 4:60, 4:60], np.where(before == 2, 1, added))
    assert np.count_nonzero(after[2, 4:60, 4:60]) == np.count_nonzero(after)
    # One press takes each back, and repeats it.
    hands.press("Ctrl-Z")
    hands.press("Ctrl-Z")
    assert not disk().any()
    hands.press("Ctrl-Shift-Z")
    # The object under the mouse changes its size, as one stroke.
    hands.hover("new", (2, *MISSED))
    sizes = [np.count_nonzero(disk() == 2)]
    for key in ("BracketRight", "BracketLeft", "BracketLeft"):
        hands.press(key, where=("new", (2, *MISSED)))
        sizes.append(np.count_nonzero(disk() == 2))
    assert sizes[1] > sizes[0] > sizes[3]
    assert sizes[2] == sizes[0]
    # Background adds no object.
    before = disk()
    hands.press("1")
    hands.click("new", (2, 56, 8))
    assert "choose the class" in dock.notices.text()
    hands.press("2")
    # Clicks beside the patch do nothing, drags move the view.
    hands.click("new", (2, 80, 80))
    assert "inside the patch" in dock.notices.text()
    assert np.array_equal(disk(), before)
    hands.press("Escape")
    hands.click("new", (2, *MISSED))
    assert np.array_equal(disk(), before)
    assert preview(dock) is None


def test_the_smart_brush_keeps_to_edges_and_to_the_patch(patch):
    dock, hands, disk, _ = patch
    hands.press("S")
    hands.press("2")
    dock.annotate.tools.select_brush(5)
    y, x = MISSED
    hands.stroke("new", [(2, y, x + i) for i in range(-3, 4)])
    snapped = disk() == 2
    assert np.count_nonzero(snapped) > 40
    hands.press("Ctrl-Z")
    assert not disk().any()
    hands.stroke("new", [(2, y, x) for x in range(52, 66)])
    assert disk()[2, 4:60, 4:60].any()
    assert np.count_nonzero(disk()) == np.count_nonzero(disk()[2, 4:60, 4:60])
    hands.press("Ctrl-Z")
    hands.press("P")
    hands.stroke("new", [(2, y, x + i) for i in range(-3, 4)])
    plain = disk() == 2
    assert plain.any() and not np.array_equal(plain, snapped)


def test_an_outline_comes_from_annotated_sections_before_and_behind(patch):
    dock, hands, disk, _ = patch
    project, patches = dock.session.opened.project, dock.annotate.patches
    hands.press("I")
    hands.press("2")
    hands.click("new", (2, *MISSED))
    assert "annotated here both before and behind" in dock.notices.text()
    shape = project.volumes.open("new").shape[1:]
    annotations = project.annotations.require("new")
    for z, centre in ((1, (42, 42)), (3, (46, 46))):
        annotations[z] = np.where(disc(centre, shape), 2, 0).astype(np.uint8)
    patches.paint.reread()
    dock.annotate.click_tools.forget()
    hands.click("new", (2, *MISSED))
    painted = disk()[2] == 2
    expected = disc(MISSED, shape)
    assert (painted & expected).sum() / (painted | expected).sum() > 0.9
    hands.press("Ctrl-Z")
    assert not disk()[2].any()


def test_an_audit_is_corrected_without_the_model(patch):
    dock, hands, disk, _ = patch
    suggest(dock.annotate.patches, [{"volume": "new", "box": BOX, "score": 0.0}], "audit", RUN)
    hands.press("N")
    hands.press("C")
    hands.press("2")
    hands.click("new", (2, *MISSED))
    assert "the prediction does not help" in dock.notices.text()
    assert not disk().any()

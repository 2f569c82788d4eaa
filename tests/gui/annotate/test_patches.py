"""The annotation round without a window: the paint, the disk, the camera."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from napari_emda._gui.annotate.decisions import accept, delete, put_aside, redo, undo
from napari_emda._gui.annotate.draft import Draft
from napari_emda._gui.annotate.overlays import limits
from napari_emda._gui.annotate.patches import Patches
from napari_emda._gui.annotate.stopwatch import PatchTimes
from napari_emda._gui.annotate.tools import Tools
from napari_emda._gui.common.layer_volumes import spacing_of
from napari_emda._gui.common.palette import STATES
from napari_emda._gui.predict.layers import show_classes
from napari_emda.data.box import Box
from napari_emda.data.label_meaning import LabelMeaning, MeantLabels
from napari_emda.project.project import Project
from tests.gui.suggested import REGIONS, suggest, with_suggestions
from tests.predictions import note_as_predicted


@pytest.fixture
def patches(session, predicted):
    return with_suggestions(session, predicted)


def on_disk(patches):
    return np.asarray(Project.open(patches.project.folder).annotations.open("target")[:])


def states(patches):
    return [region.state for region in patches.regions]


def test_suggestions_are_drawn_as_rectangles_over_the_uncertainty(session, patches):
    layer = session.opened.output("patches", "target")
    assert len(layer.data) == 3
    assert layer.data[0].tolist() == [
        [1, -0.5, -0.5],
        [1, -0.5, 15.5],
        [1, 15.5, 15.5],
        [1, 15.5, -0.5],
    ]
    assert tuple(layer.scale) == (50, 4.6, 4.6)
    assert not np.allclose(layer.edge_color[0], layer.edge_color[2])
    assert session.opened.output("uncertainty", "target").visible
    assert session.viewer.dims.point[0] == 50
    assert session.viewer.scene.camera.center[1:] == pytest.approx((23.5 * 4.6, 19.5 * 4.6))


def test_the_overlay_covers_neither_paint_nor_rectangles_nor_usual_values(session, patches):
    layers = session.viewer.layers
    overlay = session.opened.output("uncertainty", "target")
    above = [session.opened.output(role, "target") for role in ("annotations", "patches")]
    assert (
        layers.index(session.opened.image("target")) + 1
        == layers.index(overlay)
        < min(map(layers.index, above))
    )
    low, high = overlay.contrast_limits
    assert 0 <= low < high <= 255
    alpha = overlay.colormap.map((np.array([0.0, low, high, 255.0]) - low) / (high - low))[:, 3]
    assert alpha[:2].tolist() == [0, 0]
    assert 0.3 < alpha[2] < 0.8


@pytest.mark.parametrize("values", [0, 255, (0, 3), (250, 255)])
def test_noise_of_a_certain_model_does_not_look_like_uncertainty(values, noise):
    stored = (
        noise.integers(*values, (4, 30, 30), np.uint8)
        if isinstance(values, tuple)
        else np.full((4, 9, 9), values)
    )
    low, high = limits(stored)
    assert 0 <= low < high <= 255 and high - low >= 40


def test_next_shows_the_patch_with_the_prediction_and_writes_nothing(session, patches):
    patches.next()
    layer = session.opened.output("annotations", "target")
    assert session.viewer.dims.point[0] == 50
    assert session.viewer.scene.camera.center[1:] == pytest.approx((7.5 * 4.6, 7.5 * 4.6))
    assert session.viewer.layers.selection.active is layer
    assert layer.mode == "paint"
    shown = np.asarray(layer.data[1])
    assert (shown[2:12, 2:12] == 2).all()
    assert shown.sum() == 200
    assert on_disk(patches).sum() == 0
    assert not session.opened.output("uncertainty", "target").visible


def test_done_takes_the_corrected_prediction_and_fills_with_background(session, patches):
    patches.next()
    layer = session.opened.output("annotations", "target")
    layer.brush_size = 1
    layer.paint((1, 14, 14), 2)
    layer.paint((1, 3, 3), 0)
    accept(patches, complete=True)
    disk = on_disk(patches)[1, :16, :16]
    assert disk.min() == 1
    assert disk[14, 14] == 2
    assert disk[3, 3] == 1
    assert disk[5, 5] == 2
    assert states(patches) == ["accepted", "suggested", "suggested"]
    assert patches.current is None


def test_done_with_only_what_i_painted(session, patches):
    patches.next()
    accept(patches, complete=False)
    assert states(patches) == ["suggested"] * 3
    assert "not painted anything" in session.notices[-1][1]
    layer = session.opened.output("annotations", "target")
    layer.brush_size = 1
    layer.paint((1, 14, 14), 1)
    accept(patches, complete=False)
    assert states(patches)[0] == "partial"
    assert on_disk(patches).sum() == 1


def test_skipping_keeps_own_paint_and_drops_the_prediction(session, patches):
    patches.next()
    session.opened.output("annotations", "target").paint((1, 14, 14), 1)
    mine = on_disk(patches)
    put_aside(patches, "skipped")
    assert states(patches)[0] == "skipped"
    assert np.array_equal(on_disk(patches), mine)
    assert np.array_equal(
        np.asarray(session.opened.output("annotations", "target").data[1]), mine[1]
    )


def test_undo_brings_back_the_patch_as_it_was_painted(session, patches):
    patches.next()
    layer = session.opened.output("annotations", "target")
    layer.brush_size = 1
    layer.paint((1, 3, 3), 0)
    before = np.asarray(layer.data[1])
    accept(patches, complete=True)
    patches.next()
    undo(patches)
    assert states(patches)[0] == "suggested"
    assert patches.current.box == REGIONS[0]["box"]
    assert np.array_equal(np.asarray(layer.data[1]), before)
    assert on_disk(patches).sum() == 1  # what was erased, as background


def test_a_decision_reads_the_section_that_comes_next_and_no_other(session, patches, monkeypatch):
    patches.next()
    read = []
    whole = Draft.__getitem__

    def counted(draft, key):
        values = whole(draft, key)
        if not isinstance(key, int) and np.shape(values)[-2:] == draft.shape[1:]:
            read.append(key[0])
        return values

    monkeypatch.setattr(Draft, "__getitem__", counted)
    accept(patches, complete=True)
    patches.next()
    assert read == [3]
    layer = session.opened.output("annotations", "target")
    assert np.array_equal(
        layer._slice.image.raw[8:24, 8:24], whole(layer.data, (3, slice(8, 24), slice(8, 24)))
    )


def test_rectangles_that_were_decided_on_change_their_colour(session, patches):
    layer = session.opened.output("patches", "target")
    before = layer.edge_color.copy()
    patches.next()
    accept(patches, complete=True)
    green = [int(STATES["accepted"][k : k + 2], 16) / 255 for k in (1, 3, 5)]
    assert layer.edge_color[0, :3] == pytest.approx(green, abs=1e-3)
    undo(patches)
    assert layer.edge_color == pytest.approx(before)
    patches.next()
    put_aside(patches, "skipped")
    assert [corners[0].tolist() for corners in layer.data] == [[1, -0.5, -0.5], [2, -0.5, 15.5]]


def test_no_mask_lies_over_the_paint(session, patches):
    """It has the paint's colours, would hide what was erased, and give an audit away."""
    show_classes(session.opened, "001-fake", "target")
    mask = session.opened.output("mask", "target")
    assert mask.visible
    patches.next()
    assert not mask.visible
    session.opened.remove_output("mask", "target")
    show_classes(session.opened, "001-fake", "target")  # a prediction that runs meanwhile
    assert not session.opened.output("mask", "target").visible


@pytest.mark.parametrize("later", [True, False])
def test_the_mouse_paints_where_it_is_beside_layers_of_another_unit(later, session, project):
    viewer = session.viewer
    image = np.zeros((5, 48, 40), np.uint8)
    fine = {"scale": (50, 4.6, 4.6), "units": ("nm",) * 3}
    coarse = {"scale": (0.05, 0.0046, 0.0046), "units": ("um",) * 3, "translate": (0.1, 0, 0)}
    layers = {name: viewer.add_image(image, **coarse) for name in ("target", "source")}
    if not later:
        viewer.add_image(image, **fine)
    session.adopt(project, layers)
    patches = Patches(session, session.opened, Tools())
    suggest(patches, REGIONS[:1], "random", "")
    if later:
        viewer.add_image(image, **fine)
    patches.next()
    paint, squares = (session.opened.output(role, "target") for role in ("annotations", "patches"))
    here = session.opened.place("target").to_world(viewer, (1, 5, 7))
    assert here == pytest.approx((150, 5 * 4.6, 7 * 4.6))
    assert paint.world_to_data(here) == pytest.approx((1, 5, 7))
    assert spacing_of(paint) == pytest.approx((50, 4.6, 4.6))
    patches.draw_patch()
    assert squares.world_to_data(here) == pytest.approx((1, 5, 7))


def test_going_round(session, patches):
    seen = []
    for go in (patches.next, patches.next, patches.next, patches.next, patches.back):
        go()
        seen.append(patches.current.score)
    assert seen == [0.9, 0.8, 0.7, 0.9, 0.7]
    for _ in range(3):
        accept(patches, complete=True)
        patches.next()
    assert patches.current is None
    accept(patches, complete=True)
    assert "No patch is on view" in session.notices[-1][1]


def test_erased_proposals_are_background_on_disk_at_once(session, patches):
    patches.next()
    layer = session.opened.output("annotations", "target")
    layer.brush_size = 1
    layer.paint((1, 3, 3), 0)
    assert on_disk(patches)[1, 3, 3] == 1
    assert on_disk(patches).sum() == 1
    patches.next()
    patches.back()
    assert np.asarray(layer.data[1])[3, 3] == 1


def test_a_patch_is_revised_and_the_new_is_kept_without_pressing_done_again(session, patches):
    patches.next()
    accept(patches, complete=True)
    patches.next()
    patches.back()
    layer = session.opened.output("annotations", "target")
    layer.brush_size = 1
    layer.paint((1, 14, 14), 2)
    layer.paint((1, 5, 5), 0)
    patches.next()
    assert states(patches) == ["accepted", "suggested", "suggested"]
    assert (on_disk(patches)[1, 14, 14], on_disk(patches)[1, 5, 5]) == (2, 1)
    assert patches.project.regions.all()[0].changed == 2
    undo(patches)
    assert states(patches)[0] == "accepted"
    assert (on_disk(patches)[1, 14, 14], on_disk(patches)[1, 5, 5]) == (1, 2)


def test_undo_takes_back_whole_decisions_across_patches(session, patches):
    patches.next()
    accept(patches, complete=True)
    patches.next()
    put_aside(patches, "skipped")
    patches.next()
    put_aside(patches, "unsure")
    assert states(patches) == ["accepted", "skipped", "unsure"]
    assert on_disk(patches).any()
    for left in (
        ["accepted", "skipped", "suggested"],
        ["accepted", "suggested", "suggested"],
        ["suggested"] * 3,
    ):
        undo(patches)
        assert states(patches) == left
    assert patches.current.box == REGIONS[0]["box"]
    assert not on_disk(patches).any()
    undo(patches)
    assert session.notices[-1][1] == "The suggestion of patches was taken back."
    assert not patches.regions and patches.current is None
    undo(patches)
    assert session.notices[-1][1] == "There is no decision to undo."
    redo(patches)
    assert states(patches) == ["suggested"] * 3
    for state in ("accepted", "skipped", "unsure"):
        redo(patches)
        assert state in states(patches)
    assert on_disk(patches)[1, :16, :16].all()
    redo(patches)
    assert session.notices[-1][1] == "There is no decision to repeat."


def test_skipping_an_accepted_patch_removes_its_annotations(session, patches):
    patches.next()
    accept(patches, complete=True)
    patches.back()
    put_aside(patches, "unsure")
    assert not on_disk(patches).any()
    assert "Undo (U) brings its annotations back" in session.notices[-1][1]
    undo(patches)
    assert on_disk(patches)[1, :16, :16].all()
    assert states(patches)[0] == "accepted"


def test_time_changes_and_agreement_are_kept(patches, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(patches, "times", PatchTimes(lambda: now[0]))
    patches.next()
    for seconds in (5, 400, 3):  # in between, the user had a coffee
        now[0] += seconds
        patches.times.beat()
    layer = patches.paint.layer("target")
    layer.brush_size = 1
    layer.paint((1, 14, 14), 2)
    patches.next()
    now[0] += 4
    patches.back()
    now[0] += 2
    accept(patches, complete=True)
    kept = patches.project.regions.all()[0]
    assert kept.seconds == 5 + 30 + 3 + 2
    assert kept.changed == 1
    assert kept.confusion == ((155, 0), (1, 100))


def test_a_patch_of_the_user_s_own(session, patches):
    patches.draw_patch()
    layer = session.opened.output("patches", "target")
    assert layer.mode == "add_rectangle"
    layer.add_rectangles(
        np.array([[2, 20.2, 3.0], [2, 20.2, 14.7], [2, 33.9, 14.7], [2, 33.9, 3.0]])
    )
    assert patches.current.box == "2:3,20:35,3:16"
    assert patches.current.strategy == "own"
    assert patches.current.run == "001-fake"
    assert len(patches.regions) == 4
    accept(patches, complete=True)
    assert on_disk(patches)[2, 20:35, 3:16].all()
    undo(patches)
    undo(patches)
    assert len(patches.regions) == 3
    assert not on_disk(patches).any()


def test_drawing_that_is_given_up_leaves_nothing_behind(session, patches):
    patches.draw_patch()
    patches.next()
    accept(patches, complete=True)
    patches.draw_patch()
    suggest(patches, REGIONS[1:], "entropy", "001-fake")
    assert [region.strategy for region in patches.regions] == ["entropy"] * 2
    assert session.opened.output("patches", "target").mode == "pan_zoom"


def test_a_drawn_patch_that_is_too_small_is_refused(session, patches):
    patches.add_drawn("target", Box((0, 0, 0), (1, 7, 30)))
    assert "at least 8 x 8 pixels" in session.notices[-1][1]
    assert len(patches.regions) == 3


def click(session, patches, point, button=1, moves=0):
    """What napari does with a click at a voxel of the target."""
    event = SimpleNamespace(
        type="mouse_press",
        button=button,
        position=session.opened.place("target").to_world(session.viewer, point),
    )
    drag = patches.rectangles.clicks(patches.go)(session.viewer, event)
    next(drag)
    for kind in ["mouse_move"] * moves + ["mouse_release"]:
        event.type = kind
        next(drag, None)


def test_a_click_in_a_rectangle_goes_there_unless_a_tool_is_at_work(session, patches):
    click(session, patches, (3, 10, 10), moves=2)
    click(session, patches, (3, 10, 10), button=2)
    click(session, patches, (0, 10, 10))
    assert patches.current is None
    click(session, patches, (3, 10, 10))
    assert patches.current.box == REGIONS[1]["box"]
    click(session, patches, (1, 5, 5))  # the brush is out now
    assert patches.current.box == REGIONS[1]["box"]
    patches.paint.layer("target").mode = "pan_zoom"
    click(session, patches, (1, 5, 5))
    assert patches.current.box == REGIONS[0]["box"]


def test_the_bare_image_and_back(session, patches):
    patches.next()
    shown = {layer.name for layer in session.viewer.layers if layer.visible}
    patches.overlays.toggle_bare()
    assert {layer.name for layer in session.viewer.layers if layer.visible} == {"target"}
    patches.overlays.toggle_bare()
    assert {layer.name for layer in session.viewer.layers if layer.visible} == shown
    assert session.opened.output("annotations", "target").mode == "paint"
    assert "emda: annotations" in shown


def test_class_and_brush_go_along_from_patch_to_patch(session, patches):
    patches.next()
    layer = session.opened.output("annotations", "target")
    patches.paint.select_class(0)
    patches.paint.tools.select_brush(40)
    patches.paint.tools.next_brush()
    patches.paint.tools.next_brush()
    assert (layer.selected_label, layer.brush_size, layer.mode) == (1, 5, "paint")
    layer.brush_size = 9
    patches.next()
    assert (layer.selected_label, layer.brush_size) == (1, 9)
    patches.paint.select_class(7)
    assert layer.selected_label == 1


def test_a_reopened_project_shows_its_annotations_and_regions(session, patches, predicted):
    patches.next()
    accept(patches, complete=True)
    folder = predicted.folder
    predicted.close()
    again = Project.open(folder, exclusive=True)
    session.adopt(again)
    patches = Patches(session, session.opened, Tools())
    patches.open()
    assert states(patches) == ["accepted", "suggested", "suggested"]
    assert np.asarray(session.opened.output("annotations", "target").data[1, :16, :16]).min() == 1


@pytest.mark.parametrize(
    ("visited", "decided", "opens_at"), [(0, (), None), (2, (), 1), (2, (1,), 2), (3, (2, 1), 0)]
)
def test_a_project_opens_where_it_was(visited, decided, opens_at, session, patches, predicted):
    for _ in range(visited):
        patches.next()
    for index in decided:
        predicted.regions.record(patches.regions[index].model_copy(update={"state": "skipped"}))
    predicted.close()
    session.adopt(Project.open(predicted.folder, exclusive=True))
    again = Patches(session, session.opened, Tools())
    again.open()
    assert again.current == (None if opens_at is None else again.regions[opens_at])
    assert session.opened.annotating == (opens_at is not None)


def test_a_removed_annotation_layer_comes_back_with_its_paint(session, patches):
    patches.next()
    accept(patches, complete=True)
    session.viewer.layers.remove(session.opened.output("annotations", "target"))
    patches.leave()
    patches.next()
    assert np.asarray(session.opened.output("annotations", "target").data[1, :16, :16]).min() == 1


def test_nothing_is_decided_while_the_layer_with_the_paint_is_missing(session, patches):
    patches.next()
    session.viewer.layers.events.removed.connect(lambda event: patches.layer_removed(event.value))
    layer = session.opened.output("annotations", "target")
    layer.paint((1, 14, 14), 2)
    first = patches.current.id
    session.viewer.layers.remove(layer)
    assert "press Next (N)" in session.notices[-1][1]
    accept(patches, complete=True)
    assert states(patches) == ["suggested"] * 3
    assert "No patch is on view" in session.notices[-1][1]
    patches.next()
    assert patches.current.id == first
    shown = np.asarray(session.opened.output("annotations", "target").data[1])
    assert (shown[14, 14], shown[5, 5]) == (2, 2)  # own paint, and the prediction


def test_removed_rectangles_come_back_with_the_next_patch(session, patches):
    session.viewer.layers.remove(session.opened.output("patches", "target"))
    patches.next()
    assert len(session.opened.output("patches", "target").data) == 3


def test_a_patch_of_one_s_own_is_deleted_and_brought_back(session, patches):
    patches.add_drawn("target", Box((2, 20, 3), (3, 35, 16)))
    accept(patches, complete=True)
    patches.back()
    delete(patches)
    assert len(patches.regions) == 3 and not on_disk(patches).any()
    undo(patches)
    assert patches.current.strategy == "own" and on_disk(patches)[2, 20:35, 3:16].all()
    patches.go(patches.regions[0])
    delete(patches)
    assert "Only a patch that you drew yourself" in session.notices[-1][1]
    assert len(patches.regions) == 4


def test_putting_a_patch_aside_spares_what_other_patches_hold(patches):
    patches.next()
    accept(patches, complete=True)
    patches.add_drawn("target", Box((1, 8, 8), (2, 30, 30)))
    accept(patches, complete=True)
    patches.back()
    put_aside(patches, "skipped")
    disk = on_disk(patches)[1]
    assert disk[:16, :16].all()
    disk[:16, :16] = 0
    assert not disk.any()


def test_escape_gives_up_drawing_then_a_polygon_then_the_tool(session, patches):
    patches.draw_patch()
    patches.escape()
    assert session.opened.output("patches", "target").mode == "pan_zoom"
    patches.next()
    layer = session.opened.output("annotations", "target")
    layer.mode = "polygon"
    layer._overlays["polygon"].points = [(1, 3, 3), (1, 4, 9)]
    patches.escape()
    assert (layer.mode, layer._overlays["polygon"].points) == ("polygon", [])
    patches.escape()
    assert layer.mode == "pan_zoom"


def test_an_audit_hides_the_model_and_can_be_left(session, patches):
    patches.next()
    patches.toggle_uncertainty()
    assert session.opened.output("uncertainty", "target").visible
    suggest(patches, REGIONS, "audit", "001-fake")
    assert not session.opened.output("uncertainty", "target").visible
    patches.next()
    patches.toggle_uncertainty()
    assert not session.opened.output("uncertainty", "target").visible
    assert "stay hidden" in session.notices[-1][1]
    accept(patches, complete=True)
    show_classes(session.opened, "001-fake", "target")  # a prediction that ends meanwhile
    assert not session.opened.output("mask", "target").visible
    patches.toggle_mask()
    assert not session.opened.output("mask", "target").visible
    patches.next()
    layer = session.opened.output("annotations", "target")
    assert layer.mode == "paint"
    zoom = session.viewer.scene.camera.zoom
    patches.end_audit()
    # The brush is put away, and the whole section is on view.
    assert layer.mode == "pan_zoom" and session.viewer.scene.camera.zoom < zoom
    patches.toggle_mask()
    assert session.opened.output("mask", "target").visible
    assert states(patches) == ["accepted"]
    assert "2 open patches are dropped" in session.notices[-1][1]
    undo(patches)
    assert states(patches) == ["accepted", "suggested", "suggested"]


def test_without_a_prediction_the_patch_is_empty(session, project):
    session.adopt(project)
    patches = Patches(session, session.opened, Tools())
    patches.open()
    suggest(patches, REGIONS, "random", "")
    patches.next()
    assert np.asarray(session.opened.output("annotations", "target").data[1]).sum() == 0
    accept(patches, complete=True)
    assert on_disk(patches)[1, :16, :16].tolist() == np.ones((16, 16)).tolist()
    assert project.regions.all()[0].confusion == ()


def test_patches_of_an_audit_begin_with_nothing_and_are_compared_all_the_same(session, patches):
    suggest(patches, REGIONS[:1], "audit", "001-fake")
    patches.next()
    layer = session.opened.output("annotations", "target")
    assert not np.asarray(layer.data[1]).any()
    layer.data[1, 2:12, 2:7] = 2
    accept(patches, complete=True)
    kept = next(
        region for region in session.opened.project.regions.all() if region.strategy == "audit"
    )
    assert kept.confusion == ((156, 50), (0, 50))
    assert kept.changed == 50


@pytest.mark.parametrize("start", ["nothing", "labels"])
def test_patches_may_begin_with_nothing_or_with_other_labels(start, session, patches):
    labels = np.zeros((5, 48, 40), np.uint8)
    labels[1, 4:8, 4:8] = 9
    patches.paint.tools.start = (
        start if start == "nothing" else MeantLabels(labels, LabelMeaning(), 2)
    )
    patches.next()
    shown = np.asarray(session.opened.output("annotations", "target").data[1])
    assert np.array_equal(
        shown, np.where(labels[1] > 0, 2, 0) if start == "labels" else np.zeros((48, 40))
    )


def test_several_classes_are_proposed_painted_and_compared(session, tmp_path, arrays):
    image, labels = arrays
    with Project.create(tmp_path / "three", ("background", "mitochondria", "membranes")) as project:
        labels = labels.copy()
        labels[:, 30:34] = 2
        project.volumes.add(
            project.volumes.store("s", image),
            "source",
            labels=project.volumes.store("l", labels),
            name="source",
            spacing=(50, 4.6, 4.6),
        )
        project.volumes.add(
            project.volumes.store("t", image), "target", name="target", spacing=(50, 4.6, 4.6)
        )
        run = project.runs.new("histogram")
        run.checkpoint.touch()
        values = np.zeros((2, *image.shape), np.uint8)
        values[0, :, 2:6] = 200
        values[1, :, 8:12] = 220
        zarr.open_group(run.path / "probabilities.zarr", mode="a")
        zarr.create_array(run.probabilities("target"), data=values)
        note_as_predicted(run.path, "target", image.shape)
        session.adopt(project)
        patches = Patches(session, session.opened, Tools())
        patches.open()
        suggest(patches, REGIONS[:1], "entropy", run.name)
        patches.next()
        layer = session.opened.output("annotations", "target")
        assert np.unique(np.asarray(layer.data[1, :16, :16])).tolist() == [0, 2, 3]
        patches.paint.select_class(2)
        layer.brush_size = 1
        layer.paint((1, 3, 3), layer.selected_label)
        accept(patches, complete=True)
        assert project.regions.all()[0].confusion == ((128, 0, 0), (0, 63, 0), (0, 1, 64))
        assert project.volumes.open("target").read_labels(Box((1, 3, 3), (2, 4, 4))).item() == 2


# -- several targets -------------------------------------------------------------------------------


@pytest.fixture
def two_targets(session, predicted, arrays):
    predicted.volumes.add(
        predicted.volumes.store("second", arrays[0][:, :32]),
        "target",
        name="second",
        spacing=(30, 9, 9),
    )
    session.adopt(predicted)
    new_patches = Patches(session, session.opened, Tools())
    new_patches.open()
    suggest(
        new_patches,
        [REGIONS[0], {"volume": "second", "box": "4:5,8:24,8:24", "score": 0.85}, REGIONS[1]],
        "entropy",
        "001-fake",
    )
    return new_patches


def test_a_patch_is_drawn_in_a_section_though_the_slider_stood_between_two(session, two_targets):
    viewer = session.viewer
    viewer.dims.set_point(0, 30 * 4)  # a section of the second target, 2.4 of the first
    two_targets.draw_patch()
    assert viewer.dims.point[0] == pytest.approx(100)
    viewer.dims.set_point(0, 110)  # a small step leads to the next section
    assert viewer.dims.point[0] == pytest.approx(150)
    viewer.dims.set_point(0, 140)
    assert viewer.dims.point[0] == pytest.approx(100)
    viewer.dims.set_point(0, 30 * 6)
    assert viewer.dims.point[0] == pytest.approx(200)
    two_targets.rectangles.stop_drawing()
    viewer.dims.set_point(0, 30 * 6)
    assert viewer.dims.point[0] == pytest.approx(180)


def test_linked_volumes_do_not_cover_the_patch_of_each_other(session, two_targets):
    layers = session.viewer.layers
    volumes = [layers["target"], layers["second"]]
    layers.link_layers(volumes)
    for name in ("target", "second", "target"):
        two_targets.next()
        assert two_targets.current.volume == name
        assert [volume.name for volume in volumes if volume.visible] == [name]


def test_one_queue_goes_through_several_targets(session, two_targets):
    patches = two_targets
    viewer = session.viewer
    patches.next()
    assert (viewer.layers["target"].visible, viewer.layers["second"].visible) == (True, False)
    accept(patches, complete=True)
    patches.next()
    assert patches.current.volume == "second"
    assert (viewer.layers["target"].visible, viewer.layers["second"].visible) == (False, True)
    assert [layer.name for layer in session.opened.shown(["annotations", "patches"])] == [
        "emda: annotations of second",
        "emda: patches of second",
    ]
    assert viewer.dims.point[0] == 4 * 30
    assert viewer.scene.camera.center[1:] == pytest.approx((15.5 * 9, 15.5 * 9))
    accept(patches, complete=True)
    assert np.asarray(session.opened.project.annotations.open("second")[4, 8:24, 8:24]).min() == 1
    undo(patches)
    undo(patches)
    assert patches.current.volume == "target"
    assert viewer.layers["target"].visible


# -- where the camera goes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ((0, 1, 2), (0, 1, 2)),
        ((0, 2, 1), (0, 2, 1)),
        ((2, 0, 1), (0, 1, 2)),
        ((1, 2, 0), (0, 1, 2)),
    ],
)
def test_the_patch_is_found_however_the_axes_are_rolled(order, expected, session, patches):
    viewer = session.viewer
    viewer.dims.order = order
    viewer.dims.ndisplay = 3
    patches.go(patches.regions[1])
    assert viewer.dims.ndisplay == 2
    assert viewer.dims.order == expected
    assert viewer.dims.point[0] == 150
    assert viewer.scene.camera.center[1:] == pytest.approx((15.5 * 4.6, 15.5 * 4.6))


def test_the_patch_fills_the_canvas_also_where_pixels_are_oblong(session, predicted):
    folder = predicted.folder / "project.json"
    values = json.loads(folder.read_text())
    for volume in values["volumes"]:
        volume["spacing"] = [50.0, 3.0, 6.0]
    folder.write_text(json.dumps(values))
    predicted.close()
    session.adopt(Project.open(folder.parent, exclusive=True))
    patches = Patches(session, session.opened, Tools())
    patches.open()
    patches.canvas = (300, 900)
    suggest(
        patches, [{"volume": "target", "box": "0:1,8:24,0:16", "score": 1}], "entropy", "001-fake"
    )
    patches.next()
    assert session.viewer.scene.camera.zoom == pytest.approx(
        0.7 * min(300 / (16 * 3), 900 / (16 * 6))
    )
    assert session.viewer.scene.camera.center[1:] == pytest.approx((15.5 * 3, 7.5 * 6))


def test_a_single_image_has_patches_too(session, tmp_path, arrays):
    image, labels = arrays
    with Project.create(tmp_path / "flat") as flat:
        path = flat.volumes.store("a", image)
        mask = flat.volumes.store("a-labels", labels)
        flat.volumes.add(path, "source", labels=mask, name="source", spacing=(5, 5, 5))
        flat.volumes.add(
            flat.volumes.store("b", image[:1]), "target", name="target", spacing=(5, 5, 5)
        )
        session.adopt(
            flat,
            {
                "target": session.viewer.add_image(
                    image[0], name="photo", scale=(5, 5), units=("nm",) * 2
                )
            },
        )
        patches = Patches(session, session.opened, Tools())
        patches.open()
        suggest(patches, [{"volume": "target", "box": "0:1,8:24,0:16", "score": 1}], "random", "")
        patches.next()
        assert session.viewer.scene.camera.center[1:] == pytest.approx((15.5 * 5, 7.5 * 5))
        session.opened.output("annotations", "target").paint((0, 10, 10), 2)
        accept(patches, complete=True)
        assert np.asarray(flat.annotations.open("target")[0, 8:24, :16]).min() == 1


def test_decisions_are_taken_back_after_the_project_was_opened_again(session, patches):
    patches.next()
    patches.paint.layer("target").paint((1, 14, 14), 2)
    painted = on_disk(patches)
    accept(patches, complete=True)
    patches.next()
    put_aside(patches, "skipped")
    folder = session.opened.project.folder
    session.opened.project.close()
    session.adopt(Project.open(folder, exclusive=True))
    again = Patches(session, session.opened, Tools())
    again.open()
    assert states(again) == ["accepted", "skipped", "suggested"]
    again.back()
    assert again.current.id == again.regions[1].id
    undo(again)
    assert states(again) == ["accepted", "suggested", "suggested"]
    undo(again)
    assert states(again) == ["suggested"] * 3
    assert np.array_equal(on_disk(again), painted)
    undo(again)
    assert states(again) == []
    undo(again)
    assert "no decision to undo" in session.notices[-1][1]


def test_rectangles_of_patches_cannot_be_dragged_or_deleted(session, patches):
    layer = session.opened.output("patches", "target")
    assert not layer.editable
    layer.mode = "select"
    assert layer.mode == "pan_zoom"
    patches.draw_patch()
    assert layer.editable
    patches.escape()
    assert not layer.editable
    patches.next()
    assert not layer.editable


def test_a_patch_that_was_skipped_has_its_rectangle_while_it_is_on_view(session, patches):
    layer = session.opened.output("patches", "target")
    patches.next()
    put_aside(patches, "skipped")
    assert len(layer.data) == 2
    patches.go(patches.regions[0])
    assert [1, -0.5, -0.5] in [shape[0].tolist() for shape in layer.data]
    accept(patches, complete=True)
    patches.go(patches.regions[1])
    assert len(layer.data) == 3

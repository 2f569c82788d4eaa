"""One whole round in a real viewer with real child processes, at an anisotropic voxel size."""

import os
import signal

import numpy as np
import pytest

from napari_emda.events import Stepped
from napari_emda.io.read import open_labels
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from tests.gui.suggested import suggest
from tests.viewer import story
from tests.viewer.hands import Hands

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def wait(qtbot):
    def until(condition, seconds=600):
        qtbot.waitUntil(condition, timeout=int(seconds * 1000))

    return until


@pytest.fixture
def told(wait):
    def sentence(dock):
        """What the dock says when its job is over."""
        wait(lambda: dock.session.runner.job is None)
        return dock.notices.text()

    return sentence


@pytest.fixture
def docked(make_napari_viewer, tmp_path, wait, request):
    """Viewer, dock and truth of the target; with other children where a test asks for them."""
    viewer = make_napari_viewer(show=True)
    children = getattr(request, "param", "")
    dock, truth = story.start(viewer, fake=children == "fake", standby=children == "standby")
    story.make_project(dock, tmp_path / "project", wait)
    yield viewer, dock, truth
    dock.shut_down()


fake_children = pytest.mark.parametrize("docked", ["fake"], indirect=True)


# A process that waits for the next job is tested in tests/gui/process and tests/jobs.
@pytest.mark.parametrize(
    "docked", ["", pytest.param("standby", marks=pytest.mark.slow)], indirect=True
)
def test_load_train_suggest_paint_done_retrain_predict_export(docked, told, wait, tmp_path):
    viewer, dock, truth = docked
    session = dock.session
    # train, with a live preview
    story.train(dock, 30)
    wait(lambda: session.opened.output("preview", "new") is not None)
    assert session.opened.output("preview", "new").data.shape == (1, *story.SHAPE[1:], 4)
    assert "Run 001-histogram is trained" in told(dock)
    reported = dock.train.curves.losses.curves["segmentation"].x
    assert {*range(5, 31, 5)} <= {int(step) for step in reported}  # slow steps are reported too
    # suggest
    dock.annotate.suggest.main.set_values({"count": 2, "patch": 32})
    dock.annotate.suggest.start_job()
    assert "2 patches are suggested" in told(dock)
    assert dock.annotate.list.count() == 2
    # paint and done: the camera is in the world, the prediction inside the rectangle
    dock.annotate.commands["next"]()
    region = dock.annotate.patches.current
    box = region.voxels
    assert viewer.dims.point[0] == pytest.approx(100 + 50 * box.start[0])
    middle = [(a + b - 1) / 2 for a, b in zip(box.start[1:], box.stop[1:], strict=True)]
    assert viewer.scene.camera.center[1:] == pytest.approx((46 + 4.6 * middle[0], 4.6 * middle[1]))
    layer = session.opened.output("annotations", "new")
    assert viewer.layers.selection.active is layer
    assert np.array_equal(
        np.asarray(layer.data[box.slices]) == 2,
        session.opened.project.predictions.in_region(region) == 1,
    )
    layer.data[box.slices] = np.where(truth[box.slices] > 0, 2, 0).astype(np.uint8)
    layer.brush_size = 1
    layer.paint((box.start[0], *box.start[1:]), 1)
    dock.annotate.commands["done"]()
    disk = Project.open(session.opened.project.folder).annotations.open("new")
    assert np.array_equal(np.asarray(disk[box.slices]), truth[box.slices] + 1)
    # retrain from the last run
    dock.annotate.commands["skip"]()
    dock.annotate.retrain.steps.setValue(10)
    dock.annotate.retrain.start_job()
    assert "Run 002-finetune is trained" in told(dock)
    # predict: the layer fills as it goes
    dock.predict.start_job()
    assert "'new' is predicted with run 002-finetune" in told(dock)
    mask = session.opened.output("mask", "new")
    assert mask.metadata["run"] == "002-finetune"
    assert tuple(mask.scale) == story.SPACING
    assert tuple(mask.translate) == (100, 46, 0)
    # export, and read the voxel size back
    path = tmp_path / "mask.tif"
    dock.export.path.setText(str(path))
    dock.export.path.setModified(True)
    dock.export.start_job()
    assert str(path) in told(dock)
    stored = open_labels(path)
    assert stored.spacing == pytest.approx(story.SPACING)
    assert stored.unit == "nm"
    assert np.array_equal(np.asarray(stored.array[:]), np.asarray(mask.data[...]))


def be_killed_and_resume(dock, told, wait):
    """End the training from outside and resume it; returns once it goes on, at the saved step."""
    run = RunFolder.of(dock.session.opened.project.folder, "001-histogram")
    wait(lambda: run.checkpoint.exists() and dock.train.strip.bar.value() >= 20)
    os.kill(dock.session.runner.process_id, signal.SIGKILL)
    assert told(dock) == (
        "The training was ended from outside (SIGKILL, as the system does when memory runs out); "
        "press Resume to go "
        "on from the last checkpoint."
    )
    saved = run.saved_step
    assert saved >= 10
    assert f"Resume 001-histogram from step {saved}" in dock.train.resume.text()
    steps = []
    dock.session.runner.happened.connect(
        lambda event: steps.append(event.step) if isinstance(event, Stepped) else None
    )
    dock.train.resume_training()
    wait(lambda: bool(steps))
    assert saved < steps[0] <= saved + story.REPORT_EVERY


# The same with a stand-in for the child: tests/gui/test_dock.py; real trainings that are killed or
# stopped, and resumed: tests/jobs/test_worker.py.
@pytest.mark.slow
def test_a_mistake_changes_nothing_and_a_killed_and_a_stopped_training_keep_their_work(
    docked, told, wait
):
    """That it is resumed to the same weights is a test of its own (tests/jobs/test_worker.py)."""
    _, dock, _ = docked
    folder = dock.session.opened.project.folder
    before = sorted(folder.rglob("*"))
    story.train(dock, 10, patch=512)
    sentence = told(dock)
    assert "512" in sentence or "patch" in sentence
    assert sorted(folder.rglob("*")) == before

    story.train(dock, 5000)
    if os.name == "posix":  # Windows has no SIGKILL
        be_killed_and_resume(dock, told, wait)
    wait(lambda: dock.train.strip.bar.value() >= 20)
    dock.train.strip.stop.click()
    assert "Stopped at step" in told(dock)
    dock.predict.start_job()
    assert "is predicted" in told(dock)


@fake_children
def test_two_viewers_have_two_docks(docked, make_napari_viewer, wait, told, tmp_path):
    _, first, _ = docked
    other = make_napari_viewer(show=True)
    second, _ = story.start(other, seed=1, fake=True)
    story.make_project(second, tmp_path / "second", wait)
    story.train(first, 40)
    story.train(second, 20)
    assert "Run 001-fake is trained" in told(second)
    assert "Run 001-fake is trained" in told(first)
    assert first.session.opened.project.folder != second.session.opened.project.folder
    assert len(first.train.curves.losses.curves["segmentation"].x) == 4
    assert len(second.train.curves.losses.curves["segmentation"].x) == 2
    second.data.open_project(first.session.opened.project.folder)
    assert "open elsewhere" in second.notices.text()
    other.close()
    assert not first.session.closed


@fake_children
def test_a_removed_layer_is_one_sentence_and_the_training_goes_on(docked, told, wait):
    viewer, dock, _ = docked
    story.train(dock, 100)
    # Paused, so that it cannot end before the layer is removed, however slow the machine is.
    dock.session.runner.say("pause")
    wait(lambda: dock.session.runner.run == "001-fake")
    viewer.layers.remove("new")
    assert "The training continues" in dock.notices.text()
    dock.session.runner.say("resume")
    assert "Run 001-fake is trained" in told(dock)


@fake_children
def test_keys_and_mouse_on_the_canvas(docked, wait):
    """The whole round by hand: keys, strokes, clicks, a drawn rectangle; the disk after each."""
    viewer, dock, _ = docked
    project, patches = dock.session.opened.project, dock.annotate.patches
    story.fake_model(project)
    boxes = ("2:3,0:24,0:24", "4:5,40:64,30:54")
    suggest(
        patches,
        [{"volume": "new", "box": box, "score": 0.5} for box in boxes],
        "entropy",
        "001-fake",
    )
    hands = Hands(viewer, dock.session)

    def disk(*voxel):
        return int(np.asarray(Project.open(project.folder).annotations.open("new")[voxel]))

    hands.press("N")
    assert patches.current.box == boxes[0]
    layer = dock.session.opened.output("annotations", "new")
    hands.press("2")
    hands.press("Q")
    while layer.brush_size != 1:
        hands.press("Q")
    hands.stroke("new", [(2, 20, x) for x in range(18, 23)])
    assert [disk(2, 20, x) for x in range(17, 24)] == [0, 2, 2, 2, 2, 2, 0]
    hands.press("E")  # napari's own: the eraser
    hands.click("new", (2, 6, 6))
    assert disk(2, 6, 6) == 1
    assert np.asarray(layer._slice.image.raw)[6, 6] == 1
    hands.press("H")
    assert {layer.name for layer in viewer.layers if layer.visible} == {"new"}
    hands.press("H")
    hands.press("K")
    assert (disk(2, 6, 6), disk(2, 20, 20), disk(2, 10, 10), disk(2, 0, 0)) == (1, 2, 2, 1)
    assert patches.current.box == boxes[1]
    hands.press("Shift-J")
    hands.press("U")
    hands.press("U")
    assert [region.state for region in project.regions.all()] == ["suggested"] * 2
    assert (disk(2, 20, 20), disk(2, 10, 10)) == (2, 0)
    hands.press("F")
    hands.press("1")
    assert (layer.mode, layer.selected_label) == ("fill", 1)  # the tool stays in the hand
    hands.press("E")
    hands.press("2")
    assert (layer.mode, layer.selected_label) == ("paint", 2)  # the eraser paints no class
    hands.press("Z")  # napari's own: put the brush away
    hands.press("W")
    hands.stroke("new", [(2, 6, 3), (2, 10, 8), (2, 19, 16)])
    wait(lambda: len(patches.regions) == 3)
    voxels = patches.current.voxels
    assert (voxels.start, voxels.stop) == ((2, 6, 3), (3, 20, 17))
    layer.mode = "pan_zoom"
    viewer.dims.set_point(0, 100 + 50 * 4)
    viewer.scene.camera.center = (0, 46 + 50 * 4.6, 40 * 4.6)
    hands.click("new", (4, 50, 45))
    assert patches.current.box == boxes[1]


@fake_children
def test_the_patch_is_a_boundary_and_every_stroke_and_decision_is_undone_by_keys(docked):
    """Real strokes over the edge, wrong numbers, Escape and Delete; the disk after each."""
    viewer, dock, _ = docked
    project, patches = dock.session.opened.project, dock.annotate.patches
    story.fake_model(project)
    box = "2:3,30:54,30:54"  # beside the square that the model has found
    suggest(patches, [{"volume": "new", "box": box, "score": 0.5}], "entropy", "001-fake")
    hands = Hands(viewer, dock.session)

    def disk():
        return np.asarray(Project.open(project.folder).annotations.open("new")[:])

    def painted():
        return {(z, y, x) for z, y, x in np.argwhere(disk()).tolist()}

    def states():
        return [region.state for region in project.regions.all()]

    hands.press("N")
    layer = dock.session.opened.output("annotations", "new")
    dock.annotate.tools.select_brush(1)
    hands.stroke("new", [(2, 50, x) for x in range(46, 60)])
    inside = {(2, 50, x) for x in range(46, 54)}
    assert painted() == inside
    hands.stroke("new", [(2, 58, x) for x in range(40, 50)])
    assert painted() == inside
    assert "Only the patch can be painted" in dock.notices.text()
    hands.press("Ctrl-Z")
    assert painted() == set()
    hands.press("Ctrl-Shift-Z")
    assert painted() == inside
    # The brush as a ball would reach the sections beside.
    layer.n_edit_dimensions = 3
    layer.brush_size = 41
    hands.click("new", (2, 42, 42))
    assert {z for z, _, _ in painted()} == {2}
    hands.press("Ctrl-Z")
    layer.n_edit_dimensions = 2
    layer.brush_size = 1
    assert painted() == inside
    hands.press("F")
    hands.click("new", (2, 40, 40))
    assert len(painted()) == 24 * 24
    hands.press("Ctrl-Z")
    assert painted() == inside
    for key in ("Equal", "Equal", "Minus", "Minus", "Minus", "Equal", "Equal", "Equal"):
        hands.press(key)
    assert layer.selected_label == 2
    hands.press("P")
    hands.stroke("new", [(2, 32, x) for x in range(32, 36)])
    assert np.unique(disk()).tolist() == [0, 2]
    hands.press("Escape")
    assert layer.mode == "pan_zoom"
    hands.press("K")
    hands.press("U")
    assert states() == ["suggested"]
    hands.press("Shift-U")
    assert states() == ["accepted"]
    hands.press("W")
    hands.press("Escape")
    assert dock.session.opened.output("patches", "new").mode == "pan_zoom"
    hands.press("W")
    hands.stroke("new", [(2, 60, 10), (2, 70, 20), (2, 80, 30)])
    assert patches.current.strategy == "own"
    hands.press("Delete")
    assert states() == ["accepted", "replaced"]
    hands.press("U")
    assert states() == ["accepted", "suggested"]
    dock.annotate.painting.outside.click()
    hands.press("P")
    hands.stroke("new", [(2, 90, x) for x in range(40, 44)])
    assert {(2, 90, x) for x in range(40, 44)} <= painted()
    assert "outside the patch" in dock.notices.text()
    before = disk()[2, 30:54, 30:54]
    hands.stroke("new", [(2, 31, x) for x in range(40, 50)])  # in the accepted patch
    assert np.array_equal(disk()[2, 30:54, 30:54], before)

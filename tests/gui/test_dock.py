"""The panels with a stand-in for the child process and a viewer without a window."""

import json
import os
import signal

import numpy as np
import psutil
import pytest
import zarr
from napari.components import ViewerModel
from qtpy.QtCore import QMimeData, QPoint, QPointF, QRect, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QMessageBox, QPushButton

from napari_emda._gui.common.widgets import Sentence, chosen_name
from napari_emda._gui.dock import Dock
from napari_emda._gui.train.plots import LossPlot
from napari_emda.data.box import Box
from napari_emda.data.volume import IGNORE
from napari_emda.events import Finished
from napari_emda.project.job_files import ExportJob, PredictJob, TrainJob, write_job
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from tests.gui.fake import fake_command, methods_command
from tests.gui.suggested import suggest
from tests.predictions import note_as_predicted

NM = {"units": ("nm",) * 3}

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGKILL")


@pytest.fixture
def make(qtbot):
    docks = []

    def factory(behaviour="work"):
        dock = Dock(ViewerModel(), fake_command(behaviour), methods_command())
        docks.append(dock)
        qtbot.addWidget(dock)
        qtbot.waitUntil(lambda: dock.session.catalogue is not None, timeout=240_000)
        return dock

    yield factory
    for dock in docks:
        dock.shut_down()


@pytest.fixture
def dock(make):
    return make()


@pytest.fixture
def ready(dock, project):
    dock.session.adopt(project)
    return dock


def add_layers(dock, arrays, **options):
    image, labels = arrays
    viewer = dock.session.viewer
    viewer.add_image(image, name="old", scale=(50, 4.6, 4.6), **NM)
    viewer.add_labels(labels, name="old mitochondria", scale=(50, 4.6, 4.6), **NM)
    viewer.add_image(image[:, ::-1], name="new", **{"scale": (50, 4.6, 4.6), **NM, **options})


def idle(qtbot, dock):
    qtbot.waitUntil(lambda: dock.session.runner.job is None, timeout=240_000)


def keep_running(dock, steps=20_000):
    dock.train.main.set_values({"steps": steps})
    dock.train.start_job()


# -- data ------------------------------------------------------------------------------------------


def test_missing_layers_are_named(dock):
    assert not dock.data.use.isEnabled()
    assert "Still needed: a target image" in dock.data.missing.text()
    assert "Without them, a model finds clusters" in dock.data.missing.text()
    assert not dock.train.start.isEnabled()
    assert "no project yet" in dock.train.reason.text()


def test_layers_are_guessed_and_become_a_project(qtbot, dock, arrays, tmp_path):
    add_layers(dock, arrays)
    data = dock.data
    assert (data.source.layer().name, data.labels.layer().name, data.target.layer().name) == (
        "old",
        "old mitochondria",
        "new",
    )
    assert data.source_size.value() == pytest.approx((50, 4.6, 4.6))
    assert data.class_names() == ("background", "mitochondria")
    qtbot.waitUntil(lambda: data.domain_gap.text().startswith("Domain gap"), timeout=240_000)
    data.folder.setText(str(tmp_path / "new-project"))
    data.use_layers()
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=240_000)
    assert [entry.name for entry in dock.session.opened.project.volumes.entries] == ["old", "new"]
    assert "Next: train" in dock.notices.text()
    assert len(dock.session.viewer.layers) == 3


def test_a_layer_without_voxel_size_is_pointed_out_and_gets_the_typed_one(
    qtbot, dock, arrays, tmp_path
):
    add_layers(dock, arrays, units=None, scale=(1, 1, 1))
    data = dock.data
    assert "voxel size of the target is not known" in data.missing.text()
    qtbot.waitUntil(lambda: dock.guide.line.sentence.text() == data.missing.text(), timeout=60_000)
    assert not dock.guide.line.button.isEnabled() and not data.use.isEnabled()
    data.folder.setText(str(tmp_path / "p"))
    data.target_size.set_value((30, 10, 10))
    assert "a factor of 2.2" in data.sizes.text()
    data.use_layers()
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=240_000)
    assert dock.session.viewer.layers["new"].scale.tolist() == [30, 10, 10]


def test_a_stack_of_independent_images_is_kept_as_one(qtbot, dock, arrays, tmp_path):
    dock.session.viewer.add_image(arrays[0], name="fields", scale=(1, 4.6, 4.6), **NM)
    size = dock.data.target_size
    size.is_depth.setChecked(False)
    size.set_value((0, 4.6, 4.6))
    assert size.value() == pytest.approx((4.6, 4.6, 4.6))
    dock.data.folder.setText(str(tmp_path / "p"))
    dock.data.use_layers()
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=240_000)
    (entry,) = dock.session.opened.project.volumes.entries
    assert entry.sections_are_independent
    assert Project.open(tmp_path / "p").volumes.open("fields").grid.sections_are_independent
    size.is_depth.setChecked(True)
    dock.session.viewer.layers.clear()
    dock.session.adopt(Project.open(tmp_path / "p"))
    assert dock.data.target.currentText() == "fields"
    assert not size.is_depth.isChecked()  # as it was said once


def test_layers_that_do_not_fit_are_not_offered(dock, arrays):
    add_layers(dock, arrays)
    viewer = dock.session.viewer
    viewer.add_image(np.eye(9, dtype=np.uint8)[..., None] * [1, 2, 3], rgb=True, name="photo")
    viewer.add_image(arrays[0], rotate=(0, 0, 20), name="skew")
    assert [layer.name for layer in dock.data.target.layers()] == ["old", "new"]
    assert "'photo' is not offered: it is a colour image: convert" in dock.data.left_out.text()
    assert "'skew' is not offered: it is rotated" in dock.data.left_out.text()
    viewer.layers.remove("new")
    assert dock.data.target.layer() is None
    viewer.layers["old"].name = "older"
    assert dock.data.source.currentText() == "older"


@pytest.mark.parametrize(
    ("name", "words"),
    [("newer", "format 99"), ("nothing", "is not a project"), ("open", "open elsewhere")],
)
def test_a_project_that_cannot_be_opened_is_one_notice(dock, project, name, words, tmp_path):
    folder = {"open": project.folder, "newer": tmp_path / "newer", "nothing": tmp_path}[name]
    if name == "newer":
        folder.mkdir()
        (folder / "project.json").write_text(json.dumps({"format": 99, "classes": ["a", "b"]}))
    dock.data.open_project(folder)
    assert words in dock.notices.text()
    assert dock.session.opened is None


def drop(dock, path):
    """Drag a path onto a dock and let it go there; whether it was taken."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    buttons = (Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    entered = QDragEnterEvent(QPoint(5, 5), Qt.DropAction.CopyAction, data, *buttons)
    # Qt accepts a new event by itself.
    entered.ignore()
    dock.dragEnterEvent(entered)
    if entered.isAccepted():
        dock.dropEvent(QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data, *buttons))
    return entered.isAccepted()


@pytest.mark.parametrize("place", [".", "project.json"])
def test_a_project_that_is_dropped_on_the_dock_is_opened(qtbot, dock, project, place):
    project.close()
    assert drop(dock, project.folder / place)
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=60_000)
    assert dock.session.opened.project.folder == project.folder


def test_nothing_else_is_taken_by_the_dock(dock, tmp_path):
    (tmp_path / "image.tif").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "project.json").write_text('{"version": "of another program"}')
    for name in ("image.tif", "folder", "folder/project.json", "nothing"):
        assert not drop(dock, tmp_path / name)


@pytest.mark.skipif(
    os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere"
)
def test_a_read_only_project_is_one_notice(dock, project):
    project.close()
    project.folder.chmod(0o500)
    dock.data.open_project(project.folder)
    project.folder.chmod(0o700)
    assert "cannot be written" in dock.notices.text()


def test_a_folder_that_is_not_empty_is_refused(qtbot, dock, arrays, tmp_path):
    add_layers(dock, arrays)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    dock.data.folder.setText(str(tmp_path / "full"))
    dock.data.use_layers()
    qtbot.waitUntil(lambda: "not empty" in dock.notices.text(), timeout=240_000)
    assert dock.data.use.isEnabled()


def test_opening_a_project_shows_its_volumes_annotations_and_prediction(dock, predicted):
    folder = predicted.folder
    predicted.regions.suggest(
        [{"volume": "target", "box": "1:2,0:16,0:16", "score": 0.9}], "entropy", "001-fake"
    )
    predicted.close()
    dock.data.open_project(folder)
    names = [layer.name for layer in dock.session.viewer.layers]
    assert names == [
        "source",
        "source labels",
        "target",
        "emda: probability",
        "emda: mask",
        "emda: patches",
        "emda: annotations",
    ]
    assert all(tuple(layer.scale) == (50, 4.6, 4.6) for layer in dock.session.viewer.layers)
    assert dock.annotate.list.count() == 1
    assert dock.drawers["Annotate"].isExpanded()
    assert [layer.name for layer in dock.data.source.layers()] == ["source", "target"]


def test_no_prediction_lies_over_another_volume(qtbot, dock, predicted, arrays):
    predicted.volumes.add(
        predicted.volumes.store("more", arrays[0][:3]), "target", name="more", spacing=(30, 9, 9)
    )
    values = np.full((1, 3, *arrays[0].shape[1:]), 200, np.uint8)
    zarr.create_array(
        predicted.folder / "runs" / "001-fake" / "probabilities.zarr" / "more", data=values
    )
    note_as_predicted(predicted.folder / "runs" / "001-fake", "more", values.shape[1:])
    dock.session.adopt(predicted)
    layers = dock.session.viewer.layers
    assert {layer.name for layer in layers if layer.visible} == {"target", "emda: mask of target"}
    assert {"emda: probability of target", "emda: probability of more"} < {
        layer.name for layer in layers
    }
    dock.predict.volume.setCurrentText("more")
    dock.predict.start_job()
    idle(qtbot, dock)
    assert {layer.name for layer in layers if layer.visible} == {"more", "emda: mask of more"}
    assert dock.session.viewer.scene.camera.center[1:] == pytest.approx((23.5 * 9, 19.5 * 9))


# -- train -----------------------------------------------------------------------------------------


def test_the_forms_give_the_settings(ready):
    train = ready.train
    assert train.method.currentText() == "auto"
    assert train.sentence.text() == "Borrows the target's grey values."
    assert train.settings().profile == "fast"
    train.main.set_values({"profile": "test"})
    assert (train.settings().steps, train.settings().patch) == (250, 64)
    assert train.network.values() == {"base_channels": 8, "depth": 3}
    train.main.set_values({"profile": "standard"})
    assert train.settings().save_every == 500
    assert train.network.values() == {"base_channels": 32, "depth": 4}
    train.main.set_values({"profile": "fast"})
    assert train.settings() == type(train.settings()).for_profile("fast")
    train.method.setCurrentText("finetune")
    assert not train.start.isEnabled()
    assert "learns from annotated patches" in train.reason.text()
    assert train.method_settings() == {}


def test_training_shows_progress_curve_and_preview(qtbot, ready, monkeypatch):
    ready.train.main.set_values({"steps": 1000})
    bar = ready.train.strip.bar
    shown = []
    show = bar.setFormat
    # On a slow machine, the training may be over when its preview is on view.
    monkeypatch.setattr(bar, "setFormat", lambda text: (shown.append(text), show(text)))
    ready.train.start_job()
    assert not ready.annotate.suggest.start.isEnabled()
    assert "A training is running" in ready.annotate.suggest.reason.text()
    assert ready.train.start.isHidden()
    qtbot.waitUntil(
        lambda: ready.session.opened.output("preview", "target") is not None, timeout=240_000
    )
    layer = ready.session.opened.output("preview", "target")
    assert layer.data.shape == (1, 48, 40, 4)
    assert layer.data[0, 0, 0, 3] == 200  # the opacity is the probability
    idle(qtbot, ready)
    assert any("left" in text for text in shown)
    assert ready.notices.text() == "Run 001-fake is trained."
    curves = ready.train.curves.losses.curves
    assert set(curves) == {"segmentation", "reconstruction"}
    assert curves["segmentation"].x[-1] == 1000
    quality = ready.train.curves.quality
    assert list(quality.scores) == [250, 500, 750, 1000]
    assert quality.kept == 500
    assert quality.isVisibleTo(ready.train) and "lower is better" in quality.toolTip()
    assert ready.drawers["Annotate"].isExpanded()


def test_a_run_can_be_compared_with_no_adaptation(qtbot, ready):
    assert ready.train.compare.isHidden()
    ready.train.main.set_values({"steps": 40})
    ready.train.start_job()
    idle(qtbot, ready)
    assert ready.train.compare.isVisibleTo(ready.train)
    ready.train.compare.click()
    job = ready.session.runner.job
    assert (job.method, job.settings.steps) == ("source_only", 40)
    assert ready.train.compare.isHidden()
    idle(qtbot, ready)
    assert ready.train.compare.isHidden()


@pytest.mark.parametrize(
    ("behaviour", "tone"), [("work", "done"), ("worse", "hint"), ("fallen", "hint")]
)
def test_a_warning_looks_like_one(qtbot, make, project, behaviour, tone):
    dock = make(behaviour)
    dock.session.adopt(project)
    keep_running(dock, 20)
    idle(qtbot, dock)
    assert dock.notices.tone == tone


def test_why_shows_which_model_was_kept_until_the_next_job(qtbot, ready):
    ready.show()
    ready.session.runner.ended.emit(
        Finished("done", "Run 001-auto is trained. Next, predict.", {}, "The model of step 3.")
    )
    texts = [sentence for sentence in ready.notices.findChildren(Sentence) if sentence.isVisible()]
    assert [sentence.text() for sentence in texts] == ["Run 001-auto is trained. Next, predict."]
    qtbot.mouseClick(ready.notices.why, Qt.MouseButton.LeftButton)
    texts = [sentence for sentence in ready.notices.findChildren(Sentence) if sentence.isVisible()]
    assert texts[-1].text() == "The model of step 3."
    ready.train.start_job()
    assert not ready.notices.isVisible()


def test_a_name_s_control_characters_are_shown_as_escapes(ready):
    ready.show()
    text = "Written to 'a\x1b[2J\u202egnp.tif'.\nThe second line stays one."
    ready.session.runner.ended.emit(Finished("done", text, {}, "In 'b\x07'."))
    assert ready.notices.text() == (
        "Written to 'a\\x1b[2J\\u202egnp.tif'.\nThe second line stays one.\nIn 'b\\x07'."
    )


def test_an_error_goes_with_the_next_key_and_the_end_of_a_job_stays(qtbot, ready, predicted):
    ready.show()
    ready.session.say("A patch has at least 8 x 8 pixels: draw a larger one.", "error")
    QTest.keyClick(ready.annotate, Qt.Key.Key_Q)
    assert not ready.notices.isVisible()
    ready.session.runner.ended.emit(Finished("done", "Run 001-fake is trained.", {}, ""))
    QTest.keyClick(ready.annotate, Qt.Key.Key_Q)
    assert ready.notices.text() == "Run 001-fake is trained."


def test_kept_models_of_a_run_can_be_predicted_with(ready, predicted):
    folder = predicted.folder / "runs" / "001-fake" / "candidates"
    folder.mkdir()
    for step in (50, 200, 100):
        (folder / f"{step}.safetensors").touch()
    ready.predict.update_state()
    box = ready.predict.checkpoint
    assert [box.itemText(i) for i in range(box.count())] == ["selected", "last", "200", "100", "50"]
    box.setCurrentText("100")
    ready.predict.start_job()
    assert ready.session.runner.job.checkpoint == "100"


def test_the_preview_follows_the_section_on_view(qtbot, ready):
    keep_running(ready)
    viewer = ready.session.viewer
    qtbot.waitUntil(
        lambda: ready.session.opened.output("preview", "target") is not None, timeout=240_000
    )
    viewer.dims.set_point(0, 4 * 50)
    qtbot.waitUntil(
        lambda: ready.session.opened.output("preview", "target").translate[0] == 200,
        timeout=240_000,
    )


def test_pause_resume_stop(qtbot, ready):
    keep_running(ready)
    strip = ready.train.strip
    qtbot.waitUntil(lambda: strip.bar.value() > 20, timeout=240_000)
    strip.pause.click()
    assert strip.bar.format() == "Paused"
    qtbot.waitUntil(lambda: ready.notices.text() == "got pause", timeout=240_000)
    assert strip.pause.text() == "Resume"
    strip.pause.click()
    qtbot.waitUntil(lambda: ready.notices.text() == "got resume", timeout=240_000)
    strip.stop.click()
    idle(qtbot, ready)
    assert ready.notices.text().startswith("Stopped at step")
    assert not ready.train.resume.isHidden()


@posix
def test_a_killed_child_is_one_sentence_and_resume_continues(qtbot, ready):
    keep_running(ready, 5000)
    qtbot.waitUntil(lambda: ready.train.strip.bar.value() > 50, timeout=240_000)
    os.kill(ready.session.runner.process_id, signal.SIGKILL)
    idle(qtbot, ready)
    assert "press Resume to go on from the last checkpoint" in ready.notices.text()
    assert ready.train.resume.text().startswith("Resume 001-fake from step")
    ready.train.resume_training()
    job = ready.session.runner.job
    assert isinstance(job, TrainJob)
    assert (job.resume, job.settings.steps) == ("001-fake", 5000)
    assert ready.train.curves.losses.curves["segmentation"].x[0] == 10


def test_a_mistake_is_a_notice(qtbot, make, project):
    dock = make("mistake")
    dock.session.adopt(project)
    keep_running(dock)
    idle(qtbot, dock)
    assert dock.notices.text().startswith("The target is 96 x 80 pixels")


def test_a_layer_removed_while_its_job_runs(qtbot, ready):
    keep_running(ready)
    qtbot.waitUntil(lambda: ready.train.strip.bar.value() > 20, timeout=240_000)
    ready.session.viewer.layers.remove("target")
    assert "The layer 'target' was removed. The training continues" in ready.notices.text()
    assert not ready.session.viewer.layers["source"].visible  # it is no picture of the target
    assert ready.session.opened.output("preview", "target") is None
    value = ready.train.strip.bar.value()
    qtbot.waitUntil(lambda: ready.train.strip.bar.value() > value + 50, timeout=240_000)


# -- annotate, predict, export ---------------------------------------------------------------------


def test_keys_act_where_the_focus_is_and_digits_in_a_box_are_typed(qtbot, dock, predicted):
    dock.session.adopt(predicted)
    annotate = dock.annotate
    regions = [
        {"volume": "target", "box": box}
        for box in ("1:2,0:16,0:16", "3:4,8:24,8:24", "2:3,0:9,0:9")
    ]
    suggest(annotate.patches, regions, "random", "")
    boxes = [
        annotate.curve.count,
        annotate.retrain.steps,
        *annotate.suggest.main.native.findChildren(QAbstractSpinBox),
    ]
    qtbot.keyClick(annotate.list, Qt.Key.Key_N)
    assert annotate.patches.current.id == annotate.patches.regions[0].id
    for box, key, state in zip(
        boxes, (Qt.Key.Key_J, Qt.Key.Key_K, Qt.Key.Key_U), (2, 1, 2), strict=False
    ):
        qtbot.keyClick(box, key)
        assert sum(region.state == "suggested" for region in annotate.patches.regions) == state
    qtbot.keyClick(annotate.list, Qt.Key.Key_1)
    assert annotate.tools.class_index == 0
    annotate.retrain.steps.lineEdit().selectAll()
    for digit in "230":
        qtbot.keyClick(annotate.retrain.steps, digit)
    assert annotate.retrain.steps.value() == 230
    assert annotate.tools.class_index == 0
    qtbot.keyClick(annotate.suggest.strategy, Qt.Key.Key_J, Qt.KeyboardModifier.ShiftModifier)
    assert annotate.patches.regions[1].state == "unsure"


def test_suggest_annotate_retrain(qtbot, dock, predicted):
    dock.session.adopt(predicted)
    annotate = dock.annotate
    assert not annotate.retrain.start.isEnabled()
    annotate.suggest.start_job()
    idle(qtbot, dock)
    assert annotate.list.count() == 3
    assert annotate.list.item(0).text() == "section 1\nscore 0.90 · to do"
    assert not annotate.list.item(0).icon().isNull()
    learns = "Retraining learns from your patches: press Done on one first."
    painting = annotate.painting
    assert annotate.retrain.reason.text() == learns
    assert not any(button.isEnabled() for button in painting.deciding)
    annotate.list.itemClicked.emit(annotate.list.item(1))
    # Whoever works on a patch needs no such hint; the button still says why it is off.
    assert annotate.retrain.reason.text() == ""
    assert annotate.retrain.start.toolTip() == learns
    assert all(button.isEnabled() for button in (*painting.deciding, *painting.moving))
    assert dock.session.viewer.dims.point[0] == 150
    annotate.commands["done"]()
    assert annotate.list.item(1).text().endswith("done")
    assert annotate.patches.current is not None
    annotate.commands["skip"]()
    assert "2 of 3 patches decided" in annotate.status.text()
    assert annotate.retrain.start.isEnabled()
    assert "Continue training" in annotate.retrain.start.toolTip()
    assert annotate.retrain.method.currentText() == "finetune"
    annotate.retrain.steps.setValue(50)
    annotate.retrain.start_job()
    job = dock.session.runner.job
    assert (job.method, job.start_from, job.settings.steps) == ("finetune", "001-fake", 50)
    assert dock.train.method.currentText() != "finetune"
    for strip in (dock.train.strip, annotate.retrain.strip):
        assert (
            strip.what.text()
            == f"finetune, 50 steps, profile {job.settings.profile}, going on from 001-fake"
        )
    assert 0 < job.settings.validations < 10  # somebody waits
    idle(qtbot, dock)


def test_the_suggestion_is_said_until_a_patch_is_on_view_and_a_note_until_the_next_action(
    qtbot, dock, predicted
):
    dock.session.adopt(predicted)
    dock.show()
    dock.annotate.suggest.start_job()
    idle(qtbot, dock)
    assert dock.notices.isVisible() and dock.notices.tone == "done"
    QTest.keyClick(dock.annotate, Qt.Key.Key_Q)  # another brush: the patches are still to be seen
    assert dock.notices.isVisible()
    QTest.keyClick(dock.annotate, Qt.Key.Key_N)
    assert not dock.notices.isVisible()
    # What a job says while the user paints stays from patch to patch.
    dock.session.runner.ended.emit(Finished("done", "Run 001-fake is trained.", {}, ""))
    QTest.keyClick(dock.annotate, Qt.Key.Key_K)
    assert dock.notices.text() == "Run 001-fake is trained."
    dock.annotate.commands["partial"]()
    assert "not painted anything" in dock.notices.text()
    dock.annotate.commands["next"]()
    assert dock.notices.text() == ""


def test_no_preview_hides_the_paint(qtbot, dock, predicted):
    dock.session.adopt(predicted)
    dock.annotate.suggest.start_job()
    idle(qtbot, dock)
    keep_running(dock)
    qtbot.waitUntil(
        lambda: dock.session.opened.output("preview", "target") is not None, timeout=240_000
    )
    dock.annotate.commands["next"]()
    assert dock.session.opened.output("preview", "target") is None
    qtbot.wait(1500)
    assert dock.session.opened.output("preview", "target") is None
    dock.annotate.patches.leave()
    qtbot.waitUntil(
        lambda: dock.session.opened.output("preview", "target") is not None, timeout=240_000
    )


def test_keys_act_on_the_viewer(dock, predicted):
    dock.session.adopt(predicted)
    viewer = dock.session.viewer
    said = []
    dock.session.said.connect(lambda text, kind: said.append(text))
    for key in ("N", "K", "J", "U", "Shift-N", "Shift-K", "Shift-J"):
        viewer.keymap[next(k for k in viewer.keymap if str(k) == key.replace("-", "+"))](viewer)
    assert [text.split(":")[0] for text in said] == [
        "There are no patches yet",
        "No patch is on view",
        "No patch is on view",
        "There is no decision to undo.",
        "There are no patches yet",
        "No patch is on view",
        "No patch is on view",
    ]
    dock.shut_down()
    assert not viewer.keymap


def test_suggesting_without_a_model(ready):
    assert (
        ready.annotate.suggest.reason.text()
        == "entropy needs a model and there is none: train one first, or choose random."
    )
    ready.annotate.suggest.strategy.setCurrentText("random")
    assert ready.annotate.suggest.start.isEnabled()


def test_threshold_and_smallest_object_are_live(dock, predicted):
    dock.session.adopt(predicted)
    mask = dock.session.opened.output("mask", "target")
    assert mask.data[1].sum() == 100
    dock.predict.threshold.setValue(0.95)
    assert mask.data[1].sum() == 0
    dock.predict.threshold.setValue(0.5)
    mask.visible = False  # as after coming to a patch
    dock.predict.smallest.setValue(101)
    assert mask.data[1].sum() == 0
    assert mask.visible
    dock.predict.start.click()
    job = dock.session.runner.job
    assert isinstance(job, PredictJob)
    assert (job.run, job.volume) == ("001-fake", "target")


def test_a_prediction_that_was_there_already_is_shown(qtbot, dock, predicted):
    dock.session.adopt(predicted)
    dock.session.viewer.layers.remove("emda: mask")
    dock.predict.start.click()  # no block is left to be done, so none is told
    idle(qtbot, dock)
    assert dock.session.opened.output("mask", "target").data[1].sum() == 100


def test_export_is_a_job(qtbot, dock, predicted, tmp_path):
    dock.session.adopt(predicted)
    export = dock.export
    assert export.path.text().endswith("target-mask.tif")
    export.what.setCurrentText("table")
    assert export.path.text().endswith("target-table.csv")
    dock.predict.threshold.setValue(0.7)
    export.separate.native.setValue(0.85)
    export.start.click()
    job = dock.session.runner.job
    assert isinstance(job, ExportJob)
    assert (job.what, job.settings["threshold"], job.overwrite) == ("table", 0.7, False)
    assert job.settings["separate"] == 0.85
    idle(qtbot, dock)
    assert dock.notices.text() == "The export is done."


def test_an_export_to_a_file_that_exists_is_refused_before_a_child_starts(
    qtbot, dock, predicted, tmp_path
):
    dock.session.adopt(predicted)
    export = dock.export
    path = tmp_path / "mask.tif"
    path.write_text("another's work")
    dock.show_only("Export")
    export.path.selectAll()
    QTest.keyClicks(export.path, str(path))
    QTest.mouseClick(export.start, Qt.MouseButton.LeftButton)
    assert dock.session.runner.job is None
    assert "exists already" in dock.notices.text()
    assert path.read_text() == "another's work"
    QTest.keyClick(export.replace, Qt.Key.Key_Space)
    assert export.replace.isChecked()
    QTest.mouseClick(export.start, Qt.MouseButton.LeftButton)
    assert dock.session.runner.job is not None
    idle(qtbot, dock)


def test_an_export_of_one_class_asks_which(dock, tmp_path):
    zarr.save_array(tmp_path / "target.zarr", np.zeros((4, 32, 32), np.uint8))
    project = Project.create(tmp_path / "three", ("background", "mitochondria", "membrane"))
    project.volumes.add(tmp_path / "target.zarr", "target", spacing=(50.0, 8.0, 8.0))
    run = project.folder / "runs" / "001-fake"
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").touch()
    dock.session.adopt(project)
    export = dock.export
    opened = dock.session.opened
    offered = {}
    for what in ("mask", "probabilities", "table"):
        export.what.setCurrentText(what)
        assert export.separate.native.isHidden() == (what != "table")
        box = export.class_name
        offered[what] = [box.itemText(index) for index in range(box.count())]
        assert box.isHidden() != bool(offered[what])
    classes = ["mitochondria", "membrane"]
    assert offered == {"mask": [], "probabilities": ["all", *classes], "table": classes}
    export.class_name.setCurrentText("membrane")
    assert export.job(opened).class_name == "membrane"
    export.what.setCurrentText("probabilities")
    assert export.class_name.currentText() == "membrane"
    export.class_name.setCurrentText("all")
    job = export.job(opened)
    assert (job.class_name, job.settings) == (None, {})


def test_one_job_at_a_time(qtbot, ready):
    keep_running(ready)
    ready.train.start_job()
    assert "A training is running" in ready.notices.text()
    ready.data.open_project(ready.session.opened.project.folder)
    assert "A training is running" in ready.notices.text()


def test_shutting_down_ends_the_child_and_gives_the_project_back(qtbot, ready, project):
    keep_running(ready)
    qtbot.waitUntil(lambda: ready.train.strip.bar.value() > 20, timeout=240_000)
    pid = ready.session.runner.process_id
    folder = project.folder
    ready.shut_down()
    ready.shut_down()
    # It saves by itself; closing waits for nobody.
    saved = folder / "runs/001-fake/saved-on-hang-up"
    qtbot.waitUntil(saved.exists, timeout=240_000)
    qtbot.waitUntil(lambda: not psutil.pid_exists(pid), timeout=240_000)
    assert (folder / "runs/001-fake/saved-on-hang-up").exists()
    Project.open(folder, exclusive=True).close()


# -- the annotation round --------------------------------------------------------------------------


def test_the_curve_shows_how_far_the_model_agreed_before_it_saw_the_patches(qtbot, dock, predicted):
    dock.session.adopt(predicted)
    annotate = dock.annotate
    assert annotate.curve.plot.isHidden()
    annotate.suggest.start_job()
    idle(qtbot, dock)
    annotate.commands["next"]()
    layer = dock.session.opened.output("annotations", "target")
    layer.data[1, 2:12, 2:7] = 0
    annotate.commands["done"]()
    annotate.commands["done"]()
    (point,) = annotate.curve.plot.points["IoU"]
    assert point[0] == 1
    assert point[1].value == pytest.approx((50 + 16) / (100 + 16))
    assert "After 2 patches, it is too early to say" in annotate.curve.last.text()
    assert annotate.curve.last.text().endswith(" So far you changed 9.8% of their pixels.")
    assert annotate.curve.summary.text().startswith("2 patches done")
    assert "%" not in annotate.curve.summary.text()
    annotate.patches.add_drawn("target", Box((4, 0, 0), (5, 20, 20)))
    annotate.commands["done"]()
    assert "001-fake agreed with you on 3 patches" in annotate.curve.last.text()
    assert "uncertain: between" in annotate.curve.last.text()


def test_an_audit_is_drawn_by_lot_and_painted_from_nothing(qtbot, dock, predicted):
    dock.session.adopt(predicted)
    annotate = dock.annotate
    annotate.suggest.main.set_values({"patch": 16})
    annotate.curve.count.setValue(2)
    annotate.curve.start.click()
    job = dock.session.runner.job
    assert (job.audit, job.run, job.settings.count, job.settings.patch) == (True, "001-fake", 2, 16)
    idle(qtbot, dock)
    assert annotate.list.item(0).text() == "section 1\nrandom · to do"
    line = dock.guide.line
    qtbot.waitUntil(lambda: line.sentence.text() == "2 of 2 patches to paint.")
    qtbot.mouseClick(line.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: line.sentence.text() == "Patch 1 of 2: paint it, then accept it.")
    assert not np.asarray(dock.session.opened.output("annotations", "target").data[1]).any()
    annotate.commands["done"]()
    annotate.commands["done"]()
    assert "After 2 patches, it is too early to say" in annotate.curve.last.text()
    assert [len(points) for points in annotate.curve.plot.points.values()] == [0, 0, 1]


@pytest.mark.parametrize("answer", ["Drop them and go on", "Go on with the audit"])
def test_suggesting_asks_before_it_drops_an_audit(answer, qtbot, dock, predicted):
    dock.session.adopt(predicted)
    boxes = ("1:2,0:16,0:16", "2:3,0:16,0:16")
    patches = [{"volume": "target", "box": box} for box in boxes]
    suggest(dock.annotate.patches, patches, "audit", "001-fake")
    asked = []

    def press():
        (question,) = dock.findChildren(QMessageBox)
        asked.append(question.text())
        (button,) = (button for button in question.buttons() if button.text() == answer)
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    QTimer.singleShot(0, press)
    dock.annotate.suggest.start.click()
    assert asked[0].startswith("2 patches of the audit are not done yet.")
    assert (dock.session.runner.job is not None) == answer.startswith("Drop")
    if answer.startswith("Drop"):
        idle(qtbot, dock)
    assert bool(dock.annotate.patches.audit) != answer.startswith("Drop")


def test_an_audit_says_why_it_is_smaller_and_is_ended_by_a_button(qtbot, dock, predicted):
    dock.session.adopt(predicted)
    annotate = dock.annotate
    annotate.suggest.main.set_values({"patch": 16})
    annotate.curve.count.setValue(20)
    annotate.curve.start.click()
    idle(qtbot, dock)
    drawn = annotate.list.count()
    assert drawn < 20
    assert annotate.curve.drawn.text().startswith(f"{drawn} of 20 patches were drawn, because")
    assert "prediction and its uncertainty stay hidden" in annotate.status.text()
    assert not annotate.curve.end.isHidden()
    qtbot.mouseClick(annotate.curve.end, Qt.MouseButton.LeftButton)
    assert annotate.list.count() == 0
    assert annotate.curve.end.isHidden() and annotate.curve.drawn.isHidden()
    annotate.commands["undo"]()
    assert annotate.list.count() == drawn


def test_classes_and_brushes_are_buttons_with_keys(dock, predicted):
    dock.session.adopt(predicted)
    palette = dock.annotate.painting.classes
    assert [button.text().split()[0] for button in palette.classes] == [
        "background",
        "mitochondria",
    ]
    assert palette.classes[1].text().endswith(" 2")
    dock.annotate.commands["class 1"]()
    assert [button.isChecked() for button in palette.classes] == [True, False]
    palette.brushes[40].click()
    assert dock.annotate.patches.paint.layer("target").brush_size == 40
    dock.annotate.commands["brush"]()
    assert [size for size, button in palette.brushes.items() if button.isChecked()] == [1]


def test_labels_are_imported_from_a_layer(qtbot, dock, predicted, arrays):
    dock.session.adopt(predicted)
    viewer = dock.session.viewer
    imports = dock.annotate.imports
    viewer.add_labels(arrays[1][:, :10], name="too small")
    imports.labels.choose(viewer.layers["too small"])
    imports.import_labels()
    assert "No target has the 5 x 10 x 40 voxels of 'too small'" in dock.notices.text()
    rough = viewer.add_labels(arrays[1], name="rough")
    imports.labels.choose(rough)
    imports.begin.setCurrentText("the labels above")
    assert np.array_equal(dock.annotate.tools.start[...], 2 * arrays[1])
    dock.annotate.patches.paint.layer("target").mode = "paint"
    assert imports.numbers.box.currentText() == "0 not annotated, 1 the first class"
    imports.take.click()
    qtbot.waitUntil(
        lambda: "was imported as annotations of 'target'" in dock.notices.text(), timeout=240_000
    )
    stored = np.asarray(predicted.annotations.open("target")[:])
    assert np.array_equal(stored, np.where(arrays[1] > 0, 2, 0))
    assert dock.annotate.retrain.start.isEnabled()
    assert dock.session.opened.output("annotations", "target").mode == "paint"


def test_a_few_labelled_sections_are_taken_whole(qtbot, dock, predicted, arrays):
    dock.session.adopt(predicted)
    imports = dock.annotate.imports
    few = arrays[1].copy()
    few[2:] = 0
    imports.labels.choose(dock.session.viewer.add_labels(few, name="few"))
    imports.numbers.box.setCurrentText("0 means background in labelled sections")
    imports.take.click()
    qtbot.waitUntil(
        lambda: "was imported as annotations of 'target'" in dock.notices.text(), timeout=240_000
    )
    assert "2 of 5 sections hold labels" in dock.notices.text()
    stored = np.asarray(predicted.annotations.open("target")[:])
    assert np.array_equal(stored[:2], 1 + few[:2])
    assert not stored[2:].any()


def test_a_volume_labelled_in_part_is_shown_its_way(dock, arrays):
    dock.session.viewer.add_image(arrays[0], name="only", scale=(50, 4.6, 4.6), **NM)
    dock.session.viewer.add_labels(arrays[1], name="only labels", scale=(50, 4.6, 4.6), **NM)
    assert "labelled in part? Choose it as the target and no source" in dock.data.missing.text()


def test_empty_sections_of_the_source_labels_are_pointed_out_and_can_be_left_open(
    qtbot, dock, arrays, tmp_path
):
    image = arrays[0]
    few = arrays[1].copy()
    few[2:] = 0
    add_layers(dock, (image, few))
    numbers = dock.data.label_numbers
    data = dock.data
    qtbot.waitUntil(lambda: "3 of 5 sections hold no label" in numbers.hint.text(), timeout=240_000)
    numbers.box.setCurrentText("0 means background in labelled sections")
    assert not numbers.hint.text()
    data.folder.setText(str(tmp_path / "p"))
    data.use_layers()
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=240_000)
    ids = dock.session.opened.project.volumes.open("old").class_ids
    assert np.array_equal(ids[0:2, 0:48, 0:40], few[:2])
    assert (ids[2:5, 0:48, 0:40] == IGNORE).all()


def test_labels_of_the_source_may_leave_voxels_open(qtbot, dock, arrays, tmp_path):
    image = arrays[0]
    labels = 1 + arrays[1]
    labels[:, 24:] = 0
    add_layers(dock, (image, labels))
    dock.data.label_numbers.box.setCurrentText("0 not annotated, 1 background")
    dock.data.folder.setText(str(tmp_path / "p"))
    dock.data.use_layers()
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=240_000)
    ids = dock.session.opened.project.volumes.open("old").class_ids
    assert np.array_equal(ids[0:5, 0:24, 0:40], arrays[1][:, :24])
    assert (ids[0:5, 24:48, 0:40] == IGNORE).all()


def test_layers_of_the_project_before_are_not_taken_for_layers_of_the_user(
    dock, predicted, clustered
):
    dock.session.adopt(predicted)
    assert dock.session.opened.output("mask", "target") in dock.session.viewer.layers
    dock.session.adopt(clustered)
    offered = {layer.name for layer in dock.data.target.layers()}
    assert not any("probability" in name or "uncertainty" in name for name in offered)


def test_a_training_takes_the_overview_of_suggestions_away(qtbot, dock, predicted):
    dock.session.adopt(predicted)
    dock.annotate.patches.overlays.show_overview("target", "001-fake")
    layer = dock.session.opened.output("uncertainty", "target")
    assert layer.visible
    dock.train.start_job()
    idle(qtbot, dock)
    assert not layer.visible


def test_no_entry_makes_the_dock_wider_than_it_is(qtbot, dock):
    # Those of the forms have the same few words always.
    boxes = [box for box in dock.findChildren(QComboBox) if not hasattr(box, "_magic_widget")]
    assert {dock.predict.run, dock.data.target, dock.annotate.imports.begin} <= set(boxes)
    for box in boxes:
        box.addItem("001-auto (interrupted at step 107 of 400)")
    with qtbot.waitExposed(dock):
        dock.show()
    widest = max(boxes, key=lambda box: box.minimumSizeHint().width())
    assert widest.minimumSizeHint().width() < 200, widest.accessibleName()


def test_an_image_stays_in_sight_when_its_voxels_get_a_size_in_nanometres(
    qtbot, dock, arrays, tmp_path
):
    shown = dock.session.viewer.add_image(arrays[0], name="fields")
    before = shown.thumbnail[..., :3].copy()
    assert before.any()
    dock.data.target_size.set_value((1, 1, 1))
    dock.data.folder.setText(str(tmp_path / "p"))
    dock.data.use_layers()
    qtbot.waitUntil(lambda: dock.session.opened is not None, timeout=240_000)
    assert str(shown.units[0]) == "nanometer"
    assert np.array_equal(shown.thumbnail[..., :3], before)


def test_no_curve_runs_through_the_names_of_the_losses(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    with qtbot.waitExposed(plot):
        plot.show()
    for step in (10, 20):
        plot.add(
            step,
            {"clusters": -0.5, "overclustering": -0.6, "information": 0.5, "largest_cluster": 0.9},
        )
    item = plot.getPlotItem()
    legend = item.legend.mapRectToItem(item.vb, item.legend.boundingRect())
    assert item.vb.mapFromView(QPointF(15, 0.9)).y() > legend.bottom() - 2


def test_a_training_can_start_from_any_run_with_its_network(qtbot, ready):
    train = ready.train
    project = ready.session.opened.project
    for name, base, context in (("001-source_only", 24, 2), ("002-iic", 16, 0)):
        folder = project.folder / "runs" / name
        folder.mkdir(parents=True)
        (folder / "checkpoint.safetensors").touch()
        job = TrainJob(
            project=str(project.folder),
            method="source_only",
            settings={"context": context},
            network_settings={"base_channels": base},
        )
        write_job(job, folder / "job.json")
    ready.session.project_changed.emit()
    box = train.start_from.box
    assert [box.itemText(i) for i in range(box.count())] == [
        "nothing",
        "002-iic",
        "001-source_only",
    ]
    train.main.set_values({"profile": "test"})
    train.main.set_values({"steps": 30})
    box.setCurrentText("001-source_only")
    assert (train.network.values()["base_channels"], train.settings().steps) == (24, 30)
    assert not train.network.form["base_channels"].enabled
    assert not train.network.box.isEnabled()
    assert train.settings().context == 2
    assert not train.advanced["context"].enabled
    jobs = []
    ready.session.runner.started.connect(jobs.append)
    train.start_job()
    idle(qtbot, ready)
    assert (jobs[0].start_from, jobs[0].network_settings["base_channels"]) == (
        "001-source_only",
        24,
    )
    box.setCurrentText("nothing")
    assert (train.network.values()["base_channels"], train.settings().steps) == (8, 30)
    assert train.network.form["base_channels"].enabled
    assert train.network.box.isEnabled()
    assert train.settings().context == 0
    # What the user sets for a new network is not taken back with another profile.
    train.advanced.set_values({"context": 1})
    train.main.set_values({"profile": "fast"})
    assert train.advanced["context"].enabled
    assert train.settings().context == 1


def test_a_second_target_joins_an_open_project(qtbot, dock, predicted, arrays):
    another = dock.data.another
    assert not another.add.isEnabled()
    dock.session.adopt(predicted)
    assert "Open another image in napari first" in another.reason.text()
    dock.session.viewer.add_image(arrays[0][:3], name="more", scale=(30, 9, 9), **NM)
    another.image.choose(dock.session.viewer.layers["more"])
    assert another.spacing.value() == (30, 9, 9)
    another.add.click()
    qtbot.waitUntil(lambda: len(predicted.volumes.targets()) == 2, timeout=240_000)
    assert predicted.volumes.entry("more").spacing == (30, 9, 9)
    assert dock.predict.volume.findText("more") >= 0
    assert not another.image.layers()
    assert "was added to the project" in dock.notices.text()
    assert Project.open(predicted.folder).volumes.open("more").shape == (3, 48, 40)


def test_interrupted_runs_are_marked_and_no_default(ready, project):
    for name, step in (("001-fake", 150), ("002-fake", 10)):
        run = RunFolder.of(project.folder, name)
        run.path.mkdir(parents=True)
        state = {"model": {"step": step}, "training": {"settings": {"steps": 150}}}
        header = json.dumps({"__metadata__": {"napari_emda": json.dumps(state)}}).encode()
        run.checkpoint.write_bytes(len(header).to_bytes(8, "little") + header)
    ready.session.project_changed.emit()
    for box in (ready.predict.run, ready.export.run):
        assert chosen_name(box) == "001-fake"
        assert box.itemText(1) == "002-fake (interrupted at step 10 of 150)"
    box = ready.train.start_from.box
    assert [box.itemText(index) for index in range(2)] == ["nothing", "001-fake"]
    box.setCurrentIndex(2)
    assert ready.train.start_from.run == "002-fake"
    assert ready.train.resume.text() == "Resume 002-fake from step 10 of 150"
    assert project.runs.retrain_job("finetune", 10).start_from == "001-fake"


def test_lists_without_entries_are_not_shown(qtbot, make, predicted):
    dock = make()
    dock.show()
    boxes = (dock.export.run, dock.export.volume, dock.predict.run, dock.annotate.retrain.method)
    dock.show_only("Export")
    assert not any(box.isVisibleTo(dock) for box in (*boxes, dock.export.class_name))
    dock.session.adopt(predicted)
    dock.show_only("Export")
    assert dock.export.run.isVisible() and dock.export.volume.isVisible()
    # With a single class there is nothing to choose.
    for what in ("mask", "objects"):
        dock.export.what.setCurrentText(what)
        assert not dock.export.class_name.isVisible()
    dock.show_only("Data")
    qtbot.mouseClick(dock.data.naming_drawer.toggleButton(), Qt.MouseButton.LeftButton)
    assert dock.data.naming.reason.isVisible()
    assert not dock.data.naming.run.isVisible() and not dock.data.naming.use.isVisible()


def test_the_part_that_names_clusters_is_brought_into_sight(qtbot, dock, clustered):
    dock.resize(340, 420)
    dock.show()
    dock.session.adopt(clustered)
    part = dock.data.naming_drawer
    button = dock.guide.line.button
    qtbot.waitUntil(lambda: button.text() == "Name clusters", timeout=60_000)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    for seen in (part.toggleButton(), dock.data.naming.start):
        qtbot.waitUntil(
            lambda seen=seen: seen.visibleRegion().boundingRect() == seen.rect() != QRect(),
            timeout=60_000,
        )


def test_a_decision_is_undone_and_repeated_by_buttons(qtbot, dock, predicted):
    dock.show()
    dock.session.adopt(predicted)
    dock.annotate.suggest.start_job()
    idle(qtbot, dock)
    QTest.keyClick(dock.annotate, Qt.Key.Key_N)
    QTest.keyClick(dock.annotate, Qt.Key.Key_K)
    buttons = {b.text(): b for b in dock.annotate.painting.findChildren(QPushButton)}

    def accepted():
        return [region.state for region in predicted.regions.all()].count("accepted")

    assert accepted() == 1
    qtbot.mouseClick(buttons["Undo"], Qt.MouseButton.LeftButton)
    assert accepted() == 0
    qtbot.mouseClick(buttons["Redo"], Qt.MouseButton.LeftButton)
    assert accepted() == 1
    assert "Shift-U" in buttons["Redo"].toolTip()

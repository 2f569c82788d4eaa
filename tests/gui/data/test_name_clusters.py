"""Naming clusters by rows and by clicks: what changes on view and on disk."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import Qt

from napari_emda._gui.dock import Dock
from napari_emda._gui.process.catalogue import Catalogue, Choice
from napari_emda._gui.train.live_preview import show_preview
from napari_emda.events import Preview
from napari_emda.project.job_files import ExportJob, PredictJob, SuggestJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.settings.requirements import Requirements
from tests.gui.fake import fake_command, methods_command


@pytest.fixture
def empty(qtbot):
    dock = Dock(ViewerModel(), fake_command(), methods_command())
    qtbot.addWidget(dock)
    qtbot.waitUntil(lambda: dock.session.catalogue is not None, timeout=240_000)
    yield dock
    dock.shut_down()


@pytest.fixture
def dock(empty, clustered):
    empty.session.adopt(clustered)
    return empty


def texts(table, column):
    return [table.item(line, column).text() for line in range(table.rowCount())]


def test_a_volume_alone_becomes_a_project_for_a_training_without_labels(
    qtbot, empty, arrays, tmp_path
):
    image = arrays[0]
    empty.session.viewer.add_image(image, name="only", scale=(50, 4.6, 4.6), units=("nm",) * 3)
    data = empty.data
    assert data.source.layer() is None
    assert data.target.layer().name == "only"
    assert "you name them" in data.missing.text()
    data.folder.setText(str(tmp_path / "alone"))
    data.use_layers()
    qtbot.waitUntil(lambda: empty.session.opened is not None, timeout=240_000)
    assert [
        (entry.name, entry.domain) for entry in empty.session.opened.project.volumes.entries
    ] == [("only", "target")]
    assert empty.train.method.currentText() == "iic"
    assert empty.train.start.isEnabled()
    empty.train.method.setCurrentText("source_only")
    assert "needs a source volume" in empty.train.reason.text()


def test_labels_that_are_open_can_be_left_out(empty, arrays):
    image, labels = arrays
    place = {"scale": (50, 4.6, 4.6), "units": ("nm",) * 3}
    empty.session.viewer.add_image(image, name="old", **place)
    empty.session.viewer.add_labels(labels, name="old labels", **place)
    data = empty.data
    assert (data.source.layer().name, data.labels.layer().name) == ("old", "old labels")
    assert data.target.layer() is None
    data.source.setCurrentIndex(0)
    data.labels.setCurrentIndex(0)
    empty.session.viewer.add_image(image, name="new", **place)
    assert (data.source.layer(), data.labels.layer()) == (None, None)
    assert [pick.domain for pick in data.picks()] == ["target"]


def test_clusters_are_shown_with_their_shares(qtbot, dock):
    naming = dock.data.naming
    layer = dock.session.opened.output("clusters", "target")
    assert isinstance(layer, Labels)
    assert np.array_equal(np.unique(layer.data[1]), [1, 2, 3])
    assert dock.data.labels.layers() == []  # ours are not offered as labels of a source
    assert dock.session.opened.output("mask", "target") is None
    qtbot.waitUntil(lambda: texts(naming.table, 1) == ["35.0%", "32.5%", "32.5%"], timeout=240_000)
    assert texts(naming.table, 2) == ["", "", ""]
    assert not naming.use.isEnabled()
    assert "No cluster has a name yet" in naming.summary.text()


def test_a_cluster_is_named_by_keys(qtbot, dock):
    table = dock.data.naming.table
    qtbot.keyClick(table, Qt.Key.Key_Return)  # no cluster is current yet
    assert texts(table, 2) == ["", "", ""]
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Space):
        qtbot.keyClick(table, key)
    assert texts(table, 2) == ["", "mitochondria", ""]
    qtbot.keyClick(table, Qt.Key.Key_Return)
    assert texts(table, 2) == ["", "", ""]


def test_a_row_names_a_cluster_and_takes_the_name_away(dock, clustered):
    naming = dock.data.naming
    folder = clustered.folder
    naming.table.cellClicked.emit(1, 0)
    naming.table.cellClicked.emit(2, 0)
    assert texts(naming.table, 2) == ["", "mitochondria", "mitochondria"]
    assert Project.open(folder).run("001-iic").cluster_names() == {
        2: "mitochondria",
        3: "mitochondria",
    }
    mask = dock.session.opened.output("mask", "target")
    assert np.array_equal(mask.data[0, 0], [0] * 14 + [1] * 26)
    naming.name.setCurrentText("vesicles")
    naming.toggle(3)
    assert dock.session.opened.output("mask", "target") is mask  # brought up to date in place
    assert np.array_equal(mask.data[0, 0], [0] * 14 + [1] * 13 + [2] * 13)
    naming.toggle(3)
    naming.name.setCurrentText("mitochondria")
    naming.toggle(2)
    assert dock.session.opened.output("mask", "target") is None
    assert Project.open(folder).run("001-iic").cluster_names() == {}


def test_a_named_cluster_has_the_colour_of_its_class_and_the_others_step_back(dock):
    naming = dock.data.naming
    layer = dock.session.opened.output("clusters", "target")
    before = dict(layer.colormap.color_dict)
    assert all(before[k][3] == 1 for k in (1, 2, 3))
    naming.toggle(1)
    naming.name.setCurrentText("vesicles")
    naming.toggle(2)
    mask = dock.session.opened.output("mask", "target").colormap.color_dict
    colours = layer.colormap.color_dict
    assert np.allclose(colours[1], mask[1])
    assert np.allclose(colours[2], mask[2])
    assert np.allclose(colours[3][:3], before[3][:3])
    assert colours[3][3] < 0.6
    swatch = naming.table.item(0, 0).data(Qt.ItemDataRole.DecorationRole).toImage().pixelColor(5, 5)
    # A screen of 16 bits has 32 levels of a colour.
    assert np.allclose(swatch.getRgbF()[:3], mask[1][:3], atol=1 / 31)
    naming.toggle(2)
    naming.name.setCurrentText("mitochondria")
    naming.toggle(1)
    assert all(np.allclose(layer.colormap.color_dict[k], before[k]) for k in before)


def test_the_clusters_of_the_list_are_those_on_view(dock, clustered):
    first = dock.session.opened.output("clusters", "target")
    dock.data.naming.toggle(1)
    dock.session.viewer.layers.remove(first)
    dock.data.naming.start_job()  # though the mask that is made of them is still there
    assert dock.session.opened.output("clusters", "target").metadata == {"run": "001-iic"}
    folder = clustered.folder / "runs"
    shutil.copytree(folder / "001-iic", folder / "002-iic")
    (folder / "002-iic" / "names.json").unlink()
    # A command line has trained another run, which is at the top now.
    dock.session.project_changed.emit()
    naming = dock.data.naming
    assert dock.session.opened.output("clusters", "target").metadata == {"run": "002-iic"}
    assert dock.session.opened.output("mask", "target") is None
    naming.run.setCurrentText("001-iic")
    assert dock.session.opened.output("clusters", "target").metadata == {"run": "001-iic"}
    assert dock.session.opened.output("mask", "target").data[0, 0, 0] == 1


def test_escape_stops_picking(dock):
    naming = dock.data.naming
    naming.pick.click()
    assert naming.pick.isChecked()
    dock.annotate.commands["escape"]()
    assert not naming.pick.isChecked()


def test_a_name_is_taken_back_and_given_again(dock):
    naming = dock.data.naming
    layer = dock.session.opened.output("clusters", "target")
    before = dict(layer.colormap.color_dict)
    naming.toggle(1)
    named = dict(layer.colormap.color_dict)
    dock.annotate.commands["undo"]()
    assert all(np.allclose(layer.colormap.color_dict[k], before[k]) for k in before)
    assert "No cluster has a name yet" in naming.summary.text()
    dock.annotate.commands["redo"]()
    assert all(np.allclose(layer.colormap.color_dict[k], named[k]) for k in named)
    assert naming.summary.text().startswith("mitochondria: 1 cluster")


def test_sections_are_read_again_only_when_they_have_changed(dock):
    view = dock.session.opened.output("clusters", "target").data
    before = view[1]
    view.probabilities = np.asarray(view.probabilities)[::-1]
    assert np.array_equal(view[1], before)
    dock.predict._redraw(dock.session.opened, "target")
    assert np.array_equal(view[1], 4 - before)


def test_before_clusters_are_found_the_dock_says_how(dock, clustered):
    shutil.rmtree(clustered.folder / "runs" / "001-iic" / "probabilities.zarr")
    dock.session.project_changed.emit()
    assert "Press Show clusters" in dock.data.naming.summary.text()
    assert dock.data.naming.table.isHidden()


def test_all_of_a_few_clusters_are_in_the_list_without_scrolling(dock):
    table = dock.data.naming.table
    assert table.rowCount() == 3
    assert 3 * table.rowHeight(0) < table.height() < 6 * table.rowHeight(0)


def test_named_clusters_start_the_annotation_loop(qtbot, dock, clustered):
    naming = dock.data.naming
    naming.toggle(2)
    assert naming.use.isEnabled()
    jobs = []
    dock.session.runner.started.connect(jobs.append)
    naming.use_as_labels()
    qtbot.waitUntil(lambda: dock.session.runner.job is None, timeout=240_000)
    assert isinstance(jobs[0], SuggestJob)
    assert (jobs[0].run, jobs[0].volume, jobs[0].settings.patch) == ("001-iic", "target", 40)
    assert dock.drawers["Annotate"].isExpanded()
    assert not dock.drawers["Data"].isExpanded()  # which would push it out of sight
    assert "random" in dock.annotate.list.item(0).text()
    region = clustered.regions.all()[0]
    assert region.state == "suggested"
    proposal = dock.annotate.patches.paint.proposal(region.model_copy(update={"run": "001-iic"}))
    box = region.voxels
    assert np.array_equal(proposal > 0, np.broadcast_to(middle_third()[box.slices[2]], box.shape))
    assert (
        clustered.annotations.open("target") is None
        or not clustered.annotations.open("target")[:].any()
    )


def middle_third():
    return (np.arange(40) >= 14) & (np.arange(40) < 27)


def test_other_things_to_do_with_clusters_are_jobs(qtbot, dock, tmp_path):
    naming = dock.data.naming
    jobs = []
    dock.session.runner.started.connect(jobs.append)
    naming.toggle(1)
    naming.start_job()
    qtbot.waitUntil(lambda: dock.session.runner.job is None, timeout=240_000)
    naming.write_mask(dock.session.opened, tmp_path / "mask.tif")
    qtbot.waitUntil(lambda: dock.session.runner.job is None, timeout=240_000)
    predicted, exported = jobs
    assert isinstance(predicted, PredictJob)
    assert isinstance(exported, ExportJob)
    assert (exported.what, exported.to, exported.run) == (
        "mask",
        str(tmp_path / "mask.tif"),
        "001-iic",
    )


def test_a_run_that_predicts_classes_is_not_offered(dock, clustered):
    run = clustered.folder / "runs" / "002-finetune"
    run.mkdir()
    (run / "checkpoint.safetensors").touch()
    (run / "job.json").write_text(
        TrainJob(project=str(clustered.folder), method="finetune").model_dump_json()
    )
    dock.session.project_changed.emit()
    assert [dock.data.naming.run.itemText(i) for i in range(dock.data.naming.run.count())] == [
        "001-iic"
    ]


def test_a_training_shows_its_clusters_as_they_are_now(dock, tmp_path):
    values = np.zeros((3, 48, 40), np.uint8)
    values[2, :, 20:] = 250
    values[0, :, :20] = 250
    np.save(tmp_path / "preview.npy", values)
    names = ("cluster 1", "cluster 2", "cluster 3")
    for step in (1, 2):
        show_preview(
            dock.session.opened,
            Preview(step, "target", (1, 2, 0, 48, 0, 40), str(tmp_path / "preview.npy"), names),
        )
    assert not dock.session.opened.output("clusters", "target").visible  # of an earlier model
    layer = dock.session.opened.output("preview", "target")
    assert isinstance(layer, Labels)
    assert np.array_equal(layer.data[0, 0], [1] * 20 + [3] * 20)


def test_a_project_opens_with_the_newest_clusters_and_the_mask_of_the_newest_classes_alone(
    dock, clustered, qtbot
):
    dock.data.naming.toggle(1)
    folder = clustered.folder / "runs"
    shutil.copytree(folder / "001-iic", folder / "002-iic")
    (folder / "002-iic" / "names.json").unlink()
    dock.session.adopt(clustered)
    clusters, mask = (dock.session.opened.output(role, "target") for role in ("clusters", "mask"))
    assert (clusters.metadata["run"], mask.metadata["run"]) == ("002-iic", "001-iic")
    assert (clusters.visible, mask.visible) == (False, True)


def test_a_prediction_is_shown_without_that_of_another_model(qtbot, dock, clustered):
    dock.data.naming.toggle(1)
    shutil.copytree(clustered.folder / "runs" / "001-iic", clustered.folder / "runs" / "002-iic")
    (clustered.folder / "runs" / "002-iic" / "names.json").unlink()
    for run, masked in (("002-iic", False), ("001-iic", True)):
        dock.session.start(PredictJob(project=str(clustered.folder), run=run, volume="target"))
        qtbot.waitUntil(lambda: dock.session.runner.job is None, timeout=240_000)
        assert dock.session.opened.output("clusters", "target").metadata == {"run": run}
        mask = dock.session.opened.output("mask", "target")
        assert (mask is not None and mask.visible) is masked


def test_without_labels_features_can_be_learnt_to_start_from(clustered):
    features = Choice("denoising", requirements=Requirements(labels="optional"))
    assert features.missing(clustered) == ""
    classes = replace(features, requirements=Requirements(labels="needed"))
    assert "import existing labels" in classes.missing(clustered)
    clusters = Choice("iic", requirements=Requirements(labels="unused"))
    assert not Catalogue({"iic": clusters}, {}, {}).learns_classes(clustered, "001-iic")

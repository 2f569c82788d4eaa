"""The layers of a project in the viewer: order, names, removed ones, and where the sliders end."""

import shutil

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.layers._source import layer_source
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_emda._gui.annotate.overlays import Overlays
from napari_emda._gui.common.sliders import SliderRange
from napari_emda._gui.dock import Dock
from napari_emda._gui.predict.layers import show_classes
from napari_emda._gui.session import Session
from napari_emda._gui.train.live_preview import show_preview
from napari_emda.events import Preview
from napari_emda.project.project import Project
from tests.gui.fake import fake_command, methods_command

ROLES = ["probability", "clusters", "mask", "preview", "uncertainty", "patches", "annotations"]


@pytest.fixture
def dock(qtbot):
    new_dock = Dock(ViewerModel(), fake_command(), methods_command())
    qtbot.addWidget(new_dock)
    qtbot.waitUntil(lambda: new_dock.session.catalogue is not None, timeout=240_000)
    yield new_dock
    new_dock.shut_down()


def picture(shape=(5, 48, 40), **options):
    return Image(np.zeros(shape, np.uint8), **options)


@pytest.mark.parametrize("seed", range(5))
def test_outputs_lie_in_one_order_whichever_comes_first(session, project, seed):
    session.adopt(project)
    opened = session.opened
    for role in np.random.default_rng(seed).permutation(ROLES):
        opened.add_output(str(role), "target", picture(name=opened.called(str(role), "target")))
    names = [layer.name for layer in session.viewer.layers]
    assert names[-len(ROLES) :] == [f"emda: {role}" for role in ROLES]


def test_a_patch_brings_the_outputs_above_an_image_that_was_moved_up(session, project):
    session.adopt(project)
    opened = session.opened
    for role in ("annotations", "mask"):
        opened.add_output(role, "target", picture(name=role))
    layers = session.viewer.layers
    layers.move(layers.index("target"), len(layers))
    opened.uncover("target")
    assert [layer.name for layer in layers][-3:] == ["target", "mask", "annotations"]


def test_no_other_volume_lies_over_the_one_that_is_painted(session, project):
    session.adopt(project)
    layers = session.viewer.layers
    layers.move(layers.index("source"), len(layers))
    layers["source"].visible = True
    layers["target"].visible = False
    session.opened.uncover("target")
    assert (layers["source"].visible, layers["target"].visible) == (False, True)


# -- one layer for all classes ---------------------------------------------------------------------


@pytest.fixture
def many_classes(tmp_path, arrays):
    project = Project.create(tmp_path / "many", ("background", *"abcdefgh"))
    path = project.volumes.store("target", arrays[0])
    project.volumes.add(path, "target", name="target", spacing=(50.0, 4.6, 4.6))
    yield project
    project.close()


def test_a_preview_of_many_classes_is_one_layer_in_their_colours(session, many_classes, tmp_path):
    session.adopt(many_classes)
    values = np.zeros((8, 48, 40), np.uint8)
    values[0, :, :20] = 200
    values[4, :, 20:] = 100
    np.save(tmp_path / "preview.npy", values)
    before = len(session.viewer.layers)
    event = Preview(1, "target", (1, 2, 0, 48, 0, 40), str(tmp_path / "preview.npy"), ())
    show_preview(session.opened, event)
    assert len(session.viewer.layers) == before + 1
    section = session.opened.output("preview", "target").data[0]
    assert set(map(tuple, section[:, :20].reshape(-1, 4).tolist())).pop()[3] == 200
    assert len({tuple(pixel) for pixel in section.reshape(-1, 4).tolist()}) == 2


def test_the_probabilities_of_all_classes_are_one_hidden_layer(session, predicted):
    session.adopt(predicted)
    show_classes(session.opened, "001-fake", "target")
    probability = session.opened.output("probability", "target")
    assert not probability.visible
    assert probability.rgb and probability.data.shape == (5, 48, 40, 4)
    assert probability.data[2, 4, 4, 3] == 230
    assert probability.data[2, 30, 30, 3] == 0
    np.testing.assert_array_equal(
        np.asarray(probability.data)[:, ::-2, 3], probability.data[:, ::-2, 3]
    )


def test_the_mask_is_outlined_where_paint_is_filled_and_the_reverse(session, predicted):
    session.adopt(predicted)
    opened = session.opened
    show_classes(opened, "001-fake", "target")
    mask = opened.output("mask", "target")
    paint = opened.add_output("annotations", "target", Labels(np.zeros((5, 48, 40), np.uint8)))
    overlays = Overlays(opened)
    assert (mask.contour > 0, paint.contour > 0) == (True, False)
    overlays.toggle_outlines("target")
    assert (mask.contour > 0, paint.contour > 0) == (False, True)
    show_classes(opened, "001-fake", "target")  # a new layer keeps to it
    assert opened.output("mask", "target").contour == 0
    overlays.toggle_outlines("target")
    assert (opened.output("mask", "target").contour > 0, paint.contour > 0) == (True, False)


# -- removed layers --------------------------------------------------------------------------------


def test_a_removed_volume_comes_back_by_one_click(dock, predicted):
    dock.session.adopt(predicted)
    layers = dock.session.viewer.layers
    placed = tuple(layers["target"].scale), tuple(layers["target"].translate)
    assert dock.missing.isHidden()
    layers["target"].name = "renamed"
    layers.remove("renamed")
    assert not dock.missing.isHidden()
    assert "The layer of 'target' was removed" in dock.missing.sentence.text()
    assert not layers["source"].visible
    QTest.mouseClick(dock.missing.show_again, Qt.MouseButton.LeftButton)
    assert dock.missing.isHidden()
    assert (tuple(layers["target"].scale), tuple(layers["target"].translate)) == placed
    assert layers["target"].visible
    assert layers.index("target") < layers.index("emda: mask")


def test_going_to_a_patch_brings_its_volume_back(dock, predicted):
    predicted.regions.suggest(
        [{"volume": "target", "box": "1:2,0:16,0:16", "score": 0.9}], "entropy", "001-fake"
    )
    dock.session.adopt(predicted)
    dock.annotate.patches.leave()
    layers = dock.session.viewer.layers
    layers.remove("target")
    dock.annotate.commands["next"]()
    assert layers["target"].visible and not layers["source"].visible
    assert dock.missing.isHidden()


def test_opening_the_open_project_again_brings_all_volumes_back(dock, predicted):
    dock.session.adopt(predicted)
    layers = dock.session.viewer.layers
    for name in ("target", "source"):
        layers.remove(name)
    dock.data.open_project(predicted.folder)
    assert "target" in layers and "source" in layers
    assert "is open already" in dock.notices.text()


def drop(viewer, path):
    """What napari does with a dropped TIFF; a test with a real window drops one."""
    with layer_source(path=str(path)):
        viewer.add_layer(Image(tifffile.imread(path), name="dropped"))


def test_the_file_of_a_removed_volume_gets_its_place_when_it_is_dropped(session, tmp_path, arrays):
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, arrays[0])
    with Project.create(tmp_path / "project", ("background", "cells")) as project:
        project.volumes.add(path, "target", name="cells", spacing=(50.0, 4.6, 4.6))
        session.adopt(project)
        viewer = session.viewer
        viewer.layers.remove("cells")
        drop(viewer, path)
        (layer,) = viewer.layers
        assert tuple(layer.scale) == (50, 4.6, 4.6)
        assert {str(unit) for unit in layer.units} == {"nanometer"}
        assert session.opened.image("cells") is layer
        assert session.opened.missing == []
        drop(viewer, path)  # once more: placed, but it takes nobody's place
        assert tuple(viewer.layers[1].scale) == (50, 4.6, 4.6)
        assert session.opened.image("cells") is layer


def test_dropped_labels_lie_on_their_image(session, tmp_path, arrays):
    paths = [tmp_path / name for name in ("image.tif", "labels.tif")]
    for path, values in zip(paths, arrays, strict=True):
        tifffile.imwrite(path, values)
    with Project.create(tmp_path / "project", ("background", "cells")) as project:
        project.volumes.add(paths[0], "source", labels=paths[1], name="a", spacing=(50.0, 4.6, 4.6))
        session.adopt(project)
        drop(session.viewer, paths[1])
        assert tuple(session.viewer.layers[-1].scale) == (50, 4.6, 4.6)
        assert session.opened.missing == []


def test_reopening_the_dock_doubles_no_layers(session, predicted):
    session.adopt(predicted)
    show_classes(session.opened, "001-fake", "target")
    viewer = session.viewer
    viewer.layers["target"].name = "renamed"
    names = [layer.name for layer in viewer.layers]
    session.close()
    assert not any(name.startswith("emda: ") for name in (layer.name for layer in viewer.layers))
    other = Session(viewer, fake_command())
    other.adopt(Project.open(predicted.folder, exclusive=True))
    show_classes(other.opened, "001-fake", "target")
    assert [layer.name for layer in viewer.layers] == names
    assert other.opened.image("target").name == "renamed"
    other.close()


def test_a_copied_project_has_layers_of_its_own(session, predicted, tmp_path):
    session.adopt(predicted)
    first = session.opened.image("target")
    shutil.copytree(predicted.folder, tmp_path / "copy")
    session.adopt(Project.open(tmp_path / "copy", exclusive=True))
    assert session.opened.image("target") is not first


# -- sliders ---------------------------------------------------------------------------------------


@pytest.fixture
def long_source(tmp_path, arrays):
    """A source of 40 thin sections beside a target of five thick ones."""
    project = Project.create(tmp_path / "long", ("background", "cells"))
    image, labels = arrays
    source = project.volumes.store("source", np.resize(image, (40, 48, 40)))
    mask = project.volumes.store("source-labels", np.resize(labels, (40, 48, 40)))
    project.volumes.add(source, "source", labels=mask, name="source", spacing=(10.0, 4.0, 4.0))
    target = project.volumes.store("target", image)
    project.volumes.add(target, "target", name="target", spacing=(50.0, 4.6, 4.6))
    yield project
    project.close()


def test_the_slider_has_the_sections_of_the_target_alone(session, long_source):
    session.adopt(long_source)
    dims = session.viewer.dims
    assert dims.nsteps[0] == 5
    assert (dims.range[0].start, dims.range[0].stop) == (0, 200)
    session.viewer.layers["source"].visible = True
    assert dims.nsteps[0] == 40
    dims.set_point(0, 390)
    session.viewer.layers["source"].visible = False
    assert dims.nsteps[0] == 5
    assert dims.point[0] == 200
    # An output changes nothing, and neither does hiding all.
    session.opened.add_output("preview", "target", picture((1, 48, 40), scale=(50, 4.6, 4.6)))
    session.viewer.layers["target"].visible = False
    assert dims.nsteps[0] == 5
    session.close()
    assert dims.nsteps[0] == 40


def test_sliders_in_another_unit_than_the_visible_layer(session, long_source):
    session.adopt(long_source)
    session.viewer.add_layer(picture(scale=(0.05, 0.0046, 0.0046), units=("um",) * 3, name="um"))
    session.viewer.layers["target"].visible = False
    assert session.viewer.dims.range[0].stop == pytest.approx(200)


def test_a_viewer_without_layers_keeps_its_sliders(session):
    before = session.viewer.dims.range
    SliderRange(session.viewer, list).update()
    assert session.viewer.dims.range == before

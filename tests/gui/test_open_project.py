"""What the dock holds of a project while it is open, and gives back when another one comes."""

import warnings

import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.layers._source import layer_source

from napari_emda._gui.common.adapters import Placement
from napari_emda._gui.common.layer_volumes import sizes_of
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import JobError
from napari_emda.io.tiff import write_tiff
from napari_emda.project.project import Project


@pytest.fixture
def opened(session, project):
    session.adopt(project)
    return session.opened


def picture(shape=(5, 48, 40), name="ours"):
    return Image(np.zeros(shape, np.uint8), name=name)


def test_each_project_has_an_object_of_its_own(session, opened, tmp_path):
    heard = []
    session.project_opened.connect(heard.append)
    opened.add_output("mask", "target", picture())
    opened.annotating = True
    session.mask.threshold = 0.7
    session.adopt(Project.create(tmp_path / "other", ("background", "cells")))
    assert heard == [session.opened]
    assert session.opened is not opened
    assert not session.opened.annotating
    assert session.opened.mask.threshold == 0.7  # the user's choice outlives a project
    assert list(session.viewer.layers) == []  # they would lie over those of the other project
    assert session.opened.volumes == []
    with pytest.raises(JobError, match="no target"):
        _ = session.opened.target
    Project.open(opened.project.folder, exclusive=True).close()  # was given back


def test_closing_takes_the_project_away(session, opened):
    folder = opened.project.folder
    session.close()
    assert session.opened is None
    Project.open(folder, exclusive=True).close()


def test_an_output_takes_the_place_of_the_one_with_its_role(session, opened):
    first = opened.add_output("mask", "target", picture())
    active = session.viewer.layers["target"]
    session.viewer.layers.selection.active = active
    second = opened.add_output("mask", "target", picture())
    assert first not in session.viewer.layers
    assert opened.output("mask", "target") is second
    assert opened.output("mask", "source") is None
    assert session.viewer.layers.selection.active is active
    assert opened.is_output(second) and not opened.is_output(active)
    assert session.is_output(second) and not opened.is_volume(second)


def test_an_output_is_registered_before_the_viewer_emits_its_event(session, opened):
    registered = []
    session.viewer.layers.events.inserted.connect(
        lambda event: registered.append(session.is_output(event.value))
    )
    opened.add_output("mask", "target", picture())
    assert registered == [True]


def test_a_removed_output_is_forgotten_and_a_removed_volume_takes_its_previews_along(
    session, opened
):
    opened.add_output("mask", "target", picture(name="mask"))
    opened.add_output("preview", "target", picture(name="preview"))
    session.viewer.layers.remove("mask")
    assert opened.output("mask", "target") is None
    session.viewer.layers["source"].visible = False
    session.viewer.layers.remove("target")
    assert opened.image("target") is None
    assert "preview" not in session.viewer.layers
    assert not session.viewer.layers["source"].visible  # it is no picture of the target


def test_shown_lists_visible_outputs_only(opened):
    mask = opened.add_output("mask", "target", picture())
    labels = Labels(np.zeros((5, 48, 40), np.uint8), visible=False)
    opened.add_output("clusters", "target", labels)
    other = opened.add_output("mask", "source", picture())
    assert opened.shown() == [mask, other]
    assert opened.shown(["clusters"]) == []
    opened.show_only("target")
    assert opened.shown() == [mask]


def test_a_whole_section_comes_on_view(session, opened):
    opened.show_section("target", 3)
    assert session.viewer.dims.point[0] == pytest.approx(3 * 50)
    middle = [(n - 1) / 2 * 4.6 for n in opened.shape("target")[1:]]
    assert session.viewer.scene.camera.center[1:] == pytest.approx(middle)
    opened.show_section("source")  # by default the one at which the viewer is
    assert session.viewer.dims.point[0] == pytest.approx(3 * 50)
    assert opened.section_on_view("target").bounds == (3, 4, 0, 48, 0, 40)


def test_targets_and_newest_runs_come_first(opened):
    assert opened.volumes == ["target", "source"]
    assert opened.runs == []
    for run in ("001-a", "002-b"):
        folder = opened.project.folder / "runs" / run
        folder.mkdir(parents=True)
        (folder / "checkpoint.safetensors").touch()
    assert opened.runs == ["002-b", "001-a"]


def test_layers_of_the_user_stay_hidden_when_another_project_comes(
    session, project, arrays, tmp_path
):
    theirs = session.viewer.add_image(arrays[0], name="theirs")
    labels = session.viewer.add_labels(arrays[1], name="drawn")
    session.adopt(project, {"source": theirs}, {"source": labels})
    names = [layer.name for layer in session.viewer.layers]
    assert names == ["theirs", "drawn", "target"]  # shown once, as they were
    session.adopt(Project.create(tmp_path / "other", ("background", "cells")))
    assert [layer.name for layer in session.viewer.layers] == ["theirs", "drawn"]
    assert not theirs.visible and not labels.visible


def test_image_labels_and_outputs_lie_on_one_grid_in_nanometres(session, project, arrays):
    image = session.viewer.add_image(arrays[0], name="theirs")
    labels = session.viewer.add_labels(arrays[1], name="drawn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.adopt(project, {"source": image}, {"source": labels})
    for layer in session.viewer.layers:
        assert layer.scale.tolist() == [50, 4.6, 4.6]
        assert [str(unit) for unit in layer.units] == ["nanometer"] * 3
    assert session.viewer.dims.nsteps[0] == 5
    assert labels.data is arrays[1]


@pytest.mark.parametrize("kind", ["x first", "time of one", "grey as colour", "in the affine"])
def test_a_layer_with_other_axes_is_replaced_by_one_on_which_outputs_can_lie(
    session, project, arrays, kind
):
    layers = {
        "x first": Image(arrays[0].T, axis_labels=("x", "y", "z"), name="theirs"),
        "time of one": Image(arrays[0][None, None], name="theirs"),
        "grey as colour": Image(np.stack([arrays[0]] * 3, -1), rgb=True, name="theirs"),
        "in the affine": Image(arrays[0], affine=np.diag([40, 4, 5, 1.0]), name="theirs"),
    }
    theirs = session.viewer.add_layer(layers[kind])
    session.adopt(project, {"target": theirs})
    shown = session.opened.image("target")
    assert shown.name == "theirs"
    assert (shown is theirs) == (kind == "in the affine")
    assert shown.extent.world[1].tolist() == pytest.approx([4 * 50, 47 * 4.6, 39 * 4.6])
    assert np.array_equal(np.asarray(shown.data), arrays[0])
    assert [layer.name for layer in session.viewer.layers].count("theirs") == 1
    assert session.viewer.dims.ndim == 3


def test_a_layer_without_a_voxel_size_lies_beside_the_volumes_and_its_size_stays_unknown(
    session, project, arrays
):
    early = session.viewer.add_image(arrays[0], name="early")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.adopt(project)
        late = session.viewer.add_labels(arrays[1], name="late")
        session.viewer.dims.set_point(0, 100)
    for layer in (early, late):
        assert layer.scale.tolist() == [50, 4.6, 4.6]
        assert sizes_of(layer) == (None, None, None)
    assert session.viewer.dims.nsteps[0] == 5
    # Once the size is stated, it is the layer's.
    Placement.of(late, (20, 5, 5)).apply(late)
    assert sizes_of(late) == (20, 5, 5)


def test_the_size_in_a_file_is_known_although_the_layer_lies_at_another(
    session, project, arrays, tmp_path
):
    path = tmp_path / "other.tif"
    write_tiff(path, arrays[0], arrays[0].shape, arrays[0].dtype, VoxelGrid((30, 8, 8)))
    session.adopt(project)
    with layer_source(path=str(path)):
        layer = session.viewer.add_image(arrays[0], name="other")
    assert sizes_of(layer) == (30, 8, 8)
    entry = project.volumes.add(path, "target", name="other")
    session.opened.show_volume(entry, layer)
    assert layer.scale.tolist() == [30, 8, 8]


def test_files_that_napari_has_read_already_are_not_shown_twice(session, project):
    """The user drops the files, and opens the project of them afterwards."""
    entry = project.volumes.target()
    with layer_source(path=str(project.folder / entry.image)):
        mine = session.viewer.add_image(np.zeros((4, 96, 96), np.uint8), name="mine")
    session.adopt(project)
    assert session.opened.image("target") is mine
    assert [layer.name for layer in session.viewer.layers].count("target") == 0
    assert session.opened.image("source") is not mine
    assert session.viewer.layers.selection.active is mine


def test_of_several_layers_of_one_file_none_is_taken_for_the_volume(session, project):
    entry = project.volumes.target()
    for name in ("channel 0", "channel 1"):
        with layer_source(path=str(project.folder / entry.image)):
            session.viewer.add_image(np.zeros((4, 96, 96), np.uint8), name=name)
    session.adopt(project)
    assert session.opened.image("target").name == "target"

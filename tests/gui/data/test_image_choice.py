"""The choice of a channel, time or scene where a layer or its file has several."""

import threading

import h5py
import numpy as np
import pytest
import tifffile
from napari.layers._source import layer_source
from napari_builtins.io import napari_get_reader
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_emda._gui.common.layer_images import images_of
from napari_emda._gui.common.layer_volumes import array_of, path_of, refusal, spacing_of
from napari_emda._gui.data.image_choice import ImageChoice
from napari_emda._gui.data.panel import DataPanel
from napari_emda._gui.readers import read_layers
from napari_emda.io.read import open_image

VALUES = np.random.default_rng(0).integers(0, 250, (2, 3, 5, 33, 41), dtype=np.uint8)
SIZE = {"PhysicalSizeZ": 40, "PhysicalSizeY": 4, "PhysicalSizeX": 4}
NM = SIZE | {f"{key}Unit": "nm" for key in SIZE}


@pytest.fixture
def choice(qtbot, session):
    new_choice = ImageChoice(session, threading.Event())
    qtbot.addWidget(new_choice)
    return new_choice


def add_file(session, path, reader=None):
    """Add what napari's own reader, or another one, makes of a file."""
    with layer_source(path=str(path)):
        layers = [
            session.viewer._add_layer_from_data(*data)
            for data in (reader or napari_get_reader(str(path)))(str(path))
        ]
    return layers[0][0]


def press(choice):
    QTest.mouseClick(choice.open, Qt.MouseButton.LeftButton)


def test_a_channel_and_time_of_a_file_become_a_layer_that_a_project_refers_to(
    qtbot, session, choice, tmp_path
):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, VALUES, ome=True, metadata={"axes": "TCZYX", **NM})
    layer = add_file(session, path)
    assert "open one of its channels or times in the panel Data" in refusal(layer)
    qtbot.waitUntil(choice.isVisible, timeout=5_000)
    assert choice.sentence.text().startswith("'Image' holds 2 times and 3 channels")
    choice.boxes["time"].setValue(1)
    choice.boxes["channel"].setValue(2)
    press(choice)
    new = session.viewer.layers[-1]
    assert new is not layer and not layer.visible
    np.testing.assert_array_equal(np.asarray(new.data), VALUES[1, 2])
    assert spacing_of(new) == (40, 4, 4)
    np.testing.assert_array_equal(open_image(path_of(new)).array[:], VALUES[1, 2])
    # Once is enough.
    count = len(session.viewer.layers)
    press(choice)
    assert len(session.viewer.layers) == count
    assert "is the layer 'a_time1_channel2'" in session.notices[-1][1]


@pytest.mark.parametrize(
    ("names", "boxes", "expected"),
    [
        # Without names, the last of the long axes holds the sections.
        (None, {"axis0": 1, "axis1": 2}, VALUES[1, 2]),
        (("t", "z", "c", "y", "x"), {"time": 1, "channel": 4}, VALUES[1, :, 4]),
        (("z", "y", "c", "t", "x"), {"channel": 3, "time": 32}, VALUES[:, :, 3, 32]),
    ],
)
@pytest.mark.parametrize("kind", ["image", "labels"])
def test_a_layer_in_memory_keeps_its_place(qtbot, session, choice, names, boxes, expected, kind):
    # As many axes and voxels, whatever they are called; of x and y, a small part.
    layer = getattr(session.viewer, f"add_{kind}")(
        VALUES, name="v", scale=(1, 1, 50, 4, 4), translate=(0, 0, 100, 8, 8), axis_labels=names
    )
    qtbot.waitUntil(choice.isVisible, timeout=5_000)
    for word, position in boxes.items():
        choice.boxes[word].setValue(position)
    press(choice)
    new = session.viewer.layers[-1]
    assert type(new) is type(layer)
    np.testing.assert_array_equal(np.asarray(new.data), expected)
    assert path_of(new) is None and refusal(new) is None
    if names is None:
        counts = "2 positions along axis0 and 3 positions along axis1"
        assert choice.sentence.text().startswith(f"'v' holds {counts}: choose")
        np.testing.assert_allclose(new.scale, (50, 4, 4))
        np.testing.assert_allclose(new.translate, (100, 8, 8))


def test_a_scene_of_a_file_whose_first_scene_is_on_view(qtbot, session, choice, tmp_path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for scene in VALUES[0]:
            writer.write(scene, metadata={"axes": "ZYX"})
    add_file(session, path)
    qtbot.waitUntil(choice.isVisible, timeout=5_000)
    choice.boxes["image"].setCurrentText("scene=2")
    press(choice)
    np.testing.assert_array_equal(np.asarray(session.viewer.layers[-1].data), VALUES[0, 2])


def test_an_image_of_a_file_that_has_channels_in_turn(qtbot, session, choice, tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for number in range(9):
            file[f"raw/{number}"] = VALUES[0]
            for dimension, name in zip(file[f"raw/{number}"].dims, "czyx", strict=True):
                dimension.label = name
    add_file(session, path, read_layers)
    qtbot.waitUntil(choice.isVisible, timeout=5_000)
    choice.boxes["image"].setCurrentText("raw/7")
    press(choice)
    choice.boxes["channel"].setValue(2)
    press(choice)
    assert path_of(session.viewer.layers[-1]) == tmp_path / "a.h5:/raw/7?channel=2"


def test_what_is_one_image_is_not_asked_about(session, tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, VALUES[0], ome=True, metadata={"axes": "CZYX"})
    colours = session.viewer.add_image(np.zeros((5, 33, 41, 3), np.uint8), rgb=True)
    with layer_source(path=str(path)):
        # As readers do that make a layer of each channel.
        channel = session.viewer.add_image(VALUES[0, 1])
    volume = session.viewer.add_image(VALUES[:1, :1])
    assert images_of(colours) is images_of(channel) is images_of(volume) is None
    assert array_of(volume).shape == VALUES.shape[2:]


def test_channels_that_napari_shows_as_sections_are_asked_about(session, tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, VALUES[0, :, 0], ome=True, metadata={"axes": "CYX"})
    assert images_of(add_file(session, path)).question.axes == {"c": 3}


def test_an_image_that_is_opened_becomes_the_target_unless_another_was_chosen(
    qtbot, session, tmp_path
):
    panel = DataPanel(session)
    qtbot.addWidget(panel)
    panel.show()
    other = session.viewer.add_image(VALUES[0, 0], name="other")
    session.viewer.add_image(VALUES[0], name="channels")
    qtbot.waitUntil(panel.images.isVisible, timeout=5_000)
    assert panel.target.layer() is other
    press(panel.images)
    assert panel.target.layer() is session.viewer.layers[-1]
    panel.target.choose(other)
    panel.images.boxes["axis0"].setValue(1)
    press(panel.images)
    assert panel.target.layer() is other

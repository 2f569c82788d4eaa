"""What napari's menu of layers makes of the layers of the dock: copies that never write to disk."""

import copy

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from napari.layers._layer_actions import (
    _convert_dtype,
    _convert_to_image,
    _convert_to_labels,
    _duplicate_layer,
    _split_stack,
)

from napari_emda._gui.predict.layers import show_classes
from napari_emda._gui.session import Session
from napari_emda.data.lazy import SectionStack
from napari_emda.project.project import Project
from tests.gui.annotate.test_patches import on_disk
from tests.gui.conftest import SHAPE, SPACING
from tests.gui.fake import fake_command
from tests.gui.suggested import with_suggestions


@pytest.fixture
def patches(session, predicted):
    new_patches = with_suggestions(session, predicted)
    session.viewer.layers.events.removed.connect(
        lambda event: new_patches.layer_removed(event.value)
    )
    show_classes(session.opened, "001-fake", "target")
    new_patches.next()
    return new_patches


def chosen(session, role, volume="target"):
    """Select an output, or with no role the image of a volume, as before opening the menu."""
    opened = session.opened
    layer = opened.output(role, volume) if role else opened.image(volume)
    layers = session.viewer.layers
    layers.selection = {layer}
    return layers


@pytest.mark.parametrize("role", ["annotations", "mask"])
def test_a_copy_can_be_painted_and_writes_nothing(session, patches, role):
    before = on_disk(patches)
    layers = chosen(session, role)
    shown = np.asarray(layers.selection.active.data[:])
    _duplicate_layer(layers)
    copy = next(layer for layer in layers if layer.name.endswith(" copy"))
    assert np.array_equal(copy.data, shown)
    assert copy.editable
    copy.paint((1, 14, 14), 2)
    assert copy.data[1, 14, 14] == 2
    assert np.array_equal(on_disk(patches), before)


def test_annotations_that_were_converted_and_back_write_nothing(session, patches):
    patches.paint.tools.allow_outside(True)
    before = on_disk(patches)
    layers = chosen(session, "annotations")
    draft = layers.selection.active.data
    _convert_to_image(layers)
    layers.selection = {next(layer for layer in layers if layer.data is draft)}
    _convert_to_labels(layers)
    (back,) = [layer for layer in layers if layer.data is draft]
    assert isinstance(back, Labels)
    assert not back.editable
    back.data_setitem(tuple(np.indices((2, 4, 4)).reshape(3, -1)), 2)
    assert np.array_equal(on_disk(patches), before)
    patches.next()  # shows the annotations again
    patches.paint.layer("target").paint((1, 14, 14), 2)
    assert not np.array_equal(on_disk(patches), before)


@pytest.mark.parametrize("role", ["annotations", "mask"])
def test_the_numbers_of_a_layer_of_the_project_keep_their_type(session, patches, role):
    layers = chosen(session, role)
    layer = layers.selection.active
    before = layer.data
    _convert_dtype(layers, "uint16")
    assert layer.data is before


def test_the_labels_of_the_source_keep_their_type_and_a_copy_changes_it(session, predicted):
    session.adopt(predicted)
    _, labels = session.opened.layers
    layers = session.viewer.layers
    layers.selection = {labels["source"]}
    before = labels["source"].data
    _convert_dtype(layers, "uint16")
    assert labels["source"].data is before
    _duplicate_layer(layers)
    copy = next(layer for layer in layers if layer.name.endswith(" copy"))
    layers.selection = {copy}
    _convert_dtype(layers, "uint16")
    assert copy.data.dtype == np.uint16 and copy.editable
    assert np.array_equal(copy.data, np.asarray(before[:]))


@pytest.fixture
def of_files(session, tmp_path):
    """A project whose target is a TIFF, which is read section by section."""
    path = tmp_path / "target.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8))
    with Project.create(tmp_path / "project", ("background", "cells")) as project:
        project.volumes.add(path, "target", name="target", spacing=SPACING)
    session.adopt(Project.open(tmp_path / "project", exclusive=True))
    return tmp_path / "project"


def test_sections_of_files_are_duplicated_without_reading_them():
    stack = SectionStack(lambda z: pytest.fail("it was read"), SHAPE, np.uint8)
    assert copy.deepcopy(stack) is stack


@pytest.mark.filterwarnings("ignore:projection mode")
def test_labels_made_of_a_volume_cannot_be_painted(session, of_files):
    layers = chosen(session, "")
    _convert_to_labels(layers)
    assert session.opened.missing == ["target"]
    assert not layers[0].editable


@pytest.mark.filterwarnings("ignore:projection mode")
@pytest.mark.parametrize("action", [_duplicate_layer, _convert_to_labels, _split_stack])
def test_no_copy_is_taken_for_the_volume(session, of_files, action):
    viewer = session.viewer
    action(chosen(session, ""))
    copies = [layer for layer in viewer.layers if layer is not session.opened.image("target")]
    viewer.layers.move_multiple([viewer.layers.index(copy) for copy in copies], 0)
    session.close()
    again = Session(viewer, fake_command())
    again.adopt(Project.open(of_files, exclusive=True))
    image = again.opened.image("target")
    assert type(image) is Image and image.data.shape == SHAPE
    assert image not in copies
    assert all(copy in viewer.layers for copy in copies)
    again.close()

"""Masks that were opened as images: found, offered as labels, and never measured as images."""

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtTest import QTest

from napari_emda._gui.annotate.import_labels import ImportBox
from napari_emda._gui.annotate.tools import Tools
from napari_emda._gui.data.guesses import image_of, labels_of
from napari_emda._gui.data.masks import MaskLayers
from napari_emda._gui.data.panel import DataPanel
from napari_emda.data.label_likeness import seems_labels
from napari_emda.synthetic.phantom import phantom

SHAPE = (6, 96, 80)


@pytest.fixture(scope="module")
def volumes():
    return {domain: phantom(SHAPE, domain) for domain in ("source", "target")}


def objects(labels):
    """Numbers of objects, as Cellpose writes them: a box is cut out of each tile of 8 pixels."""
    _, y, x = np.indices(labels.shape) // 8
    return ((y * 10 + x + 1) * (np.indices(labels.shape)[1] % 8 > 0)).astype(np.uint16)


def padded(image):
    inside = np.zeros_like(image)
    inside[:, 30:60, 20:60] = image[:, 30:60, 20:60]
    return inside


def unseen(values):
    """NaN in a part of the sections, as where nobody looked, or where a registration left a gap."""
    return np.where(np.indices(values.shape)[2] < 20, np.nan, values)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda image, labels: labels, True),
        (lambda image, labels: labels * 255, True),
        (lambda image, labels: labels + 1, True),
        (lambda image, labels: labels.astype(float), True),
        (lambda image, labels: labels.astype(bool), True),
        (lambda image, labels: objects(labels), True),
        (lambda image, labels: image, False),
        (lambda image, labels: image // 4, False),
        (lambda image, labels: padded(image), False),
        (lambda image, labels: image / 255, False),
        (lambda image, labels: image * 0, False),
        (lambda image, labels: image[:0], False),
        (lambda image, labels: unseen(labels), True),
        (lambda image, labels: unseen(objects(labels)), True),
        (lambda image, labels: unseen(image), False),
        (lambda image, labels: unseen(image / 255), False),
        (lambda image, labels: image * np.nan, False),
    ],
)
def test_labels_are_told_from_grey_values(volumes, change, expected):
    for pair in volumes.values():
        assert seems_labels(change(*pair)) == expected


def test_a_layer_that_is_computed_is_read_in_the_background(qtbot, session, volumes):
    masks = MaskLayers(session)
    found = []
    session.mask_found.connect(lambda: found.append(True))
    layer = Image(da.from_array(volumes["source"][1]))
    assert not masks(layer)
    qtbot.waitUntil(lambda: bool(found), timeout=60_000)
    assert masks(layer)


def test_a_mask_with_nan_is_explained_wherever_labels_are_chosen(qtbot, session, volumes):
    panel, imports = DataPanel(session), ImportBox(session, Tools(), lambda volume: None)
    for widget in (panel, imports):
        qtbot.addWidget(widget)
    image, labels = volumes["source"]
    # Read in the background, by whichever list asks first.
    mask = da.from_array(unseen(labels), chunks=(1, -1, -1))
    session.viewer.add_image(image, name="old")
    layer = session.viewer.add_image(mask, name="partial")
    why = "'partial' is not offered: it looks like a mask, but holds NaN"
    for sentence in (panel.left_out, imports.hint):
        qtbot.waitUntil(lambda sentence=sentence: why in sentence.text(), timeout=60_000)
    assert panel.target.currentText() == "old"
    # Nothing is asked about layers that are not chosen.
    assert panel.target_size.isEnabled()
    for question in (panel.source_size, panel.label_numbers, imports.numbers):
        assert not question.isEnabled()
    session.viewer.layers.remove(layer)
    session.viewer.add_image(np.nan_to_num(unseen(labels), nan=255), name="whole")
    for widget in (panel, imports):
        assert [entry.name for entry in widget.labels.layers()] == ["whole"]
    assert "NaN" not in panel.left_out.text() + imports.hint.text()


def test_a_lazy_mask_is_offered_in_every_list_of_labels(qtbot, session, volumes):
    lists = DataPanel(session), ImportBox(session, Tools(), lambda volume: None)
    for widget in lists:
        qtbot.addWidget(widget)
    mask = da.from_array(volumes["source"][1], chunks=(1, -1, -1))
    session.viewer.add_image(mask, name="lazy")
    for widget in lists:
        qtbot.waitUntil(lambda widget=widget: len(widget.labels.layers()) == 1, timeout=60_000)


def test_labels_go_to_the_image_with_their_shape_and_name():
    a, b = (Image(np.zeros(SHAPE), name=name) for name in ("target", "source"))
    other = Image(np.zeros((3, 9, 9)), name="source_labels_of_another")
    labels = Image(np.zeros(SHAPE), name="source_labels")
    assert image_of(labels, [a, other, b]) is b
    assert image_of(labels, []) is None
    assert labels_of([other, labels], [a, b]) is labels
    assert labels_of([other], [a]) is other


@pytest.fixture
def panel(qtbot, session):
    new_panel = DataPanel(session)
    qtbot.addWidget(new_panel)
    return new_panel


def add_images(viewer, volumes):
    """What dropping three TIFFs gives: images all, and no voxel size."""
    source, labels = volumes["source"]
    viewer.add_image(volumes["target"][0], name="new")
    viewer.add_image(labels, name="old_labels")
    viewer.add_image(source, name="old")


def test_a_mask_among_images_is_chosen_as_labels(session, panel, volumes):
    add_images(session.viewer, volumes)
    assert panel.source.currentText() == "old"
    assert panel.labels.currentText() == "old_labels (image)"
    assert panel.target.currentText() == "new"
    # Nothing but the sizes is missing.
    assert panel.missing.text().startswith("The voxel size of the source and the voxel size of")
    for size in (panel.source_size, panel.target_size):
        size.set_value((50, 4, 4))
    assert panel.use.isEnabled()


def test_a_mask_chosen_as_an_image_is_called_a_mask(qtbot, session, panel, volumes):
    add_images(session.viewer, volumes)
    panel.source.setCurrentText("old_labels")
    assert "'old_labels' is a mask, not an image" in panel.sizes.text()
    panel.source_size.set_value((50, 4, 4))
    panel.target_size.set_value((50, 4, 4))
    assert panel.domain_gap.text() == ""
    panel.source.setCurrentText("old")
    assert "mask" not in panel.sizes.text()
    qtbot.waitUntil(lambda: panel.domain_gap.text() != "", timeout=60_000)


def test_a_guess_whose_size_was_typed_is_kept(session, panel, volumes):
    viewer = session.viewer
    viewer.add_labels(volumes["source"][1], name="old_labels")
    viewer.add_image(volumes["target"][0], name="new")
    assert panel.source.currentText() == "new"
    QTest.keyClicks(panel.source_size._boxes[0].lineEdit(), "50")
    viewer.add_image(volumes["source"][0], name="old")
    assert panel.source.currentText() == "new"
    assert panel.source_size.numbers == (50, 0, 0)

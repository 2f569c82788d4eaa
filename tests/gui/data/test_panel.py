"""The Data panel by clicks and keys: from layers to a project, and beside an open one."""

import json
import sys
import threading

import numpy as np
import PIL.Image
import pytest
import tifffile
from napari.layers._source import layer_source
from napari_builtins.io import napari_get_reader
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from safetensors.numpy import save_file

from napari_emda._gui.data import foreign_model
from napari_emda._gui.data.panel import DataPanel
from napari_emda._gui.data.project_setup import check
from napari_emda.data.volume import IGNORE
from napari_emda.errors import DataError
from napari_emda.project.project import Project

NM = {"scale": (50, 4.6, 4.6), "units": ("nm",) * 3}
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def panel(qtbot, session):
    new_panel = DataPanel(session)
    qtbot.addWidget(new_panel)
    new_panel.show()
    return new_panel


def add_layers(session, image, labels, **options):
    session.viewer.add_image(image, name="old", **NM)
    session.viewer.add_labels(labels, name="old mitochondria", **NM)
    session.viewer.add_image(image[:, ::-1], name="new", **{**NM, **options})


def add_file(session, path):
    """Add what napari's own reader makes of a dropped file or folder."""
    ((data, *_),) = napari_get_reader(str(path))(str(path))
    with layer_source(path=str(path)):
        session.viewer.add_image(data, name=path.stem)


def marked(boxes):
    """Which boxes are marked: by their tooltips, as screen readers say it."""
    return [box.toolTip().startswith("Missing") for box in boxes]


def click(button):
    assert button.isVisible() and button.isEnabled()
    # A new button has no height until its layout is activated, and then no click meets it.
    while button.visibleRegion().isEmpty():
        QApplication.processEvents()
    QTest.mouseClick(button, LEFT)


def type_number(box, text):
    """Click into a box and type over what is there."""
    edit = box.lineEdit()
    middle = QPoint(edit.width() // 2, edit.height() // 2)
    QTest.mouseClick(edit, LEFT, Qt.KeyboardModifier.NoModifier, middle)
    QTest.keyClick(edit, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClicks(edit, text)
    QTest.keyClick(edit, Qt.Key.Key_Tab)


def wait_for_project(qtbot, session, folder):
    qtbot.waitUntil(
        lambda: session.opened is not None and session.opened.project.folder == folder,
        timeout=240_000,
    )
    return session.opened.project


def make(qtbot, session, panel, folder):
    panel.folder.setText(str(folder))
    panel.folder.setModified(True)
    click(panel.use)
    return wait_for_project(qtbot, session, folder)


# -- numbers in labels ---------------------------------------------------------------------------


def test_labels_without_0_are_asked_about_and_1_becomes_background(
    qtbot, session, panel, arrays, tmp_path
):
    image, labels = arrays
    add_layers(session, image, labels + 1)  # as ilastik's Simple Segmentation
    question = panel.label_numbers.question
    qtbot.waitUntil(lambda: question.asked, timeout=60_000)
    assert "Does 1 mean background?" in question.sentence.text()
    assert not panel.use.isEnabled()
    assert "an answer to the question" in panel.missing.text()
    click(question.buttons["1 means background"])
    assert not question.asked and panel.label_numbers.hint.text() == "1: background."
    project = make(qtbot, session, panel, tmp_path / "p")
    assert np.array_equal(project.volumes.open("old").class_ids[0:5, 0:48, 0:40], labels)
    # It is not asked again about labels of the project.
    assert panel.label_numbers.meaning.background == 1 and not question.asked


@pytest.mark.parametrize(("number", "dtype"), [(255, np.uint8), (-1, np.int16)])
def test_voxels_that_nobody_looked_at_are_asked_about_and_ignored(
    qtbot, session, panel, arrays, tmp_path, number, dtype
):
    image, labels = arrays
    labels = labels.astype(dtype)
    labels[:, :4] = number
    add_layers(session, image, labels)
    question = panel.label_numbers.question
    qtbot.waitUntil(lambda: question.asked, timeout=60_000)
    assert f"the number {number}" in question.sentence.text()
    click(question.buttons["Nobody looked there"])
    project = make(qtbot, session, panel, tmp_path / "p")
    ids = project.volumes.open("old").class_ids[0:5, 0:48, 0:40]
    assert (ids[:, :4] == IGNORE).all()
    assert np.array_equal(ids[:, 4:], labels[:, 4:])


def test_a_number_that_was_in_no_section_read_first_is_asked_about_by_the_check(
    qtbot, session, panel, tmp_path
):
    image = np.random.default_rng(0).integers(0, 255, (200, 16, 16)).astype(np.uint8)
    labels = np.zeros(image.shape, np.uint8)
    labels[:, :4] = 1
    labels[1, 8, 8] = 255
    add_layers(session, image, labels)
    panel.folder.setText(str(tmp_path / "p"))
    click(panel.use)
    question = panel.label_numbers.question
    qtbot.waitUntil(lambda: question.asked, timeout=60_000)
    assert not (tmp_path / "p").exists()
    click(question.buttons["Nobody looked there"])
    click(panel.use)
    wait_for_project(qtbot, session, tmp_path / "p")


@pytest.mark.parametrize("answer", ["255", "0"])
def test_a_mask_the_other_way_round_is_asked_about_and_never_inverted_in_silence(
    qtbot, session, panel, arrays, tmp_path, answer
):
    image, labels = arrays
    inverted = np.where(labels, 0, 255).astype(np.uint8)
    add_layers(session, image, inverted)
    question = panel.label_numbers.question
    qtbot.waitUntil(lambda: question.asked, timeout=60_000)
    assert "255 takes up" in question.sentence.text()
    assert list(question.buttons) == ["255 means background", "0 means background"]
    assert not panel.use.isEnabled()
    click(question.buttons[f"{answer} means background"])
    project = make(qtbot, session, panel, tmp_path / "p")
    ids = project.volumes.open("old").class_ids[0:5, 0:48, 0:40]
    assert np.array_equal(ids, labels if answer == "255" else 1 - labels)


def test_numbers_that_are_merged_into_one_class_are_said(qtbot, session, panel, arrays):
    image, labels = arrays
    labels = labels.copy()
    labels[:, 30:40] = 3
    add_layers(session, image, labels)
    hint = panel.label_numbers.hint
    merged = "There are 3 different values, and all above 0 count as 'mitochondria'."
    qtbot.waitUntil(lambda: hint.text().startswith(merged), timeout=60_000)
    panel.classes.selectAll()
    QTest.keyClicks(panel.classes, "background, a, b, c")
    assert hint.text() == "No voxel is 'b'."


def test_labels_with_a_table_of_colours_are_taken_by_their_numbers(
    qtbot, session, panel, arrays, tmp_path
):
    image, labels = arrays
    (tmp_path / "mask").mkdir()
    for z, section in enumerate(labels):
        picture = PIL.Image.fromarray(section, mode="P")
        picture.putpalette([0, 0, 0, 255, 0, 0])
        picture.save(tmp_path / "mask" / f"{z}.png")
    session.viewer.add_image(image, name="old", **NM)
    add_file(session, tmp_path / "mask")
    assert session.viewer.layers["mask"].rgb  # as napari shows it
    session.viewer.add_image(image[:, ::-1], name="new", **NM)
    qtbot.waitUntil(lambda: panel.labels.currentText() == "mask (image)", timeout=60_000)
    assert panel.left_out.text() == ""
    qtbot.waitUntil(lambda: panel.use.isEnabled(), timeout=60_000)
    project = make(qtbot, session, panel, tmp_path / "p")
    assert np.array_equal(project.volumes.open("old").class_ids[0:5, 0:48, 0:40], labels)


def test_decimal_labels_are_stored_as_whole_numbers(qtbot, session, panel, arrays, tmp_path):
    image, labels = arrays
    session.viewer.add_image(image, name="old", **NM)
    session.viewer.add_image(labels.astype(np.float32), name="mask", **NM)
    session.viewer.add_image(image[:, ::-1], name="new", **NM)
    assert panel.labels.currentText() == "mask (image)"
    project = make(qtbot, session, panel, tmp_path / "p")
    assert np.array_equal(project.volumes.open("old").class_ids[0:5, 0:48, 0:40], labels)


def test_the_beginning_of_a_long_text_is_seen_and_all_of_it_in_the_tooltip(qtbot, panel):
    names = ", ".join(["background", *(f"organelle{k}" for k in range(20))])
    for box in (panel.classes, panel.folder):
        panel.activateWindow()
        box.setFocus()
        qtbot.waitUntil(box.hasFocus, timeout=60_000)
        box.selectAll()
        QTest.keyClicks(box, names)
        assert box.cursorPosition() == len(names)  # while the user types
        QTest.keyClick(box, Qt.Key.Key_Tab)
        assert box.cursorPosition() == 0
        assert names in box.toolTip()
        box.setText("/a/<b>/" + names)
        assert box.cursorPosition() == 0
        assert "/a/&lt;b&gt;/" in box.toolTip()


# -- voxel sizes ---------------------------------------------------------------------------------


def test_only_the_distance_of_the_sections_is_asked_for_where_the_file_states_the_rest(
    session, panel, arrays, tmp_path
):
    path = tmp_path / "new.tif"
    unit = {"unit": "nm"}
    tifffile.imwrite(path, arrays[0], imagej=True, resolution=(1 / 8, 1 / 8), metadata=unit)
    with layer_source(path=str(path)):  # as napari's reader makes it
        session.viewer.add_image(arrays[0], name="new")
    needed = "The distance of the sections of the target (z) is not known: type it"
    assert panel.missing.text().startswith(needed)
    assert not panel.use.isEnabled() and panel.sizes.text() == ""
    boxes = panel.target_size._boxes
    assert [box.text() for box in boxes] == ["", "8", "8"]
    assert marked(boxes) == [True, False, False]
    type_number(boxes[0], "50")
    assert panel.target_size.value() == (50, 8, 8)
    assert "not known" not in panel.missing.text()
    assert marked(boxes) == [False] * 3 and panel.use.isEnabled()
    # A stack of independent images needs no distance.
    type_number(boxes[0], "0")
    assert marked(boxes) == [True, False, False] and not panel.use.isEnabled()
    click(panel.target_size.is_depth)
    assert marked(boxes) == [False] * 3 and panel.use.isEnabled()


def test_an_error_goes_when_its_cause_has_gone(qtbot, session, panel, arrays, tmp_path):
    withdrawn = []
    session.withdrawn.connect(withdrawn.append)
    add_layers(session, *arrays)
    panel.folder.setText(str(tmp_path / "p"))
    panel.classes.selectAll()
    QTest.keyClicks(panel.classes, "background")
    click(panel.use)
    qtbot.waitUntil(lambda: bool(session.notices), timeout=60_000)
    assert "at least two different names" in session.notices[-1][1]
    assert not withdrawn
    QTest.keyClicks(panel.classes, ",")
    assert withdrawn == [session.notices[-1][1]]


# -- files ---------------------------------------------------------------------------------------


def test_a_folder_of_images_and_masks_is_refused_in_whatever_order_napari_shows_it(
    qtbot, session, panel, arrays, tmp_path
):
    image, labels = arrays
    (tmp_path / "both").mkdir()
    for z in range(len(image)):
        tifffile.imwrite(tmp_path / "both" / f"img{z}.tif", image[z])
        tifffile.imwrite(tmp_path / "both" / f"seg{z}.tif", labels[z])
    add_file(session, tmp_path / "both")
    words = "5 images and 5 masks or labels of them"
    qtbot.waitUntil(lambda: words in panel.files.text(), timeout=60_000)
    panel.target_size.set_value((50, 4, 4))
    panel.folder.setText(str(tmp_path / "p"))
    click(panel.use)
    qtbot.waitUntil(lambda: bool(session.notices), timeout=60_000)
    assert words in session.notices[-1][1] and session.opened is None


def test_what_a_file_may_be_mistaken_for_is_said_once(qtbot, session, panel, arrays, tmp_path):
    # Sections 3 and 4 are lost, of the image as of its labels.
    image, labels = arrays
    for folder, stack in (("image", image), ("labels", labels)):
        (tmp_path / folder).mkdir()
        for number, section in zip((0, 1, 2, 5, 6), stack, strict=True):
            tifffile.imwrite(tmp_path / folder / f"s{number}.tif", section)
    add_file(session, tmp_path / "image")
    add_file(session, tmp_path / "labels")
    channels = tmp_path / "channels.tif"
    tifffile.imwrite(channels, image[:, ::-1], imagej=True, metadata={"axes": "CYX"})
    add_file(session, channels)
    qtbot.waitUntil(lambda: "folder labels" in panel.files.text(), timeout=60_000)
    qtbot.waitUntil(lambda: "channels.tif" in panel.files.text(), timeout=60_000)
    text = panel.files.text()
    assert panel.files.isVisible()
    assert text.count("The folder image holds 5 sections numbered 0 to 6, and 2 are missing") == 1
    assert text.count("The 5 channels of channels.tif are read as sections.") == 1
    # Independent images have no gaps.
    click(panel.source_size.is_depth)
    assert "missing" not in panel.files.text() and "channels.tif" in panel.files.text()


def test_a_folder_of_tiles_is_doubted_before_it_is_used(qtbot, session, panel, arrays, tmp_path):
    for number, section in enumerate(arrays[0][:4]):
        tifffile.imwrite(tmp_path / f"tile_r{number // 2}_c{number % 2}.tif", section)
    add_file(session, tmp_path)
    qtbot.waitUntil(lambda: "stitch the tiles" in panel.files.text(), timeout=60_000)


# -- beside an open project ------------------------------------------------------------------------


@pytest.fixture
def opened(qtbot, session, panel, arrays, tmp_path):
    add_layers(session, *arrays)
    make(qtbot, session, panel, tmp_path / "first")
    return session.opened


def test_the_layers_of_the_open_project_are_said_to_be_its_own(panel, opened):
    assert not panel.use.isEnabled()
    assert "The open project is made of these layers" in panel.missing.text()


def test_an_edited_voxel_size_changes_the_project_after_a_question(session, panel, opened):
    type_number(panel.target_size._boxes[0], "30")
    assert (
        "voxel size of 'new' is not the one in the project 'first'" in panel.grids.sentence.text()
    )
    assert opened.project.volumes.entry("new").spacing == (50, 4.6, 4.6)
    click(panel.grids.buttons["Change it in the project"])
    assert Project.open(opened.project.folder).volumes.entry("new").spacing == (30, 4.6, 4.6)
    assert session.viewer.layers["new"].scale.tolist() == [30, 4.6, 4.6]
    assert session.viewer.layers["old"].scale.tolist() == [50, 4.6, 4.6]
    assert not panel.grids.asked


def test_an_edit_is_undone(panel, opened):
    type_number(panel.target_size._boxes[2], "9")
    click(panel.grids.buttons["Show the project's size"])
    assert panel.target_size.value() == (50, 4.6, 4.6)
    assert not panel.grids.asked


def test_the_voxel_size_is_fixed_once_there_is_a_model(session, panel, opened):
    run = opened.project.folder / "runs" / "001-fake"
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").touch()
    session.project_changed.emit()
    assert not panel.target_size.isEnabled()
    assert "models of 'first' were trained with these voxel sizes" in panel.grids.sentence.text()
    click(panel.grids.buttons["Use other sizes in a new project"])
    type_number(panel.target_size._boxes[0], "30")
    assert panel.use.isEnabled()
    assert Project.open(opened.project.folder).volumes.entry("new").spacing == (50, 4.6, 4.6)


def test_another_project_is_never_started_unasked(qtbot, session, panel, opened, arrays, tmp_path):
    newer = session.viewer.add_image(arrays[0][:, :40], name="newer", **NM)
    panel.target.setCurrentText("newer")
    click(panel.use)
    assert "The project 'first' is open" in panel.question.sentence.text()
    assert list(panel.question.buttons) == [
        "Add the target to it",
        "Start another project",
        "Stay with 'first'",
    ]
    click(panel.question.buttons["Stay with 'first'"])
    assert session.opened is opened and not panel.question.asked
    panel.folder.setText(str(tmp_path / "second"))
    click(panel.use)
    click(panel.question.buttons["Start another project"])
    project = wait_for_project(qtbot, session, tmp_path / "second")
    assert [entry.name for entry in project.volumes.entries] == ["old", "newer"]
    shown = [layer.name for layer in session.viewer.layers if layer.visible]
    assert shown == ["newer"]  # what the first project showed does not lie over it
    assert newer in session.viewer.layers


def test_a_new_target_joins_the_open_project(qtbot, session, panel, opened, arrays):
    session.viewer.add_image(arrays[0][:, :40], name="newer", **NM)
    panel.target.setCurrentText("newer")
    click(panel.use)
    click(panel.question.buttons["Add the target to it"])
    qtbot.waitUntil(
        lambda: [e.name for e in opened.project.volumes.targets()] == ["new", "newer"],
        timeout=60_000,
    )
    assert session.opened is opened


# -- labels by position ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["moved", "half the size", "twice the size"])
def test_labels_are_learnt_where_they_are_seen(qtbot, session, panel, arrays, tmp_path, place):
    image, labels = arrays
    z, y, x = NM["scale"]
    expected = labels.astype(int)
    if place == "moved":
        options = {"scale": NM["scale"], "translate": (0, 3 * y, 0)}
        drawn = labels
        expected = np.roll(expected, 3, axis=1)
        expected[:, :3] = IGNORE
    elif place == "half the size":
        # Voxels of half the size: their centres lie a quarter of a voxel off.
        options = {"scale": (z, y / 2, x / 2), "translate": (0, -y / 4, -x / 4)}
        drawn = labels.repeat(2, 1).repeat(2, 2)
    else:
        options = {"scale": (z, 2 * y, 2 * x), "translate": (0, y / 2, x / 2)}
        drawn = labels[:, ::2, ::2]
    session.viewer.add_image(image, name="old", **NM)
    session.viewer.add_labels(drawn, name="drawn", units=NM["units"], **options)
    session.viewer.add_image(image[:, ::-1], name="new", **NM)
    assert "'drawn' lies on other voxels than 'old' and is resampled" in panel.sizes.text()
    project = make(qtbot, session, panel, tmp_path / "p")
    ids = project.volumes.open("old").class_ids[0:5, 0:48, 0:40]
    assert np.array_equal(ids, expected)
    shown = session.viewer.layers["drawn"]
    assert shown.scale.tolist() == list(NM["scale"]) and shown.data.shape == image.shape


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": (50, -4.6, 4.6)}, "are flipped along y"),
        ({"scale": NM["scale"], "translate": (0, 2.3, 0)}, "0.5 voxels beside its voxels along y"),
        ({"scale": (50, 6.9, 4.6)}, "have voxels of 1.5 times the size along y"),
    ],
)
def test_labels_that_fit_no_voxels_are_refused_with_what_differs(
    session, panel, arrays, options, words
):
    image, labels = arrays
    session.viewer.add_image(image, name="old", **NM)
    session.viewer.add_labels(labels, name="drawn", units=NM["units"], **options)
    session.viewer.add_image(image[:, ::-1], name="new", **NM)
    assert words in panel.missing.text() and panel.sizes.text() == ""
    assert not panel.use.isEnabled()
    with pytest.raises(DataError, match=words):
        check(panel.picks(), panel.class_names(), threading.Event())


def test_labels_without_a_place_belong_to_the_voxels_of_their_image(
    qtbot, session, panel, arrays, tmp_path
):
    image, labels = arrays
    session.viewer.add_image(image, name="old", translate=(0, 46, 0), **NM)
    session.viewer.add_labels(labels, name="drawn")
    session.viewer.add_image(image[:, ::-1], name="new", **NM)
    assert "other voxels" not in panel.sizes.text()
    make(qtbot, session, panel, tmp_path / "p")
    assert session.viewer.layers["drawn"].translate.tolist() == [0, 46, 0]


# -- from a model ----------------------------------------------------------------------------------


@pytest.fixture
def model(monkeypatch, tmp_path):
    """A file of a model without weights, among the user's models."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("NAPARI_EMDA_MODELS", str(folder))
    header = {
        "method": "source_only",
        "classes": ["background", "vesicles"],
        "network": {"name": "unet", "classes": 2, "settings": {"base_channels": 8}},
        "pixel_size": 4.6,
        "step": 7,
        "description": {"name": "of vesicles", "licence": "CC0-1.0"},
    }
    values = {"format": 4, "model": header, "training": {"settings": {"steps": 9}}}
    path = folder / "vesicles.safetensors"
    save_file(
        {"network.offset": np.zeros(2, np.float32)}, path, {"napari_emda": json.dumps(values)}
    )
    return path


def test_a_model_takes_the_place_of_the_source(qtbot, session, panel, arrays, model, tmp_path):
    add_layers(session, *arrays)
    panel.target.setCurrentText("new")
    click(panel.model.toggle)
    assert not panel.source.isVisible() and not panel.labels.isVisible()
    assert not panel.use.isEnabled()
    qtbot.waitUntil(lambda: panel.model.box.count() == 1, timeout=60_000)
    panel.model.box.setCurrentIndex(0)
    assert "of vesicles" in panel.model.sentence.text()
    assert "CC0-1.0" in panel.model.sentence.text()
    assert panel.classes.text() == "background, vesicles"
    project = make(qtbot, session, panel, tmp_path / "p")
    assert [entry.domain for entry in project.volumes.entries] == ["target"]
    assert project.classes == ("background", "vesicles")
    assert project.runs.names() == ["001-imported"]
    assert project.run().finished


def test_a_source_can_be_used_after_all(qtbot, session, panel, arrays, model):
    add_layers(session, *arrays)
    click(panel.model.toggle)
    qtbot.waitUntil(lambda: panel.model.box.count() == 1, timeout=60_000)
    panel.model.box.setCurrentIndex(0)
    click(panel.model.toggle)
    assert panel.source.isVisible() and panel.classes.isEnabled()
    assert panel.model.path is None
    assert len(panel.picks()) == 2


def test_a_file_that_is_no_model_says_so_and_makes_no_project(
    qtbot, session, panel, arrays, model, tmp_path
):
    add_layers(session, *arrays)
    click(panel.model.toggle)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"no model")
    panel.model.open(damaged)
    qtbot.waitUntil(lambda: "not a model" in panel.model.sentence.text(), timeout=60_000)
    assert not panel.use.isEnabled()
    # It changes after it was chosen.
    panel.model.open(model)
    qtbot.waitUntil(lambda: panel.model.path == model, timeout=60_000)
    model.write_bytes(b"no model")
    panel.folder.setText(str(tmp_path / "p"))
    click(panel.use)
    qtbot.waitUntil(lambda: "not a model" in str(session.notices), timeout=60_000)
    assert not (tmp_path / "p").exists()


def test_a_package_of_another_program_is_checked_in_a_child(
    qtbot, session, panel, arrays, tmp_path, monkeypatch
):
    pytest.importorskip("onnxruntime")
    from tests.foreign_package import write

    package = write(tmp_path / "tiny.zip")
    add_layers(session, *arrays)
    panel.target.setCurrentText("new")
    click(panel.model.toggle)
    qtbot.waitUntil(lambda: "no models of your own" in panel.model.sentence.text())
    says = "import sys; print('The package is bad.', file=sys.stderr); sys.exit(2)"
    with monkeypatch.context() as patched:
        patched.setattr(foreign_model, "COMMAND", (sys.executable, "-c", says))
        panel.model.open(package)
        qtbot.waitUntil(lambda: panel.model.sentence.text() == "The package is bad.")
    assert panel.model.path is None
    panel.model.open(package)
    qtbot.waitUntil(lambda: panel.model.model is not None, timeout=60_000)
    assert panel.classes.text() == "background, foreground"
    # The package states none, so the model sees pixels of the target's size.
    assert "so it sees pixels of 4.6 nm, as they are" in panel.model.sentence.text()
    project = make(qtbot, session, panel, tmp_path / "p")
    assert project.run().training().method == "fixed"

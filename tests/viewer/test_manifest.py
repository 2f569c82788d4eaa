"""The manifest: valid, pointing at what exists, and found by napari's menus."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from xml.etree import ElementTree

import h5py
import napari
import numpy as np
import pytest
import tifffile
from npe2 import PluginManager, PluginManifest
from npe2.manifest.utils import import_python_name
from qtpy.QtWidgets import QWidget

from napari_emda._gui.common.layer_volumes import path_of
from napari_emda._gui.project_reader import get_reader
from napari_emda.io.reader import all_readers
from napari_emda.project.project import Project
from napari_emda.synthetic.sample_pair import RECORDINGS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def manifest():
    return PluginManifest.from_distribution("napari-emda")


def test_every_command_can_be_imported(manifest):
    for command in manifest.contributions.commands:
        if (
            not command.python_name.startswith("napari_emda._gui")
            or (ROOT / "src/napari_emda/_gui/dock.py").exists()
        ):
            assert callable(import_python_name(command.python_name)), command.id


def test_the_manifest_is_seen_at_the_top():
    if not (ROOT / "napari.yaml").is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert (ROOT / "napari.yaml").resolve() == ROOT / "src" / "napari_emda" / "napari.yaml"


def test_the_menus_and_samples_name_what_is_there(manifest):
    ids = {command.id for command in manifest.contributions.commands}
    segment = manifest.contributions.menus["napari/layers/segment"]
    assert [item.command for item in segment] == ["napari-emda.dock"]
    assert {sample.key for sample in manifest.contributions.sample_data} == {
        "phantom",
        "vnc",
        "vnc_unlabelled",
    }
    assert {sample.command for sample in manifest.contributions.sample_data} <= ids
    for sample in manifest.contributions.sample_data:
        if sample.key.startswith("vnc"):
            assert "CC BY-NC-SA 3.0" in sample.display_name


def test_formats_that_napari_does_not_read_are_opened(manifest):
    *others, reader = manifest.contributions.readers
    assert [other.filename_patterns for other in others] == [["project.json"]]
    assert not any(other.accepts_directories for other in (*others, reader))
    # TIFF, pictures and arrays of NumPy are napari's own.
    ours = {
        suffix
        for entry in all_readers()
        if entry.name not in ("tiff", "pictures", "npy")
        for suffix in entry.suffixes
    }
    assert set(reader.filename_patterns) == {f"*{suffix}" for suffix in ours}


def test_the_icon_is_there(manifest):
    package, _, name = manifest.icon.partition(":")
    assert ElementTree.fromstring((files(package) / name).read_text("utf-8")).tag.endswith("svg")


class StandIn(QWidget):
    """A dock that notes what it is to open."""

    opened: ClassVar = []

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.data = SimpleNamespace(open_project=self.opened.append)


def test_a_project_file_that_is_dropped_on_napari_opens_the_dock_with_it(
    make_napari_viewer, tmp_path, monkeypatch, qtbot
):
    monkeypatch.setattr("napari_emda._gui.dock.Dock", StandIn)
    monkeypatch.setattr(StandIn, "opened", [])
    if "napari-emda" not in PluginManager.instance():
        PluginManager.instance().register(PluginManifest.from_distribution("napari-emda"))
    Project.create(tmp_path / "p").close()
    viewer = make_napari_viewer()
    # napari knows one reader that takes it, and asks nothing.
    assert viewer.open(tmp_path / "p" / "project.json", plugin=None) == []
    qtbot.waitUntil(lambda: StandIn.opened == [tmp_path / "p"], timeout=60_000)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "project.json").write_text('{"version": "of another program"}')
    assert get_reader(str(tmp_path / "other" / "project.json")) is None


def test_menu_of_napari_still_exists():
    from napari._app_model.constants import MenuId

    assert "napari/layers/segment" in MenuId.contributables()


def test_sample_reader_and_writer_in_a_viewer(make_napari_viewer, tmp_path, monkeypatch):
    # Drawing the whole pair is a test of its own (tests/gui/test_sample_data.py).
    for domain, recording in RECORDINGS.items():
        monkeypatch.setitem(RECORDINGS, domain, replace(recording, shape=(4, 96, 64)))
    if "napari-emda" not in PluginManager.instance():
        PluginManager.instance().register(PluginManifest.from_distribution("napari-emda"))
    viewer = make_napari_viewer()
    layers = viewer.open_sample("napari-emda", "phantom")
    assert [layer.name for layer in layers] == [
        "phantom source",
        "phantom source mitochondria",
        "phantom target",
    ]
    labels = viewer.layers["phantom source mitochondria"]
    written = napari.save_layers(str(tmp_path / "mask.tif"), [labels], plugin="napari-emda")
    assert written == [str(tmp_path / "mask.tif")]
    np.testing.assert_array_equal(tifffile.imread(written[0]), labels.data)
    with tifffile.TiffFile(written[0]) as file:
        assert (file.imagej_metadata["spacing"], file.imagej_metadata["unit"]) == (50, "nm")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = viewer.layers["phantom target"].data
        file["raw"].attrs["resolution"] = (50, 5, 5)
    # As the menu's dialog does: napari claims the ending as well, and cannot read the file.
    (opened,) = viewer.open(tmp_path / "a.h5", plugin="napari-emda")
    assert path_of(opened) == tmp_path / "a.h5"
    np.testing.assert_array_equal(opened.data[:], viewer.layers["phantom target"].data)
    np.testing.assert_array_equal(opened.scale, (50, 5, 5))

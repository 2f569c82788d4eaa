"""A packed project opens from the dock, after it was unpacked beside its file."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_emda._gui.data.panel import DataPanel
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.io.tiff import write_tiff
from napari_emda.project.packing.pack import pack
from napari_emda.project.project import Project


@pytest.fixture
def panel(session):
    return DataPanel(session)


@pytest.fixture
def packed(tmp_path):
    """A function that packs a project of one image, to a folder of its own."""

    def make(images):
        image = np.random.default_rng(0).integers(0, 255, (2, 40, 48), np.uint8)
        write_tiff(
            tmp_path / "image.tif", iter(image), image.shape, image.dtype, VoxelGrid((50, 8, 8))
        )
        (tmp_path / "received").mkdir()
        with Project.create(tmp_path / "mine") as project:
            project.volumes.add(tmp_path / "image.tif", "target")
            path = tmp_path / "received" / "brain.zip"
            assert list(pack(project, path, images))
        return path

    return make


def wait_for_text(qtbot, session, text):
    qtbot.waitUntil(lambda: text in session.notices[-1][1], timeout=60_000)


def test_a_packed_project_is_unpacked_and_opened(qtbot, session, panel, packed, monkeypatch):
    path = packed("whole")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    panel.opening.packed.click()
    wait_for_text(qtbot, session, "was opened")
    assert session.opened.project.folder == path.with_suffix("")
    assert [layer.name for layer in session.viewer.layers] == ["image"]


def test_without_its_images_it_is_said_where_they_belong(qtbot, session, panel, packed):
    path = packed("none")
    panel.open_project(path)
    wait_for_text(qtbot, session, "put image.tif into the folder")
    assert session.opened is None
    shutil.copy(path.parents[1] / "image.tif", path.parent)
    panel.open_project(path)
    wait_for_text(qtbot, session, "was opened")


def test_a_damaged_file_is_one_sentence(qtbot, session, panel, packed):
    path = packed("none")
    path.write_bytes(path.read_bytes()[:-30])
    panel.open_project(path)
    wait_for_text(qtbot, session, "is no whole packed project")
    assert session.opened is None
    assert [entry.name for entry in path.parent.iterdir()] == ["brain.zip"]

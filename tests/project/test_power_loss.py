"""After a power failure at any moment: every patch that was accepted is there, and work goes on."""

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from napari_emda._gui.annotate.working_copy import WorkingCopy
from napari_emda.data.box import Box
from napari_emda.project.project import Project
from napari_emda.project.undo import Decision

# Two patches in one chunk, so that painting in one rewrites the other.
BOXES = (Box((1, 0, 0), (2, 20, 20)), Box((1, 20, 20), (2, 40, 40)))


class Disk:
    """What surely is on the disk of a folder: what was there at first, and what was synced since.

    Files are known by their number, which a rename does not change. They are kept open, so that no
    number is used twice.
    """

    def __init__(self, root, monkeypatch):
        self.root = root
        self.contents = {}
        self.folders = {}
        self.open = []
        self.on_sync = lambda: None
        for path in (root, *root.rglob("*")):
            self._sync(os.open(path, os.O_RDONLY))
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, descriptor):
        self._sync(os.dup(descriptor))
        self.on_sync()

    def _sync(self, descriptor):
        self.open.append(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self.folders[status.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
        elif path.is_relative_to(self.root) and path.is_file():
            self.contents[status.st_ino] = path.read_bytes()

    def after_failure(self, folder, *, names):
        """Write what is left; ``names``: whether all names and none of the new contents are."""
        for path in sorted(self.root.rglob("*")) if names else ():
            copy = folder / path.relative_to(self.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                copy.write_bytes(self.contents.get(path.stat().st_ino, b""))
        if not names:
            self._write(folder, self.root.stat().st_ino)

    def _write(self, folder, number):
        folder.mkdir(parents=True, exist_ok=True)
        for name, child in self.folders.get(number, {}).items():
            if child in self.folders:
                self._write(folder / name, child)
            else:
                (folder / name).write_bytes(self.contents.get(child, b""))

    def close(self):
        for descriptor in self.open:
            os.close(descriptor)


@pytest.fixture
def disk(project, monkeypatch):
    disk = Disk(project.folder, monkeypatch)
    yield disk
    disk.close()


def check(folder, accepted):
    """Check that a project opens, holds what was accepted, and can be worked on."""
    with Project.open(folder, exclusive=True) as project:
        states = {region.id: region.state for region in project.regions.all()}
        array = project.annotations.open("target")
        for region, values in accepted:
            assert states[region.id] == "accepted"
            assert np.array_equal(array[region.voxels.slices], values)
        new = project.regions.add("target", Box((1, 60, 60), (2, 64, 64)))
        project.annotations.accept(new, np.full((1, 4, 4), 2))
        project.history.undo()
        assert project.backups.make() is not None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux names open files")
@pytest.mark.parametrize("names", [True, False])
def test_at_every_sync_what_was_accepted_by_then_is_there(names, project, disk, tmp_path):
    accepted = []
    failures = []

    def fail():
        folder = tmp_path / "after" / str(len(failures))
        disk.after_failure(folder, names=names)
        failures.append((folder, list(accepted)))

    disk.on_sync = fail
    for box in BOXES:
        region = project.regions.add("target", box)
        values = np.full(box.shape, 2, np.uint8)
        before = np.asarray(project.annotations.require("target")[box.slices])
        project.regions.decisions.add(Decision(region, before))
        project.annotations.accept(region, values)
        accepted.append((region, values))
        # Dabs in the same chunk, after which nothing is accepted any more.
        copy = WorkingCopy(project.annotations.require("target"))
        copy[1:2, 50:55, 50:55] = 2
        fail()
    disk.on_sync = lambda: None
    assert len(failures) > 20
    for folder, by_then in failures:
        check(folder, by_then)
        shutil.rmtree(folder)

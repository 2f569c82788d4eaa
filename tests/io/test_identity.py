"""The identity of an image: it changes with the content, and not with what surrounds it."""

import os
import shutil

import numpy as np
import pytest

from napari_emda.io import identity
from napari_emda.io.identity import image_identity


@pytest.fixture(params=["file", "folder"])
def image(request, tmp_path):
    """An image, and one of its files."""
    path = tmp_path / "image"
    if request.param == "file":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
        return path, path
    (path / "c" / "0").mkdir(parents=True)
    for name in ("zarr.json", "c/0/0", "c/0/1"):
        (path / name).write_bytes(name.encode() * 100)
    return path, path / "c" / "0" / "1"


def test_a_copy_is_the_same_image_whatever_its_time(image, tmp_path):
    path, _ = image
    before = image_identity(path)
    copy = tmp_path / "elsewhere"
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
    for file in (copy, *copy.rglob("*")):
        os.utime(file, (1, 1))
    assert image_identity(copy) == before


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("keep_time", [False, True])
def test_other_content_of_the_same_size_is_another_image(large, keep_time, image, monkeypatch):
    path, file = image
    if large:
        monkeypatch.setattr(identity, "_READ_WHOLE", 10)
    if large and keep_time and path.is_dir():
        pytest.skip("of a large folder, nothing is read")
    before = image_identity(path)
    status = file.stat()
    file.write_bytes(bytes(status.st_size))
    times = (status.st_atime_ns, status.st_mtime_ns + (0 if keep_time else 10**9))
    os.utime(file, ns=times)
    assert image_identity(path) != before


def test_a_file_more_or_less_is_another_image(image):
    path, file = image
    before = image_identity(path)
    if path.is_dir():
        (path / "c" / "0" / "2").touch()
        assert image_identity(path) != before
    file.unlink()
    assert image_identity(path) != before


def test_what_desktops_and_crashes_leave_in_a_folder_does_not_count(image):
    path, _ = image
    before = image_identity(path)
    if path.is_dir():
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".0-0123abcd-partial"):
            (path / name).write_text(name)
        (path / "loop").symlink_to(path)
    assert image_identity(path) == before

"""A zip file whose list of entries would fill the memory is refused before it is read."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import zarr

from napari_emda.errors import DataError, JobError
from napari_emda.io import zip_file
from napari_emda.io.read import open_image
from napari_emda.io.zip_file import open_zip
from napari_emda.project.model_file import model_at
from napari_emda.project.packing.unpack import opened_pack

# Bytes that the list of entries takes of each, with a name of five characters.
ENTRY = 46 + 5


def packed(path, entries, comment=b""):
    with zipfile.ZipFile(path, "w") as file:
        for number in range(entries):
            file.writestr(f"{number:05}", b"")
        file.comment = comment
    return path


@pytest.mark.parametrize("comment", [b"", b"about"])
def test_as_many_entries_as_fit_are_read(comment, tmp_path, monkeypatch):
    path = packed(tmp_path / "a.zip", 30, comment)
    monkeypatch.setattr(zip_file, "_LARGEST_LIST", 30 * ENTRY)
    expected = [f"{number:05}" for number in range(30)]
    with open_zip(path) as file:
        assert file.namelist() == expected
    monkeypatch.setattr(zip_file, "_LARGEST_LIST", 30 * ENTRY - 1)
    with pytest.raises(zipfile.BadZipFile, match="more files than can be read"):
        open_zip(path)


@pytest.mark.parametrize("comment", [b"", b"about"])
def test_the_list_of_a_large_zip_file_is_found(comment, tmp_path, monkeypatch):
    # More entries than the older record can count.
    count = 2**16
    path = packed(tmp_path / "a.zip", count, comment)
    with open_zip(path) as file:
        assert len(file.namelist()) == count
    monkeypatch.setattr(zip_file, "_LARGEST_LIST", count * ENTRY - 1)
    with pytest.raises(zipfile.BadZipFile, match=f"in {count * ENTRY} bytes"):
        open_zip(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\5\6", b"PK\5\6" + 17 * b"\0", 100 * b"\xff"])
def test_what_is_no_zip_file_is_none(content, tmp_path):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="not a zip file"):
        open_zip(tmp_path / "a.zip")


def test_all_that_reads_zip_files_of_others_says_it(tmp_path, monkeypatch):
    zarr.save_array(tmp_path / "a.zarr", np.zeros((2, 8, 8), np.uint8))
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as file:
        for path in (tmp_path / "a.zarr").rglob("*"):
            file.write(path, path.relative_to(tmp_path / "a.zarr"))
    open_image(tmp_path / "a.zarr.zip")
    project = packed(tmp_path / "project.zip", 30)
    monkeypatch.setattr(zip_file, "_LARGEST_LIST", 10)
    with pytest.raises(DataError, match="more files than can be read"):
        open_image(tmp_path / "a.zarr.zip")
    with pytest.raises(DataError, match="more files than can be read"), opened_pack(project):
        pass
    with pytest.raises(JobError), model_at(project, tmp_path):
        pass

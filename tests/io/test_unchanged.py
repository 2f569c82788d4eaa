"""What is read once per version of a file."""

import os

import pytest

from napari_emda.io.atomic import write_text
from napari_emda.io.unchanged import while_unchanged


@pytest.fixture
def read():
    """Reads a text; ``read.paths`` are the files that it was called for."""

    def reading(path):
        reading.paths.append(path)
        return path.read_text() if path.exists() else ""

    reading.paths = []
    remembering = while_unchanged(reading)
    remembering.paths = reading.paths
    return remembering


def test_a_file_is_read_once_until_it_is_replaced_or_appended_to(tmp_path, read):
    file = tmp_path / "state.json"
    write_text(file, "one")
    assert [read(file), read(file)] == ["one", "one"]
    assert read.paths == [file]
    write_text(file, "two")
    assert read(file) == "two"
    with file.open("a") as appended:
        appended.write("!")
    assert [read(file), read(file)] == ["two!", "two!"]
    assert read.paths == [file] * 3


def test_another_content_of_the_same_length_is_noticed_by_its_time(tmp_path, read):
    file = tmp_path / "state.json"
    file.write_text("one")
    assert read(file) == "one"
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert read(file) == "two"


def test_a_file_that_comes_later_is_read_then(tmp_path, read):
    file = tmp_path / "state.json"
    assert read(file) == ""
    file.write_text("one")
    assert read(file) == "one"

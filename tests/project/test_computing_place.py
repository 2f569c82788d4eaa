"""Where jobs compute is kept for the user, and never in a project that may go elsewhere."""

from __future__ import annotations

import json

import pytest

from napari_emda.io.cache import cache_folder
from napari_emda.project.computing_place import computing_place, keep_computing_place
from napari_emda.settings.where import Where


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_EMDA_CACHE", str(tmp_path / "cache"))


def test_each_project_has_its_place_and_nothing_of_it_is_in_the_project(tmp_path):
    first = tmp_path / "first"
    first.mkdir()
    assert computing_place(first) == Where()
    keep_computing_place(first, Where(scheduler="tcp://server:8786"))
    keep_computing_place(tmp_path / "second", Where(workers=3))
    assert computing_place(first) == Where(scheduler="tcp://server:8786")
    assert computing_place(tmp_path / "second") == Where(workers=3)
    assert list(first.iterdir()) == []
    keep_computing_place(first, Where())
    assert computing_place(first) == Where()
    assert list(json.loads((cache_folder() / "where.json").read_text())) == [
        str(tmp_path / "second")
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "[]",
        "\0",
        '{"PROJECT": 3}',
        '{"PROJECT": {"workers": -1}}',
        '{"PROJECT": {"workers": 2, "scheduler": "tcp://a:1"}}',
        '{"PROJECT": {"unknown": 1}}',
    ],
)
def test_a_damaged_file_means_this_computer(content, tmp_path):
    cache_folder().mkdir()
    text = content.replace("PROJECT", str(tmp_path))
    (cache_folder() / "where.json").write_text(text)
    assert computing_place(tmp_path) == Where()
    keep_computing_place(tmp_path, Where(workers=2))
    assert computing_place(tmp_path) == Where(workers=2)


def test_the_latest_projects_are_remembered(tmp_path):
    for number in range(205):
        keep_computing_place(tmp_path / str(number), Where(workers=2))
    assert not computing_place(tmp_path / "4").elsewhere
    assert computing_place(tmp_path / "5").elsewhere
    assert computing_place(tmp_path / "204").elsewhere

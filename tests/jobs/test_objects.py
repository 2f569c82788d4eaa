"""The job that finds objects: what is kept in the run's folder, all of it or nothing."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import zarr
from skimage.measure import label

from napari_emda.errors import SettingsError
from napari_emda.events import Notice
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import ObjectsJob
from tests.jobs.conftest import CLASSES, RUN


def find(project, **fields):
    return execute(ObjectsJob(project=str(project), run=RUN, **fields))


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_class_is_found_and_measured(predicted, values):
    *_, last = find(predicted)
    folder = predicted / "runs" / RUN / "objects" / "target"
    assert last.result["path"] == str(folder)
    for k, name in enumerate(CLASSES[1:], 1):
        expected = label(values[k - 1] == 200, connectivity=1)
        ids = zarr.open_array(folder / f"{k}.zarr", mode="r")[...]
        np.testing.assert_array_equal(ids > 0, expected > 0)
        numbers = last.result["classes"][name]
        assert numbers["objects"] == expected.max() == ids.max()
        sizes = np.bincount(expected.ravel())[1:] * 50 * 8 * 8
        assert numbers["size"] == "volume (nm^3)"
        assert (numbers["total"], numbers["median"]) == (sizes.sum(), np.median(sizes))
        with (folder / f"{k}.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == expected.max()
    description = json.loads((folder / "objects.json").read_text())
    assert description["classes"] == {"1": "mitochondria", "2": "membrane"}


def test_objects_of_another_class_and_size_replace_those_before(predicted):
    list(find(predicted))
    settings = {"minimum_size": 3, "separate": 0.7}
    *_, last = find(predicted, class_name="membrane", settings=settings)
    folder = predicted / "runs" / RUN / "objects" / "target"
    assert {path.name for path in folder.iterdir()} == {
        "2.zarr",
        "2.csv",
        "2-queue.csv",
        "objects.json",
    }
    assert list(last.result["classes"]) == ["membrane"]
    description = json.loads((folder / "objects.json").read_text())
    assert description["settings"] == {
        "threshold": 0.5,
        "minimum_size": 3,
        "connectivity": 1,
        "separate": 0.7,
    }
    assert [path.name for path in folder.parent.iterdir()] == ["target"]


def test_a_stopped_search_changes_nothing(predicted):
    list(find(predicted))
    folder = predicted / "runs" / RUN / "objects"
    before = content(folder)
    count = len(list(find(predicted, settings={"separate": 0.7})))
    after = content(folder)
    for stop in (4, count // 2, count - 2):
        events = find(predicted, settings={"separate": 0.9})
        for _ in range(stop):
            next(events)
        events.close()
        assert content(folder) == after != before


def test_an_unknown_class_is_refused_at_once(predicted):
    with pytest.raises(SettingsError, match="There is no class 'mito'"):
        list(find(predicted, class_name="mito"))
    assert not (predicted / "runs" / RUN / "objects").exists()


def test_objects_are_separated_by_the_maps_of_the_model(predicted):
    """A block without a neck, with a contour through its middle."""
    run = predicted / "runs" / RUN
    zarr.open_array(run / "probabilities.zarr" / "target", mode="r+")[0] = 200
    maps = np.zeros((2, 3, 20, 30), np.uint8)
    maps[1] = 200
    maps[0, :, :, 14:16] = 255
    maps[1, :, :, 14:16] = 10
    zarr.save_array(run / "object_maps.zarr" / "target", maps)
    counts = []
    for neck in (0, 0.5):
        events = list(find(predicted, class_name="mitochondria", settings={"separate": neck}))
        counts.append(events[-1].result["classes"]["mitochondria"]["objects"])
        notices = [event.text for event in events if isinstance(event, Notice)]
        assert any("this is not used: choose separate" in text for text in notices) == (neck == 0)
    assert counts == [1, 2]
    ids = zarr.open_array(run / "objects" / "target" / "1.zarr", mode="r")[...]
    assert len(np.unique(ids[..., :14])) == len(np.unique(ids[..., 16:])) == 1

"""``napari-emda check-points``: from a draw to a calibrated mask, and back."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from napari_emda.data.box import Box
from napari_emda.project.project import Project
from tests.cli.calling import answer, call, image
from tests.predicted import CLASSES, RUN, annotations, project_with, tissue


@pytest.fixture
def truth():
    return tissue()[0]


@pytest.fixture
def project(tmp_path, truth):
    """Of a model that finds much too much."""
    image(tmp_path / "truth.tif", truth)
    return project_with(tmp_path, tissue(shift=4.0)[1])


def mask(project):
    with Project.open(project) as opened:
        return opened.predictions.of(RUN, "target").class_ids(Box.whole((6, 96, 96)))


def iou(found, truth):
    return ((found > 0) & (truth > 0)).sum() / ((found > 0) | (truth > 0)).sum()


def write_answers(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("point", "class"), *rows])
    return path


@pytest.fixture
def model(monkeypatch):
    """A model that exports need, although the volume is predicted already."""
    header = SimpleNamespace(classes=CLASSES, features_only=False)
    monkeypatch.setattr("napari_emda.inference.checkpoint.read_header", lambda path: header)
    for job in ("export", "objects"):
        monkeypatch.setattr(f"napari_emda.jobs.{job}.ensure_predicted", lambda *_: iter(()))


def test_points_are_drawn_answered_used_and_taken_back(project, truth, tmp_path, model):
    drawn = answer("check-points", project, "--draw", 60, "--seed", 3)
    assert [point["point"] for point in drawn["points"]] == list(range(1, 61))
    assert {point["state"] for point in drawn["points"]} == {"open"}
    assert "10 answers are needed" in drawn["report"]["remark"]

    rows = [
        (point["point"], CLASSES[truth[point["z"], point["y"], point["x"]]])
        for point in drawn["points"][:30]
    ]
    result = answer("check-points", project, "--answers", write_answers(tmp_path / "a.csv", rows))
    report = result["report"]
    assert (report["answered"], report["cannot_tell"]) == (30, 0)
    assert "50 answers" in report["remark"]
    assert not report["calibrated"]

    result = answer("check-points", project, "--truth", tmp_path / "truth.tif")
    report = result["report"]
    assert report["answered"] == 60
    for point in result["points"]:
        assert point["class"] == CLASSES[truth[point["z"], point["y"], point["x"]]]
    _, low, high = report["classes"]["mitochondria"]["share"]
    assert low <= (truth > 0).mean() <= high
    before = mask(project)
    _, low, high = report["classes"]["mitochondria"]["iou"]
    assert low <= iou(before, truth) <= high
    assert report["helps"]
    assert report["threshold"]["by_points"] > report["threshold"]["now"] + 0.1

    # Every answer is an annotation of one voxel, from which the next training learns.
    with Project.open(project) as opened:
        painted = annotations(opened)
        voxels = {(point["z"], point["y"], point["x"]) for point in result["points"]}
        assert set(map(tuple, np.argwhere(painted).tolist())) == voxels
        assert all(painted[voxel] == truth[voxel] + 1 for voxel in voxels)
        assert opened.regions.any_annotated()

    used = answer("check-points", project, "--use")
    assert used["report"]["calibrated"]
    after = mask(project)
    assert iou(after, truth) > iou(before, truth) + 0.1
    answer("export", project, "--what", "mask", "--to", tmp_path / "mask.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "mask.tif"), after)

    assert answer("check-points", project, "--undo")["undone"] == "the calibration"
    np.testing.assert_array_equal(mask(project), before)
    assert answer("check-points", project, "--undo")["undone"] == "30 answers"
    with Project.open(project) as opened:
        left = {(p["z"], p["y"], p["x"]) for p in drawn["points"][:30]}
        assert set(map(tuple, np.argwhere(annotations(opened)).tolist())) == left
    assert answer("check-points", project, "--undo")["undone"] == "30 answers"
    with Project.open(project) as opened:
        assert not annotations(opened).any()
        assert not opened.regions.any_annotated()
    status, out, _ = call("check-points", project, "--undo")
    assert status == 0
    assert "nothing to take back" in out


def test_a_draw_is_repeated_by_its_seed_and_the_next_one_is_another(project, tmp_path, truth):
    (tmp_path / "again").mkdir()
    again = project_with(tmp_path / "again", tissue(shift=4.0)[1])
    first = answer("check-points", project, "--draw", 20, "--seed", 1)["points"]
    assert answer("check-points", again, "--draw", 20, "--seed", 1)["points"] == first
    both = answer("check-points", project, "--draw", 20, "--seed", 1)["points"]
    assert both[:20] == first
    places = [{(p["z"], p["y"], p["x"]) for p in points} for points in (both[:20], both[20:])]
    assert len(places[0] & places[1]) < 5


def test_what_is_annotated_already_is_not_asked(project, truth):
    with Project.open(project, exclusive=True) as opened:
        region = opened.regions.add("target", Box((0, 0, 0), (6, 96, 48)))
        opened.annotations.accept(region, truth[:, :, :48] + 1)
    points = answer("check-points", project, "--draw", 40)["points"]
    for point in points:
        assert (point["state"] == "answered") == (point["x"] < 48)
    # Such an answer is nobody's decision: there is nothing to take back.
    assert answer("check-points", project, "--undo")["undone"] == ""


def test_points_that_cannot_be_told_are_left_out_and_said(project, tmp_path, truth):
    points = answer("check-points", project, "--draw", 40)["points"]
    told = [(p["point"], int(truth[p["z"], p["y"], p["x"]])) for p in points]
    told[:3] = [(number, "?") for number, _ in told[:3]]
    path = write_answers(tmp_path / "a.csv", told)
    status, out, err = call("check-points", project, "--answers", path)
    assert status == 0, err
    assert "3 of 40 points cannot be told" in out
    with Project.open(project) as opened:
        assert not annotations(opened)[points[0]["z"], points[0]["y"], points[0]["x"]]


def test_too_few_answers_one_kind_and_a_right_model_change_nothing(tmp_path, truth, refused):
    image(tmp_path / "truth.tif", truth)
    nothing = np.zeros_like(truth)
    nothing[-1, -1, -1] = 1
    image(tmp_path / "nothing.tif", nothing)
    # Right nearly everywhere: there is nothing to gain.
    right = np.where(truth > 0, 250, 4).astype(np.uint8)[None]
    project = project_with(tmp_path, right)
    answer("check-points", project, "--draw", 9)
    result = answer("check-points", project, "--truth", tmp_path / "truth.tif")
    assert result["report"]["classes"] == {}
    refused(("check-points", project, "--use"), "10 answers are needed", folder=tmp_path / "p")
    answer("check-points", project, "--undo")
    answer("check-points", project, "--draw", 60)
    result = answer("check-points", project, "--truth", tmp_path / "nothing.tif")
    assert "All points are background" in result["report"]["remark"]
    assert result["report"]["classes"]["mitochondria"]["share"][0] < 0.1
    refused(("check-points", project, "--use"), "All points are background", folder=tmp_path / "p")
    answer("check-points", project, "--undo")
    answer("check-points", project, "--truth", tmp_path / "truth.tif")
    refused(("check-points", project, "--use"), "as good as it is", folder=tmp_path / "p")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("number,class\n1,0\n", "no columns"),
        ("point,class\none,0\n", "Line 2"),
        ("point,class\n1,0\n1,1\n", "again"),
        ("point,class\n1,membrane\n", "no class 'membrane'"),
        ("point,class\n1,2\n", "no class '2'"),
        ("point,class\n21,0\n", "no check point 21"),
        ("point,class\n0,0\n", "no check point 0"),
        ("point,class\n" + "9" * 5000 + ",0\n", "Line 2"),
    ],
)
def test_answers_that_cannot_be_read_change_nothing(project, tmp_path, refused, text, part):
    answer("check-points", project, "--draw", 20)
    (tmp_path / "a.csv").write_text(text)
    command = ("check-points", project, "--answers", tmp_path / "a.csv")
    refused(command, part, folder=tmp_path / "p")


def test_an_answer_is_not_replaced_silently(project, tmp_path, refused):
    answer("check-points", project, "--draw", 20)
    path = write_answers(tmp_path / "a.csv", [(1, 0)])
    answer("check-points", project, "--answers", path)
    refused(("check-points", project, "--answers", path), "answered already", folder=project)
    refused(("check-points", project, "--draw", 0), "--draw", folder=project)


def test_with_several_classes_each_has_a_share_and_an_iou(tmp_path):
    classes = ("background", "mitochondria", "vesicles")
    truth, stored = tissue(classes=2)
    image(tmp_path / "truth.tif", truth)
    project = project_with(tmp_path, stored, classes)
    answer("check-points", project, "--draw", 150)
    result = answer("check-points", project, "--truth", tmp_path / "truth.tif")
    found = result["report"]["classes"]
    assert list(found) == ["mitochondria", "vesicles"]
    for k, name in enumerate(found, start=1):
        _, low, high = found[name]["share"]
        assert low <= (truth == k).mean() <= high
        with Project.open(project) as opened:
            ids = opened.predictions.of(RUN, "target").class_ids(Box((0, 0, 0), truth.shape))
        _, low, high = found[name]["iou"]
        assert low <= ((ids == k) & (truth == k)).sum() / ((ids == k) | (truth == k)).sum() <= high

"""The journal of check points, the calibration beside a prediction, and files of others."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from napari_emda.active_learning.check_points import CheckedPrediction, answer, draw_points
from napari_emda.active_learning.point_report import report
from napari_emda.data.box import Box
from napari_emda.data.calibration import calibrated
from napari_emda.errors import DataError, JobError
from napari_emda.io.journal import append, sealed
from napari_emda.project.check_points import CANNOT_TELL, parse_entry
from napari_emda.project.checking.check import check
from napari_emda.project.checking.damage import Damage
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_calibration import (
    StoredCalibration,
    described,
    origin_of,
    write_calibration,
)
from napari_emda.project.stored_prediction import StoredPrediction
from tests.predicted import RUN, annotations, project_with, store, tissue


@pytest.fixture
def project(tmp_path):
    with Project.open(project_with(tmp_path, tissue()[1]), exclusive=True) as opened:
        yield opened


def drawn(project, count=12):
    checked = CheckedPrediction.of(project)
    steps = draw_points(project, checked, count, 0)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            project.check_points.add(stop.value)
            return checked


def points_of(project):
    return CheckedPrediction.of(project).asked(project)[1]


def calibration(project, **values):
    origin = origin_of(StoredPrediction(RunFolder.of(project.folder, RUN), "target"))
    values = {"slope": 0.8, "offset": -1.0, "prediction": origin, "threshold": 0.4, **values}
    return StoredCalibration(**values)


def test_undo_takes_back_one_answer_after_the_other(project):
    drawn(project)
    for number, value in ((1, 1), (2, CANNOT_TELL), (3, 0)):
        answer(project, points_of(project), {number: value})
    points = points_of(project)
    assert [point.answer for point in points[:4]] == [1, CANNOT_TELL, 0, None]
    painted = annotations(project)
    assert [painted[points[i].voxel] for i in range(4)] == [2, 0, 1, 0]
    for left in ([1, CANNOT_TELL, None], [1, None, None], [None, None, None]):
        assert project.check_points.undo(RUN, "target") is not None
        assert [point.answer for point in points_of(project)[:3]] == left
    assert not annotations(project).any()
    assert project.check_points.undo(RUN, "target") is None


def test_undo_leaves_what_was_done_last_for_another_prediction(project):
    drawn(project)
    answer(project, points_of(project), {1: 1})
    assert project.check_points.undo("002-other", "target") is None
    assert points_of(project)[0].answer == 1


def test_undo_leaves_what_was_painted_since(project):
    drawn(project)
    answer(project, points_of(project), {1: 1})
    voxel = points_of(project)[0].voxel
    project.annotations.require("target")[voxel] = 1
    project.check_points.undo(RUN, "target")
    assert annotations(project)[voxel] == 1


def test_a_calibration_changes_every_reader_of_the_prediction_and_goes_with_it(project):
    run = RunFolder.of(project.folder, RUN)
    stored = np.asarray(project.predictions.of(RUN, "target").stored)
    before = described(run, "target")
    made = calibration(project)
    write_calibration(run, "target", made)
    prediction = project.predictions.of(RUN, "target")
    expected = calibrated(stored, made.calibration)
    np.testing.assert_array_equal(prediction.reported[...], expected)
    np.testing.assert_array_equal(np.asarray(prediction.stored), stored)
    ids = prediction.class_ids(Box.whole(stored.shape[1:]))
    np.testing.assert_array_equal(ids, stored[0] >= made.calibration.first_level)
    # Objects that were found in the mask before are not those of this one.
    assert described(run, "target") != before
    # Of another model's prediction, the calibration is not used, and that is said.
    store(project.folder, stored, model="another")
    assert project.predictions.of(RUN, "target").calibration is None
    drawn(project)
    assert "not used" in " ".join(report(project, CheckedPrediction.of(project)).sentences())


@pytest.mark.parametrize(
    "changes",
    [{"slope": float("inf")}, {"offset": float("nan")}, {"threshold": 0}, {"format": 2}],
)
def test_nonsense_is_no_calibration(changes):
    values = {"slope": 0.8, "offset": -1.0, "threshold": 0.4}
    assert StoredCalibration.model_validate(values).calibration.slope == 0.8
    with pytest.raises(ValidationError):
        StoredCalibration.model_validate(values | changes)


def test_a_damaged_calibration_is_named(project):
    run = RunFolder.of(project.folder, RUN)
    run.calibration("target").write_text("[1, {")
    with pytest.raises(JobError, match="is damaged"):
        project.predictions.of(RUN, "target")


def test_points_belong_to_one_prediction(project):
    drawn(project)
    stored = np.asarray(project.predictions.of(RUN, "target").stored)
    store(project.folder, stored, model="another")
    assert points_of(project) == []


def test_an_incomplete_prediction_is_not_drawn_from(project):
    StoredPrediction(RunFolder.of(project.folder, RUN), "target").forget()
    with pytest.raises(JobError, match="predict it first"):
        CheckedPrediction.of(project)


DRAW = {
    "format": 1,
    "id": "a1",
    "run": RUN,
    "volume": "target",
    "prediction": {"model": "m"},
    "classes": ["background", "mitochondria"],
    "seed": 0,
    "counts": [[7] * 256],
    "points": [[0, 1, 2, 1, 40]],
}
"""As it is written today; projects with it must keep opening."""


@pytest.mark.parametrize(
    "changes",
    [
        {"points": [[0, 0, -1, 1, 3]]},
        {"points": [[0, 0, 1, 2, 3]]},
        {"points": [[0, 0, 1, 1, 256]]},
        {"points": [[0, 0, 1e30, 1, 3]]},
        {"points": []},
        {"counts": [[1] * 255]},
        {"counts": []},
        {"counts": [[-1] * 256]},
        {"id": "../../other"},
        {"volume": "../target"},
        {"run": "/etc"},
        {"format": 2},
    ],
)
def test_nonsense_is_no_draw(changes):
    assert parse_entry(json.dumps({"draw": DRAW}).encode()).box == Box((0, 1, 2), (1, 2, 3))
    with pytest.raises(ValueError, match="Not an entry of check points"):
        parse_entry(json.dumps({"draw": DRAW | changes}).encode())


def test_points_of_others_are_refused_if_they_do_not_fit_and_reported_if_damaged(project):
    drawn(project)
    path = project.folder / "check_points.jsonl"
    (line,) = path.read_text().splitlines()
    good = json.loads(line)["draw"]
    for changes in ({"points": [[0, 0, 5_000, 1, 3]]}, {"classes": ["background", "nuclei"]}):
        path.unlink()
        append(path, [json.dumps({"draw": good | changes})])
        with pytest.raises(DataError, match="do not fit"):
            points_of(project)
    path.unlink()
    append(path, [json.dumps({"draw": good | {"id": "../.."}}), "[]"])
    assert points_of(project) == []
    damages = [found for found in check(project.folder) if isinstance(found, Damage)]
    assert "check_points.jsonl" in [found.place for found in damages]


def test_answers_that_fit_no_draw_have_no_effect(project):
    drawn(project)
    name = next(iter(project.check_points.read().draws))
    for answers in (
        {"draw": "nobody", "classes": [[0, 1]]},
        {"draw": name, "classes": [[500, 1]]},
        {"draw": name, "classes": [[0, 2]]},
    ):
        append(project.folder / "check_points.jsonl", [json.dumps({"answers": answers})])
    with (project.folder / "check_points.jsonl").open("ab") as file:
        file.write(sealed('{"undo": 1}') + b'{"answers": {"dra')
    assert {point.answer for point in points_of(project)} == {None}
    answer(project, points_of(project), {1: 0})
    assert points_of(project)[0].answer == 0

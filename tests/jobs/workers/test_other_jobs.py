"""Whatever a job has to predict is predicted by its workers."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import zarr

from napari_emda.events import Finished, Started, Suggested, TileDone
from napari_emda.inference import predict
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import ExportJob, ObjectsJob, PredictJob, ScoreJob, SuggestJob
from napari_emda.settings.where import Where
from tests.jobs.workers.conftest import CUT, SHAPE, prediction, stored


@pytest.fixture
def not_here(monkeypatch):
    """This process predicts nothing itself."""

    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(predict, "predict_tiles", refuse)


def jobs(folder, truth):
    common = {"project": str(folder), "volume": "wide"}
    return {
        "score": ScoreJob(**common, against=str(truth)),
        "export": ExportJob(**common, what="mask", to=str(folder.parent / "mask.zarr")),
        "objects": ObjectsJob(**common),
        "suggest": SuggestJob(**common, settings={"count": 2, "patch": 32, "device": "cpu"}),
    }


@pytest.mark.parametrize("kind", ["score", "export", "objects", "suggest"])
def test_other_jobs_have_their_workers_predict(kind, folder, scheduler, not_here):
    truth = folder.parent / "truth.zarr"
    zarr.save_array(truth, np.random.default_rng(0).integers(0, 2, SHAPE).astype(np.uint8))
    job = jobs(folder, truth)[kind]
    job = job.model_copy(update={"where": Where(scheduler=scheduler)})
    events = list(execute(job))
    assert isinstance(events[-1], Finished)
    assert any(isinstance(event, TileDone) for event in events)
    assert stored(folder).predicted.share > 0
    (started,) = [event for event in events if isinstance(event, Started)]
    if kind == "suggest":
        assert started.device == f"the workers of {scheduler}"
        assert any(isinstance(event, Suggested) and event.regions for event in events)


def test_a_prediction_goes_on_in_the_number_format_in_which_it_was_begun(folder, monkeypatch):
    """A prediction of another processor is not begun anew."""
    events = execute(prediction(folder))
    done = [next(event for event in events if isinstance(event, TileDone)).box for _ in range(3)]
    events.close()
    assert stored(folder).header["precision"] == "32"
    # As on a processor that is fast in bfloat16.
    monkeypatch.setattr("napari_emda.inference.device._has_bf16", lambda device: True)
    job = PredictJob(project=str(folder), volume="wide", settings={"block": 512})
    rest = [event.box for event in execute(job) if isinstance(event, TileDone)]
    assert not set(done) & set(rest)
    assert len(done) + len(rest) == 12
    assert stored(folder).header["precision"] == "32"


def test_workers_compute_with_the_engine_of_the_job(folder, scheduler, expected, tmp_path):
    """By OpenVINO, two workers have the bytes of one process."""
    pytest.importorskip("openvino")
    copy = tmp_path / "alone" / "project"
    shutil.copytree(folder.parent, copy.parent)
    settings = CUT | {"engine": "openvino"}
    for where, project in ((Where(), copy), (Where(scheduler=scheduler), folder)):
        job = PredictJob(project=str(project), volume="wide", settings=settings, where=where)
        assert sum(isinstance(event, TileDone) for event in execute(job)) == 12
        assert stored(project).header["engine"] == "openvino"
    found = stored(folder).probabilities[:]
    np.testing.assert_array_equal(found, stored(copy).probabilities[:])
    assert np.abs(found.astype(int) - expected).max() <= 1

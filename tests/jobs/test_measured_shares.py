"""Check points say how much of each class a training expects."""

from __future__ import annotations

import numpy as np
import pytest

from napari_emda.errors import JobError
from napari_emda.jobs.measured_shares import with_measured_shares
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from tests.cli.calling import answer, image
from tests.predicted import project_with, tissue


def job(project, **settings):
    return TrainJob(project=str(project), method="auto", method_settings=settings)


def resolved(folder, **settings):
    with Project.open(folder) as project:
        return with_measured_shares(project, job(folder, **settings))


@pytest.mark.parametrize("classes", [1, 2])
def test_a_new_training_expects_what_the_points_have_measured(tmp_path, classes):
    truth, stored = tissue(shift=2.0, classes=classes)
    names = ("background", "mitochondria", "vesicles")[: classes + 1]
    folder = project_with(tmp_path, stored, names)
    image(tmp_path / "truth.tif", truth)
    with pytest.raises(JobError, match="no target has 10 answers: answer some"):
        resolved(folder, amounts="measured")
    answer("check-points", folder, "--draw", 150)
    with pytest.raises(JobError, match="no target has 10 answers"):
        resolved(folder, amounts="measured")
    report = answer("check-points", folder, "--truth", tmp_path / "truth.tif")["report"]
    resolved_job, sentences = resolved(folder, amounts="measured")
    shares = [float(share) for share in resolved_job.method_settings["measured_shares"].split(",")]
    assert len(shares) == classes
    for k, name in enumerate(names[1:], 1):
        _, low, high = report["classes"][name]["share"]
        assert low <= shares[k - 1] <= high
        assert shares[k - 1] == pytest.approx((truth == k).mean(), abs=0.05)
        interval = f"(95 % interval: {100 * low:.1f} to {100 * high:.1f} %)"
        assert f"{name} {100 * shares[k - 1]:.3g} % {interval}" in sentences[0]


@pytest.mark.parametrize(
    "settings",
    [{}, {"amounts": "source"}, {"amounts": "measured", "measured_shares": "0.2"}],
    ids=["default", "as in the source", "given"],
)
def test_what_is_given_is_left_as_it_is(tmp_path, settings):
    folder = project_with(tmp_path, tissue()[1])
    resolved_job, sentences = resolved(folder, **settings)
    assert resolved_job == job(folder, **settings)
    assert not sentences


def test_given_shares_that_are_not_used_are_said(tmp_path):
    folder = project_with(tmp_path, tissue()[1])
    settings = {"amounts": "source", "measured_shares": "0.2"}
    resolved_job, (sentence,) = resolved(folder, **settings)
    assert resolved_job == job(folder, **settings)
    assert "0.2 are not used: choose amounts=measured" in sentence


def test_targets_count_by_their_size(tmp_path, monkeypatch):
    from napari_emda.jobs import measured_shares

    folder = project_with(tmp_path, tissue()[1])
    image(tmp_path / "larger.tif", np.zeros((18, 96, 96), np.uint8))
    with Project.open(folder, exclusive=True) as project:
        project.volumes.add(tmp_path / "larger.tif", "target", name="larger")

    class Found:
        def __init__(self, share):
            self.classes = {"mitochondria": type("", (), {"share": (share, 0, 1)})}

    reports = {"target": Found(0.4), "larger": Found(0.2)}
    monkeypatch.setattr(measured_shares, "_report_of", lambda _, name: reports[name])
    resolved_job, sentences = resolved(folder, amounts="measured")
    assert resolved_job.method_settings["measured_shares"] == "0.25"
    assert "mitochondria 25 %" in sentences[0]

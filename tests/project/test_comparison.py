"""Whether adapting helped: the run to compare with, and the sentence about it."""

from __future__ import annotations

import json
import shutil

import pytest
from sklearn.metrics import jaccard_score

from napari_emda.events import Finished
from napari_emda.jobs.execute import execute
from napari_emda.project.comparison import by_iou, by_score, counterpart, missing
from napari_emda.project.job_files import PredictJob, ScoreJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.settings.training import TrainSettings

TINY = {"patch": 32, "batch": 2, "device": "cpu", "profile": "test"}


def finish(job):
    """Run a job; returns its last event."""
    *_, last = execute(job)
    assert isinstance(last, Finished)
    return last


def train(folder, method, **values):
    settings = TrainSettings(**{**TINY, "steps": 2, **values})
    job = TrainJob(
        project=str(folder), method=method, settings=settings, network_settings={"base_channels": 8}
    )
    return finish(job)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, phantom_files):
    """The folder of a project with a run that adapts and one that does not, and their events."""
    folder = tmp_path_factory.mktemp("comparison") / "project"
    with Project.create(folder, ("background", "mitochondria")) as created:
        labels = phantom_files["source", "labels"]
        image = phantom_files["source", "image"]
        created.volumes.add(image, "source", labels=labels, name="source")
        created.volumes.add(phantom_files["target", "image"], "target", name="target")
    # The spectrum is a setting that a training without adaptation cannot have.
    adapted = train(folder, "histogram", spectrum="common")
    return folder, adapted, train(folder, "source_only")


@pytest.fixture
def project(trained, tmp_path):
    """A copy of the trained project, open."""
    shutil.copytree(trained[0], tmp_path / "project")
    with Project.open(tmp_path / "project") as opened:
        yield opened


def test_a_training_reports_the_kept_model_and_the_comparison(trained):
    _, adapted, plain = trained
    assert adapted.text.startswith("Run 001-histogram is trained. ")
    assert "was kept" in adapted.details
    assert "train source_only, which does not adapt, with the same profile" in adapted.details
    assert adapted.result["source_only"] is None and adapted.result["helped"] is None
    assert plain.result["source_only"] == "002-source_only"
    assert "(run 001-histogram)" in plain.details and "(run 002-source_only)" in plain.details
    assert set(adapted.result["scores"]) >= {
        "score",
        "solidity_gap",
        "objects",
        "foreground_fraction",
    }


def test_runs_are_compared_only_if_they_were_trained_alike(project):
    assert counterpart(project, "001-histogram") == "002-source_only"
    assert counterpart(project, "002-source_only") == "001-histogram"
    train(project.folder, "source_only", steps=1)
    train(project.folder, "source_only", target_box=":,:48,:")
    train(project.folder, "source_only", target_statistics="on")
    assert counterpart(project, "001-histogram") == "002-source_only"
    train(project.folder, "source_only", seed=1)
    assert counterpart(project, "001-histogram") == "006-source_only"
    settings = TrainSettings(**TINY, steps=2)
    job = TrainJob(
        project=str(project.folder),
        method="histogram",
        settings=settings,
        network_settings={"base_channels": 8},
        start_from="001-histogram",
    )
    last = finish(job)
    assert counterpart(project, last.result["run"]) is None
    assert "adapting" not in last.text + last.details


@pytest.mark.parametrize(
    ("score", "other", "helped", "words"),
    [
        (0.5, 0.8, True, "Adapting seems to have helped: go on with run 001-histogram."),
        (0.9, 0.8, False, "Warning: adapting seems to have made things worse"),
        (0.8, 0.81, None, "not clear"),
    ],
)
def test_the_lower_score_is_the_better_one(project, score, other, helped, words):
    scores = {"001-histogram": score, "002-source_only": other}
    for run in scores:
        comparison = by_score(project, run, scores.get)
        assert comparison.helped is helped
        assert words in comparison.text
        assert f"{scores['001-histogram']:.2f} with adaptation" in comparison.details
        remedy = "use run 002-source_only, or try another method."
        assert (remedy in comparison.text) == (helped is False)


def test_a_run_without_validations_cannot_be_compared(project):
    comparison = by_score(project, "001-histogram", {"001-histogram": 0.5}.get)
    assert comparison.helped is None
    assert "was trained without validations on the target" in comparison.details


def test_the_missing_run_is_the_same_training_without_adaptation(project):
    assert missing(project, "001-histogram") is missing(project, "002-source_only") is None
    shutil.rmtree(project.folder / "runs" / "002-source_only")
    job = missing(project, "001-histogram")
    finish(job)
    assert counterpart(project, "001-histogram") == "002-source_only"


@pytest.mark.parametrize(
    ("iou", "other", "helped", "words"),
    [
        (0.5, 0.4, True, "+0.100"),
        (0.4, 0.5, False, "Warning"),
        (0.4, 0.405, None, "made no difference"),
    ],
)
def test_with_labels_the_higher_iou_is_the_better_one(iou, other, helped, words):
    comparison = by_iou(iou, other, "002-source_only")
    assert comparison.helped is helped
    assert words in comparison.text


def test_the_score_job_reports_both_ious_and_the_difference(project, phantoms, phantom_files):
    truth = phantom_files["target", "labels"]
    last = finish(ScoreJob(project=str(project.folder), against=str(truth), run="001-histogram"))
    expected = {}
    for run in ("001-histogram", "002-source_only"):
        finish(PredictJob(project=str(project.folder), run=run))
        predicted = project.predictions.of(run, "target").classes[0] >= 128
        expected[run] = jaccard_score(
            phantoms["target"][1].ravel() > 0, predicted.ravel(), zero_division=0
        )
    plain = last.result["source_only"]
    assert last.result["iou"] == pytest.approx(expected["001-histogram"])
    assert plain["iou"] == pytest.approx(expected["002-source_only"])
    assert plain["difference"] == pytest.approx(last.result["iou"] - plain["iou"])
    assert plain["run"] == "002-source_only" and plain["run"] in last.text
    alone = finish(ScoreJob(project=str(project.folder), against=str(truth), run="002-source_only"))
    assert alone.result["source_only"] is None and alone.result["helped"] is None


def test_another_checkpoint_is_another_prediction(project, phantom_files):
    train(
        project.folder,
        "histogram",
        steps=3,
        validations=3,
        learning_rate=0.05,
        keep="average",
        checkpoints_kept=2,
    )
    run = project.runs.names()[-1]
    journal = project.run(run).journal("target")
    models = set()
    for checkpoint in project.run(run).models():
        finish(PredictJob(project=str(project.folder), run=run, checkpoint=checkpoint))
        models.add(json.loads(journal.read_text().splitlines()[0])["model"])
    assert len(models) >= 2

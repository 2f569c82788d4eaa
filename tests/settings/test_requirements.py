"""What is missing: the same sentence in the dock, on the command line and in a job."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from napari_emda._gui.process import catalogue
from napari_emda.active_learning.strategy import strategies
from napari_emda.cli import main
from napari_emda.errors import JobError
from napari_emda.jobs.execute import execute
from napari_emda.methods.base import methods
from napari_emda.project.job_files import SuggestJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.settings.requirements import Available, Requirements
from napari_emda.settings.suggestion import QuerySettings

LABELS = Requirements(labels="needed")
UNSURE = Requirements(model="classes", dropout=True, earlier_run=True)


@pytest.mark.parametrize(
    ("requirements", "available", "sentence"),
    [
        (Requirements(domains=("target",)), Available(domains=("source",)), "a needs a target"),
        (LABELS, Available(labelled=False), "a learns from labels and there are none"),
        (Requirements(annotations=True), Available(annotated=False), "learns from annotated"),
        (Requirements(model="features"), Available(), "a needs a model and there is none"),
        (UNSURE, Available(run="r", predicts=False), "'r' was trained without labels"),
        (UNSURE, Available(run="r", dropout=False), "'r' was trained without dropout, which a"),
        (UNSURE, Available(run="r", earlier_run=False), "'r' did not start from another run"),
        (UNSURE, Available(run="r"), ""),
        (Requirements(labels="optional"), Available(labelled=False), ""),
        (Requirements(labels="unused"), Available(labelled=False), ""),
        (Requirements(optional_domains=("source",)), Available(domains=()), ""),
        (Requirements(model="features"), Available(run="r", predicts=False, dropout=False), ""),
    ],
)
def test_missing_requirements_are_one_sentence_with_a_remedy(requirements, available, sentence):
    missing = requirements.missing("a", available)
    if not sentence:
        assert missing == ""
        requirements.check("a", available)
        return
    assert sentence in missing
    assert ": " in missing  # the remedy follows
    assert missing.endswith(".")
    with pytest.raises(JobError) as refused:
        requirements.check("a", available)
    assert str(refused.value) == missing


def test_requirements_survive_json():
    for entry in (*map(methods.__getitem__, methods.names()), strategies["bald"]):
        text = json.dumps(entry.requirements.model_dump())
        assert Requirements.model_validate(json.loads(text)) == entry.requirements


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        (Requirements(domains=("source", "target"), labels="needed"), "source and target"),
        (Requirements(domains=("target",), annotations=True), "target and annotated patches"),
        (
            Requirements(optional_domains=("source",), labels="optional"),
            "a volume with or without labels",
        ),
        (Requirements(), "no model"),
        (
            Requirements(model="classes", dropout=True),
            "a model that predicts classes, trained with dropout",
        ),
    ],
)
def test_requirements_in_words(requirements, words):
    assert requirements.in_words() == words


@pytest.fixture
def unlabelled(tmp_path):
    """A project with a target only, without a run."""
    zarr.save_array(
        tmp_path / "target.zarr", np.random.default_rng(0).integers(0, 255, (2, 160, 160), np.uint8)
    )
    with Project.create(tmp_path / "p", ("background", "mitochondria")) as project:
        project.volumes.add(tmp_path / "target.zarr", "target", spacing=(50.0, 8.0, 8.0))
    return tmp_path / "p"


@pytest.fixture(scope="module")
def dock_catalogue():
    """The dock's list of methods and strategies, read from the output of the command line."""
    import contextlib
    import io

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main(["methods", "--json"])
    return catalogue.parse(printed.getvalue().splitlines()[-1])


def test_the_dock_has_the_declared_requirements(dock_catalogue):
    for name in methods.names():
        assert dock_catalogue.methods[name].requirements == methods[name].requirements
    for name in strategies.names():
        assert dock_catalogue.strategies[name].requirements == strategies[name].requirements


def test_dock_command_line_and_job_refuse_a_method_alike(unlabelled, dock_catalogue, capsys):
    with Project.open(unlabelled) as project:
        sentences = {
            name: dock_catalogue.methods[name].missing(project) for name in methods.names()
        }
    refused = {name: sentence for name, sentence in sentences.items() if sentence}
    assert {"ynet", "uda", "finetune"} <= set(refused)
    assert not {"iic", "denoising"} & set(refused)
    for name, sentence in refused.items():
        with pytest.raises(JobError) as error:
            list(execute(TrainJob(project=str(unlabelled), method=name)))
        assert str(error.value) == sentence
    with pytest.raises(SystemExit) as end:
        main(["train", str(unlabelled), "--method", "uda"])
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == refused["uda"]


def test_dock_and_job_refuse_a_strategy_alike(unlabelled, dock_catalogue):
    for name in strategies.names():
        with Project.open(unlabelled) as project:
            sentence = dock_catalogue.strategies[name].missing(project)
        assert bool(sentence) == (name != "random")
        if sentence:
            settings = QuerySettings(strategy=name, patch=32)
            with pytest.raises(JobError) as error:
                list(execute(SuggestJob(project=str(unlabelled), settings=settings)))
            assert str(error.value) == sentence

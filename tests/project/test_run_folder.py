"""The files of a run, and the order of runs."""

import json
import random

import pytest

from napari_emda.errors import JobError
from napari_emda.project.job_files import PredictJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder

NUMBERS = [1, 2, 9, 10, 99, 100, 998, 999, 1000, 1001, 9999, 10000]


@pytest.fixture
def project(tmp_path):
    with Project.create(tmp_path / "project") as project:
        yield project


def trained(project, name):
    """The folder of a run that has a model."""
    run = RunFolder.of(project.folder, name)
    run.path.mkdir(parents=True)
    run.checkpoint.touch()
    return run


def test_runs_are_ordered_by_number_whatever_its_digits(project):
    names = [f"{number:03d}-{random.choice(['auto', 'uda'])}" for number in NUMBERS]
    for name in random.sample(names, len(names)):
        trained(project, name)
    assert project.runs.names() == names
    assert project.run().name == names[-1]


def test_runs_without_a_number_come_last(project):
    for name in ("best", "1000-auto", "999-auto", "another"):
        trained(project, name)
    assert project.runs.names() == ["999-auto", "1000-auto", "another", "best"]


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        ([], "001-uda"),
        (["001-auto"], "002-uda"),
        (["999-auto"], "1000-uda"),
        (["999-auto", "1000-auto"], "1001-uda"),
        (["1000-uda"], "1001-uda"),
        (["best", ".DS_Store", "7-auto"], "008-uda"),
    ],
)
def test_a_new_run_has_the_next_number(project, existing, expected):
    for name in existing:
        RunFolder.of(project.folder, name).path.mkdir(parents=True)
    assert project.runs.new("uda").name == expected


def test_a_folder_without_a_model_is_no_run_yet(project):
    run = project.runs.new("auto")
    assert project.runs.names() == []
    run.checkpoint.touch()
    assert project.runs.names() == [run.name]
    assert project.run(run.name) == run


def test_models_are_offered_with_the_latest_step_first(tmp_path):
    run = RunFolder(tmp_path)
    assert run.models() == ["selected", "last"]
    for step in (900, 50, 1000):
        run.candidate(step).parent.mkdir(exist_ok=True)
        run.candidate(step).touch()
    (run.candidate(1).parent / ".300-1a2b.safetensors").touch()  # incomplete, left by a crash
    assert run.candidates() == [50, 900, 1000]
    assert run.models() == ["selected", "last", "1000", "900", "50"]


def test_the_state_of_a_training_is_read_from_the_log(tmp_path):
    run = RunFolder(tmp_path)
    assert (run.log(), run.saved_step, run.finished) == ([], 0, False)
    with run.open_log() as log:
        for step in (10, 20):
            log.write(json.dumps({"event": "saved", "step": step}) + "\n")
        log.write('[1, 2]\n{"event": "sav')
    assert [entry["step"] for entry in run.log()] == [10, 20]
    assert (run.saved_step, run.finished) == (20, False)
    with run.open_log() as log:
        log.write('\n{"event": "finished"}\n')
    assert run.finished


def test_the_end_of_a_long_log_is_enough(tmp_path):
    run = RunFolder(tmp_path)
    with run.open_log() as log:
        log.write(json.dumps({"event": "saved", "step": 1, "text": "ä" * 2**20}) + "\n")
        log.write(json.dumps({"event": "saved", "step": 2}) + "\n")
    assert [entry["step"] for entry in run.last_logged()] == [2]
    assert len(run.log()) == 2


def test_the_job_of_a_run_is_read_as_it_was_written(tmp_path):
    run = RunFolder(tmp_path)
    assert run.training() is None
    with pytest.raises(JobError, match="cannot be read"):
        run.job()
    run.write_job(TrainJob(project="p", method="uda"))
    assert run.training() == run.job() == TrainJob(project="p", method="uda")
    run.write_job(PredictJob(project="p"))
    assert run.training() is None


def test_cluster_names_are_read_as_they_were_written(tmp_path):
    run = RunFolder(tmp_path)
    assert run.cluster_names() == {}
    run.write_cluster_names({10: "mitochondria", 2: "ER"})
    assert run.cluster_names() == {2: "ER", 10: "mitochondria"}

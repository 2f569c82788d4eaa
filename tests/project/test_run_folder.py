"""The files of a run, and the order of runs."""

import json
import random

import pytest

from napari_emda.errors import JobError
from napari_emda.project.job_files import PredictJob, TrainJob
from napari_emda.project.owner import Owner
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


def saved(run, step, steps=150, **more):
    """A checkpoint as far as the viewer reads it: the header of a safetensors file."""
    state = {"model": {"step": step}, "training": {"settings": {"steps": steps}}} | more
    header = json.dumps({"__metadata__": {"napari_emda": json.dumps(state)}}).encode()
    run.checkpoint.write_bytes(len(header).to_bytes(8, "little") + header)
    return run


def test_the_step_is_that_of_the_checkpoint_whatever_the_log_says(tmp_path):
    run = RunFolder(tmp_path)
    assert (run.log(), run.saved_step) == ([], 0)
    with run.open_log() as log:
        for step in (10, 20):
            log.write(json.dumps({"event": "saved", "step": step}) + "\n")
        log.write('[1, 2]\n{"event": "sav')
    assert [entry["step"] for entry in run.log()] == [10, 20]
    saved(run, 32)
    assert (run.saved_step, run.finished) == (32, False)
    assert run.interruption == "interrupted at step 32 of 150"
    saved(run, 150)
    assert (run.saved_step, run.finished, run.interruption) == (150, True, "")


def test_a_training_that_stopped_early_is_finished_until_it_goes_on(tmp_path):
    run = saved(RunFolder(tmp_path), 90)
    assert not run.finished
    with run.open_log() as log:
        log.write(json.dumps({"event": "finished", "result": {"step": 90}}) + "\n")
    assert run.finished
    saved(run, 100)
    assert not run.finished


def test_a_checkpoint_of_the_first_format_is_read_too(tmp_path):
    run = RunFolder(tmp_path)
    old = {"format": 1, "step": 7, "settings": {"steps": 60}}
    header = json.dumps({"__metadata__": {"napari_emda": json.dumps(old)}}).encode()
    run.checkpoint.write_bytes(len(header).to_bytes(8, "little") + header)
    assert run.interruption == "interrupted at step 7 of 60"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        b"\xff" * 99,
        b"\x02\0\0\0\0\0\0\0{}",
        b"\x02\0\0\0\0\0\0\0[]",
        b'\x28\0\0\0\0\0\0\0{"__metadata__":{"napari_emda":"{\\"a\\":1e9}"',
    ],
)
def test_a_damaged_checkpoint_has_no_step(tmp_path, content):
    run = RunFolder(tmp_path)
    run.checkpoint.write_bytes(content)
    assert (run.saved_step, run.interruption) == (0, "")


def test_an_interrupted_run_is_no_default_while_there_is_a_finished_one(project):
    for name, step in (("001-auto", 60), ("002-auto", 150), ("003-auto", 10)):
        saved(trained(project, name), step)
    assert project.runs.latest() == project.run().name == "002-auto"
    assert project.runs.interrupted() == ["003-auto", "001-auto"]
    assert project.runs.in_words("003-auto") == "003-auto (interrupted at step 10 of 150)"
    assert "because 003-auto was interrupted at step 10 of 150" in project.runs.remark("002-auto")
    saved(project.run("003-auto"), 150)
    assert (project.runs.latest(), project.runs.remark("003-auto")) == ("003-auto", "")


def test_an_interrupted_run_is_used_and_named_if_there_is_no_other(project):
    saved(trained(project, "001-auto"), 60)
    assert project.run().name == "001-auto"
    assert "interrupted at step 60 of 150" in project.runs.remark("001-auto")


def test_a_run_that_is_being_trained_is_not_interrupted_and_trained_by_nobody_else(project):
    run = saved(trained(project, "001-auto"), 60)
    init = Owner.of(1)
    init.write(run.path / "trained-by.json")
    assert run.interruption == ""
    with pytest.raises(JobError, match="another process"), run.training_alone():
        raise AssertionError("two processes train one run")
    # The same id, but another process: the one that was meant has ended.
    init.model_copy(update={"started": init.started - 3600}).write(run.path / "trained-by.json")
    assert run.interruption
    with run.training_alone():
        assert run.being_trained
    assert not run.being_trained
    # Whether a process of another computer has ended cannot be known.
    init.model_copy(update={"host": "elsewhere"}).write(run.path / "trained-by.json")
    with pytest.raises(JobError, match="on elsewhere"), run.training_alone():
        raise AssertionError("two processes train one run")


def test_what_a_killed_training_has_left_goes_when_it_goes_on(project):
    run = project.runs.new("auto")
    (run.path / "candidates").mkdir()
    left = [run.path / ".checkpoint-0123abcd-partial", run.path / "candidates/.4-0123abcd-partial"]
    for folder in left:
        folder.mkdir()
        (folder / "checkpoint.safetensors").touch()
    with run.training_alone():
        assert not any(folder.exists() for folder in left)


def test_the_end_of_a_long_log_is_enough(tmp_path):
    run = RunFolder(tmp_path)
    with run.open_log() as log:
        log.write(json.dumps({"event": "saved", "step": 1, "text": "ä" * 2**20}) + "\n")
        log.write(json.dumps({"event": "saved", "step": 2}) + "\n")
    assert [entry["step"] for entry in run.last_logged()] == [2]
    assert len(run.log()) == 2


def test_lines_of_a_log_that_are_no_events_are_passed_over(tmp_path):
    run = RunFolder(tmp_path)
    with run.open_log() as log:
        for line in ("[" * 5000, "1", "{", json.dumps({"event": "saved", "step": 3})):
            log.write(f"{line}\n")
    assert [entry["step"] for entry in run.log()] == [3]


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

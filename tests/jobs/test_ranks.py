"""The processes of a training on several devices: they start and end with it, and say why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from napari_emda.errors import JobError, SettingsError
from napari_emda.events import Finished, Notice, Saved, Started, Stepped
from napari_emda.inference import device
from napari_emda.jobs import ranks
from napari_emda.jobs.execute import execute
from napari_emda.methods.base import methods
from napari_emda.project.job_files import TrainJob
from tests.conftest import SMALL_TRAINING

SAYS = """
import sys
sys.stdout.write('{"error": "No such volume."}')
sys.exit(2)
"""


def job(project, devices=2, **values):
    settings = {**SMALL_TRAINING, **values.pop("settings", {})}
    return TrainJob(
        project=str(project.folder),
        method="histogram",
        settings=settings,
        network_settings={"base_channels": 8},
        devices=devices,
        **values,
    )


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """However many there are."""
    monkeypatch.setattr(device, "available_cores", lambda: 2)


def children():
    """Processes of this one that take part in a training."""
    return [
        child
        for child in psutil.Process().children()
        if any("rank_process" in part for part in child.cmdline())
    ]


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"devices": 3}, "3 devices are asked for, and there are 2 processor cores here: choose 1"),
        (
            {"settings": {"batch": 1}},
            "A batch of 1 cannot be shared among 2 devices: choose at most 1, or a batch of 2 or",
        ),
    ],
)
def test_devices_that_cannot_share_the_work_are_refused(values, said, project):
    with pytest.raises(SettingsError, match=said):
        list(execute(job(project, **values)))
    assert not project.runs.names()


def test_a_method_says_why_it_trains_on_one(project, monkeypatch):
    monkeypatch.setattr(methods["histogram"], "one_device", "its loss needs the whole batch")
    with pytest.raises(SettingsError, match="one device, because its loss needs the whole batch:"):
        list(execute(job(project)))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (SAYS, r"process 2 has failed \(No such volume\)"),
        ("import os; os.kill(os.getpid(), 9)", r"process 2 was killed \(SIGKILL\), perhaps"),
        ("import sys; sys.exit(1)", "process 2 has ended with exit code 1"),
    ],
)
def test_a_process_that_fails_at_its_start_ends_the_training(code, said, project, monkeypatch):
    monkeypatch.setattr(ranks, "COMMAND", (sys.executable, "-c", code))
    with pytest.raises(JobError, match=f"Of the 2 processes of the training, {said}.*again"):
        list(execute(job(project)))
    assert not project.runs.names()


@pytest.mark.parametrize(
    ("visible", "rank", "seen"), [("4,5,7", 0, "4,5,7"), ("4, 5,7", 2, "7,4,5"), ("0", 0, "0")]
)
def test_each_process_has_its_own_gpu_first(visible, rank, seen):
    assert ranks.own_gpu_first({"CUDA_VISIBLE_DEVICES": visible}, rank) == seen


# -- real ones -------------------------------------------------------------------------------------


def test_a_process_that_is_killed_ends_the_training_and_one_goes_on(project, monkeypatch):
    steps = []
    with pytest.raises(JobError) as raised:
        for event in execute(job(project, settings={"steps": 500, "batch": 2})):
            if isinstance(event, Started):
                assert event.device == "2 x cpu (1 threads)"
                (other,) = children()
            if isinstance(event, Stepped):
                steps.append(event.step)
            if len(steps) == 3:
                os.kill(other.pid, signal.SIGKILL)
    (run,) = project.runs.names()
    saved = project.run(run).saved_step
    assert saved >= 3
    assert str(raised.value) == (
        "Of the 2 processes of the training, process 2 was killed (SIGKILL), perhaps for lack of "
        f"memory: the work up to step {saved} is kept, resume the run {run}."
    )
    assert not children()

    # One device goes on, as on a computer that has no more.
    monkeypatch.setattr(device, "available_cores", lambda: 1)
    said = []
    events = execute(TrainJob(project=str(project.folder), method="", resume=run))
    for event in events:
        if isinstance(event, Notice):
            said.append(event.text)
        if isinstance(event, Stepped):
            break
    events.close()
    assert said == ["The run was trained on 2 devices, and goes on with 1 here."]
    assert project.run(run).saved_step == saved + 1


@pytest.mark.slow  # the parts: tests/training/test_ranks.py, and tests/jobs/test_worker.py
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_keeps_what_is_learnt(number, project):
    command = [sys.executable, "-m", "napari_emda", "train", str(project.folder)]
    command += ["--method", "histogram", "--steps", "100000", "--devices", "2", "--device", "cpu"]
    command += ["--set", "patch=32", "--set", "batch=2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with process:
        while not project.runs.names() or "step" not in process.stderr.readline():
            assert process.poll() is None
        others = psutil.Process(process.pid).children()
        began = time.monotonic()
        # As a batch system does.
        for each in (*others, process):
            each.send_signal(number)
        said = process.stderr.read()
        assert process.wait() == 3, said
    assert time.monotonic() - began < 30
    (run,) = project.runs.names()
    saved = project.run(run).saved_step
    assert saved > 0
    assert len(others) == 1
    assert not others[0].is_running()


FAILS = """
import sys
from napari_emda.errors import DataError
from napari_emda.jobs import rank_process

follow = rank_process.follow

def limited(training, begin):
    step = training.step

    def fails(batch, number):
        if number == 2:
            raise DataError("The disk is gone.")
        return step(batch, number)

    training.step = fails
    follow(training, begin)

rank_process.follow = limited
sys.exit(rank_process.main())
"""


@pytest.mark.slow  # the killed one above, and what is said at the start
def test_an_error_in_another_process_is_said_and_the_steps_before_are_kept(project, monkeypatch):
    monkeypatch.setattr(ranks, "COMMAND", (sys.executable, "-c", FAILS))
    with pytest.raises(JobError, match=r"process 2 has failed \(The disk is gone\): .*step 2 is"):
        list(execute(job(project)))
    (run,) = project.runs.names()
    assert project.run(run).saved_step == 2


@pytest.mark.slow  # tests/training/test_ranks.py: the same in processes of the test
def test_two_processes_go_on_bitwise(project):
    values = {"settings": {"steps": 6, "save_every": 1, "validations": 2}}
    whole = list(execute(job(project, **values)))
    assert isinstance(whole[-1], Finished)
    assert whole[-1].result["device"] == "2 x cpu (1 threads)"
    events = execute(job(project, **values))
    for event in events:
        if isinstance(event, Saved) and event.step == 3:
            break
    events.close()
    first, second = project.runs.names()
    list(execute(TrainJob(project=str(project.folder), method="", resume=second)))
    models = [project.run(run).checkpoint.read_bytes() for run in (first, second)]
    assert models[0] == models[1]

"""A job in a child process: it writes events, reads commands, and keeps its work when it ends."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import queue
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from napari_emda.errors import JobError
from napari_emda.events import (
    Failed,
    Finished,
    Preview,
    Saved,
    Started,
    Stepped,
    Stopping,
    from_json,
)
from napari_emda.inference import checkpoint
from napari_emda.jobs import worker
from napari_emda.jobs.execute import execute
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.project.job_files import PredictJob, TrainJob, write_job
from napari_emda.project.job_folder import JobFolder
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.training import TrainSettings

SETTINGS = {
    "patch": 32,
    "batch": 2,
    "report_every": 1,
    "save_every": 10,
    "validations": 2,
    "device": "cpu",
    "precision": "32",
}
RUN = "001-histogram"


def job(project, **values):
    settings = TrainSettings.parse({**SETTINGS, "steps": 100_000, **values})
    return TrainJob(
        project=str(project.folder),
        method="histogram",
        settings=settings,
        network_settings={"base_channels": 8},
    )


class Child:
    """``napari-emda run JOB --json`` as the dock starts it; its lines are read in a thread."""

    def __init__(self, job, folder):
        write_job(job, folder / "job.json")
        self.folder = JobFolder(folder)
        command = [sys.executable, "-m", "napari_emda", "run", str(folder / "job.json"), "--json"]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen(command, text=True, bufsize=1, **pipes)
        self.events = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            # Any other line raises here, and the test fails when it waits for an event.
            self.events.put(from_json(line))
        self.events.put(None)

    def send(self, command, **values):
        self.process.stdin.write(json.dumps({"command": command, **values}) + "\n")

    def until(self, kind, timeout=600):
        """The next event of a kind."""
        while True:
            event = self.events.get(timeout=timeout)
            assert event is not None, "the child ended"
            if isinstance(event, kind):
                return event

    def rest(self, timeout=600):
        """All events to the end."""
        return list(iter(lambda: self.events.get(timeout=timeout), None))

    def in_file(self):
        """The events since nobody reads the pipe any more."""
        return [from_json(line) for line in self.folder.events.read_text().splitlines()]

    def fall_silent(self):
        """Wait until no event has come for a while; without a pause this never ends."""
        with pytest.raises(queue.Empty):
            while True:
                self.events.get(timeout=3)

    def ended(self):
        return self.process.wait()


@pytest.fixture
def start(tmp_path):
    """A function that starts a child process, which is killed at the end of the test."""
    children = []

    def started(job):
        children.append(Child(job, tmp_path))
        return children[-1]

    yield started
    for child in children:
        process = child.process
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def saved_step(project):
    return checkpoint.read_header(project.run(RUN).checkpoint).step


# -- commands --------------------------------------------------------------------------------------


def test_a_job_pauses_resumes_previews_and_saves_its_state_when_the_viewer_is_gone(start, project):
    running = start(job(project))
    running.process.stdin.write(
        "rubbish\n[1]\n{}\n" + json.dumps({"command": "preview", "box": [1]}) + "\n"
    )
    running.send("attend")
    assert running.until(Started).run == RUN
    running.until(Stepped)
    running.send("pause")
    running.fall_silent()

    box = [2, 3, 8, 72, 16, 96]
    running.send("preview", volume="target", box=box)
    running.send("resume")
    preview = running.until(Preview)
    assert (preview.volume, list(preview.box)) == ("target", box)
    image = np.load(preview.path, allow_pickle=False)
    assert (image.shape, image.dtype) == ((1, 64, 80), np.uint8)

    running.until(Stepped)
    running.send("pause")
    running.process.stdin.close()  # the viewer is gone, while the job is paused
    assert running.ended() == 3
    # Nobody reads the pipe any more: the next viewer finds the end in a file.
    first, *_, last = running.in_file()
    assert first.run == RUN
    assert last.status == "stopped"
    assert last.result == {
        "run": RUN,
        "step": saved_step(project),
        "selected_step": saved_step(project),
    }
    assert f"Stopped at step {saved_step(project)}" in last.text
    assert running.process.stderr.read().count("not a command") == 4


def test_a_job_that_goes_on_by_itself_is_stopped_by_a_file(start, project):
    running = start(job(project))
    running.send("attend")
    running.until(Saved)
    running.send("pause")
    # Nobody else trains the same run; that it is free again once its process is killed is tested
    # below.
    again = TrainJob(project=str(project.folder), method="", resume=RUN)
    with pytest.raises(JobError, match="is being written by another process"):
        list(execute(again))
    running.send("detach")
    running.process.stdin.close()
    running.rest()
    running.process.send_signal(signal.SIGHUP)  # as when a terminal is closed
    events = running.folder.events
    while not (events.exists() and events.read_text().count("stepped") > 2):
        assert running.process.poll() is None
        time.sleep(0.01)
    running.folder.say("stop", {})
    assert running.ended() == 3
    first, *others, last = running.in_file()
    assert first.run == RUN
    # The stop may come in the middle of a validation, of which more is said meanwhile.
    (stopping,) = (event for event in others if isinstance(event, Stopping))
    assert stopping.seconds > 0
    assert last.text.startswith(f"Stopped at step {saved_step(project)};")


def test_a_stop_is_acknowledged_at_once_and_before_the_first_step_nothing_is_kept(start, project):
    running = start(job(project))
    running.send("stop")
    assert [(event.kind, event.status) for event in running.rest()] == [("finished", "stopped")]
    assert running.ended() == 3
    assert project.runs.names() == []


# Also of a job that is stopped by a file, above, and of a command that is ended by a signal, below.
@pytest.mark.slow
def test_a_stop_after_the_first_step_keeps_what_was_learnt(start, project):
    running = start(job(project))
    running.until(Stepped)
    running.send("stop")
    running.until(Stopping)
    assert running.rest()[-1].result["step"] == saved_step(project) > 0


@pytest.fixture
def run_here(tmp_path, monkeypatch):
    """A function that runs a job in this process with these input lines.

    It returns the exit status and the events.
    """
    monkeypatch.setattr(worker, "configure_process", lambda: None)
    # What leaves at once would end the tests.
    monkeypatch.setattr(worker.EventWriter, "end_before_start", lambda *_: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    # An interrupt may come anywhere, also where pytest itself is at work.
    monkeypatch.setattr(worker._thread, "interrupt_main", lambda: None)

    def run(job, lines=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        monkeypatch.setattr(sys, "stdout", out := io.StringIO())
        write_job(job, tmp_path / "job.json")
        status = worker.run(tmp_path / "job.json")
        lines = out.getvalue().splitlines()
        with contextlib.suppress(FileNotFoundError):
            lines += JobFolder(tmp_path).events.read_text().splitlines()
        return status, [from_json(line) for line in lines]

    return run


def test_the_end_of_input_does_not_stop_a_job_without_attend(run_here, project):
    status, events = run_here(job(project, steps=3))
    assert status == 0
    assert (events[-1].status, events[-1].result["step"]) == ("done", 3)


@pytest.mark.parametrize("commands", [["stop"], ["pause", "stop"], ["attend"]])
def test_a_job_stops_by_command_or_at_the_end_of_attended_input(commands, run_here, project):
    lines = "".join(json.dumps({"command": command}) + "\n" for command in commands)
    status, events = run_here(job(project), lines)
    assert status == 3
    assert events[-1].status == "stopped"
    assert sum(isinstance(event, Stepped) for event in events) < 100


def test_invalid_input_is_one_event_with_its_exit_code(run_here, project):
    status, (failed,) = run_here(job(project, patch=128))
    assert status == 2
    assert isinstance(failed, Failed)
    assert failed.mistake
    assert "choose patch size 96 or less" in failed.text.lower()
    assert not (project.folder / "runs").exists()


@pytest.mark.parametrize(
    ("error", "status", "mistake"),
    [
        (JobError("No."), 2, True),
        (ValueError("oops"), 1, False),
        (RuntimeError("CUDA error"), 1, False),
        (MemoryError(), 2, True),
    ],
)
def test_every_error_is_an_event(error, status, mistake, run_here, project, monkeypatch, capsys):
    def failing(*_):
        yield Started("train", "r", "cpu", 1)
        raise error

    monkeypatch.setattr(worker, "execute", failing)
    exit_code, (first, last) = run_here(job(project))
    assert exit_code == status
    assert isinstance(first, Started)
    assert last.mistake == mistake
    assert ("report it" in last.text) != mistake
    assert ("Traceback" in capsys.readouterr().err) != isinstance(error, JobError)


def test_what_went_wrong_is_one_line_whatever_names_a_file_holds(run_here, project):
    status, events = run_here(PredictJob(project=str(project.folder), run="a\n\x1b[2J"))
    assert (status, type(events[-1])) == (2, Failed)
    assert events[-1].text.isprintable()


def test_a_training_whose_log_cannot_be_written_keeps_what_it_has_learnt(
    run_here, project, monkeypatch
):
    written = []

    class Full(io.StringIO):
        def write(self, line):
            written.append(line)
            if len(written) > 2:
                raise OSError(errno.ENOSPC, "No space left on device", "log.jsonl")

    monkeypatch.setattr(RunFolder, "open_log", lambda _: Full())
    status, events = run_here(job(project, steps=100, save_every=50))
    assert (status, type(events[-1])) == (2, Failed)
    assert "make room" in events[-1].text
    assert saved_step(project) >= 2


def test_what_a_library_prints_is_not_among_the_events(run_here, project, monkeypatch):
    def talkative(*_):
        sys.stdout.write("Downloading weights ...\n")
        yield Finished("done", "Done.")

    monkeypatch.setattr(worker, "execute", talkative)
    assert run_here(job(project)) == (0, [Finished("done", "Done.")])


# -- signals ---------------------------------------------------------------------------------------


def test_a_signal_may_arrive_while_commands_are_read(monkeypatch, tmp_path):
    """It interrupts every line that runs, also in the middle of taking a command."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    writer = worker.EventWriter(tmp_path / "events.jsonl")
    commands = worker.Commands(PreviewRequest(), writer, tmp_path / "commands.jsonl")
    interrupted = []

    def interrupt(frame, event, _):
        if frame.f_code is worker.Commands.process.__code__ or "queue" in frame.f_code.co_filename:
            sys.settrace(None)
            commands.stop()
            interrupted.append(frame.f_lineno)
            sys.settrace(interrupt)
        return interrupt

    def read():
        sys.settrace(interrupt)
        commands.process()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(60)
    assert not reader.is_alive(), "it waits for itself"
    assert interrupted and commands.stopping


STEPS = 30


@pytest.fixture(scope="module")
def undisturbed(make_project, tmp_path_factory):
    """The folder of a project with a training that nothing has ended."""
    torch.set_num_threads(1)
    with make_project(tmp_path_factory.mktemp("undisturbed") / "whole") as whole:
        list(execute(job(whole, steps=STEPS)))
    return whole.folder


# A stop that is asked for is tested on the loop itself, too.
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow, id="stopped"),
        pytest.param(signal.SIGKILL, id="killed"),
    ],
)
def test_a_training_that_was_ended_resumes_to_the_same_weights(
    how, make_project, undisturbed, tmp_path
):
    """The weights are bitwise those of an undisturbed training, also from another process."""
    whole = Project.open(undisturbed)
    with make_project(tmp_path / "ended") as ended:
        command = [
            sys.executable,
            "-m",
            "napari_emda",
            "train",
            str(ended.folder),
            "--profile",
            "test",
            "--steps",
        ]
        command += [
            str(STEPS),
            *(part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")),
        ]
        command += ["--method", "histogram", "--set", "augmentation=strong"]
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        log = ended.folder / "runs" / RUN / "log.jsonl"
        while not (log.exists() and log.read_text().count("stepped") >= 12):
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(how)
        _, err = running.communicate()
        step = saved_step(ended)
        assert 10 <= step < STEPS
        if how == signal.SIGTERM:
            assert running.returncode == 3
            assert "Stopped on request; the work so far is kept." in err
            assert json.loads(log.read_text().splitlines()[-1])["step"] == step
        events = list(execute(TrainJob(project=str(ended.folder), method="", resume=RUN)))
        assert next(e for e in events if isinstance(e, Stepped)).step == step + 1
        assert any(isinstance(event, Saved) and event.step == STEPS for event in events)
        for which in ("last", "selected"):
            models = [checkpoint.find(project.run(RUN), which) for project in (whole, ended)]
            (_, whole_method), (_, ended_method) = map(checkpoint.load_method, models)
            assert all(
                torch.equal(a, b)
                for a, b in zip(
                    whole_method.state_dict().values(),
                    ended_method.state_dict().values(),
                    strict=True,
                )
            )
        assert [project.run(RUN).candidates() for project in (whole, ended)] == [[STEPS]] * 2

"""A job in a child process: every line out is an event, commands come in, and nothing is lost when it ends."""

from __future__ import annotations

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
from napari_emda.events import Failed, Finished, Preview, Saved, Started, Stepped, from_json
from napari_emda.inference import checkpoint
from napari_emda.jobs import worker as child
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import TrainJob, write_job
from napari_emda.settings.training import TrainSettings

SETTINGS = {
    "patch": 32,
    "batch": 2,
    "report_every": 1,
    "save_every": 10,
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

    def __init__(self, asked, folder):
        write_job(asked, folder / "job.json")
        command = [sys.executable, "-m", "napari_emda", "run", str(folder / "job.json"), "--json"]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen(command, text=True, bufsize=1, **pipes)
        self.events = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.events.put(
                from_json(line)
            )  # a line that is no event ends the thread, and the test in time
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

    def fall_silent(self):
        """Wait until nothing has come for a while, which it does without end where no pause is made."""
        with pytest.raises(queue.Empty):
            while True:
                self.events.get(timeout=3)

    def ended(self):
        return self.process.wait()


@pytest.fixture
def start(tmp_path):
    """A function that starts a child; what is left of it at the end is killed."""
    children = []

    def started(asked):
        children.append(Child(asked, tmp_path))
        return children[-1]

    yield started
    for one in children:
        one.process.kill()
        one.process.wait()
        for pipe in (one.process.stdin, one.process.stdout, one.process.stderr):
            pipe.close()


def saved_step(project):
    return checkpoint.read_header(project.run(RUN).checkpoint).step


# -- commands ----------------------------------------------------------------------------------------------------


def test_it_pauses_resumes_previews_and_saves_its_state_when_the_viewer_is_gone(start, project):
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
    running.process.stdin.close()  # also while paused
    *_, last = running.rest()
    assert last.status == "stopped"
    assert last.result == {
        "run": RUN,
        "step": saved_step(project),
        "selected_step": saved_step(project),
    }
    assert f"Stopped at step {saved_step(project)}" in last.text
    assert running.ended() == child.STOPPED
    assert running.process.stderr.read().count("not a command") == 4


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A function that runs a job in this process, with these lines coming in; its exit status and events."""
    monkeypatch.setattr(child, "configure_process", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(asked, lines=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        monkeypatch.setattr(sys, "stdout", out := io.StringIO())
        write_job(asked, tmp_path / "job.json")
        status = child.run(tmp_path / "job.json")
        return status, [from_json(line) for line in out.getvalue().splitlines()]

    return run


def test_it_goes_on_when_nobody_said_to_attend(here, project):
    status, events = here(job(project, steps=3))
    assert status == child.DONE
    assert (events[-1].status, events[-1].result["step"]) == ("done", 3)


@pytest.mark.parametrize("commands", [["stop"], ["pause", "stop"], ["attend"]])
def test_it_stops_when_told_to_or_when_nobody_attends_any_more(commands, here, project):
    lines = "".join(json.dumps({"command": command}) + "\n" for command in commands)
    status, events = here(job(project), lines)
    assert status == child.STOPPED
    assert events[-1].status == "stopped"
    assert sum(isinstance(event, Stepped) for event in events) < 100


def test_a_mistake_is_one_event_and_its_own_status(here, project):
    status, (failed,) = here(job(project, patch=128))
    assert status == child.MISTAKE
    assert isinstance(failed, Failed)
    assert failed.mistake
    assert "choose patch size 96 or less" in failed.text.lower()
    assert not (project.folder / "runs").exists()


@pytest.mark.parametrize(
    ("error", "status", "mistake"),
    [
        (JobError("No."), child.MISTAKE, True),
        (ValueError("oops"), child.FAULT, False),
        (RuntimeError("CUDA error"), child.FAULT, False),
        (MemoryError(), child.FAULT, False),
    ],
)
def test_whatever_goes_wrong_is_said(error, status, mistake, here, project, monkeypatch, capsys):
    def failing(*_):
        yield Started("train", "r", "cpu", 1)
        raise error

    monkeypatch.setattr(child, "execute", failing)
    left, (first, last) = here(job(project))
    assert left == status
    assert isinstance(first, Started)
    assert last.mistake == mistake
    assert ("report it" in last.text) != mistake
    assert ("Traceback" in capsys.readouterr().err) != mistake


def test_what_a_library_prints_does_not_reach_the_events(here, project, monkeypatch):
    def talkative(*_):
        sys.stdout.write("Downloading weights ...\n")
        yield Finished("done", "Done.")

    monkeypatch.setattr(child, "execute", talkative)
    assert here(job(project)) == (child.DONE, [Finished("done", "Done.")])


# -- signals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_training_that_was_ended_resumes_to_the_same_weights(
    how, make_project, same_weights, tmp_path
):
    """Also from another process: bitwise as undisturbed."""
    steps = 30
    torch.set_num_threads(1)
    with make_project(tmp_path / "whole") as whole:
        list(execute(job(whole, steps=steps)))
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
            str(steps),
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
        assert 10 <= step < steps
        if how == signal.SIGTERM:
            assert running.returncode == 3
            assert "Stopped as asked; what was done is kept." in err
            assert json.loads(log.read_text().splitlines()[-1])["step"] == step
        events = list(execute(TrainJob(project=str(ended.folder), method="", resume=RUN)))
        assert next(e for e in events if isinstance(e, Stepped)).step == step + 1
        assert any(isinstance(event, Saved) and event.step == steps for event in events)
        for which in ("last", "selected"):
            models = [checkpoint.find(project.run(RUN), which) for project in (whole, ended)]
            (_, one), (_, other) = map(checkpoint.load_method, models)
            assert all(
                torch.equal(a, b)
                for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
            )
        assert [project.run(RUN).candidates() for project in (whole, ended)] == [[steps]] * 2

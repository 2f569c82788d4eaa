"""The viewer's side of the waiting process, with one that needs no torch."""

import os
import signal
import sys
import threading
from pathlib import Path

import psutil
import pytest

from napari_emda._gui.process.child import Child
from napari_emda._gui.process.runner import watch
from napari_emda._gui.process.standby import Standby
from napari_emda.events import Finished, Started
from napari_emda.project.job_files import PredictJob
from napari_emda.project.job_folder import JobFolder
from tests.gui.fake import fake_command

WAITS = """
import json, sys
print("a library's greeting")
print("ready", flush=True)
json.loads(sys.stdin.readline())["job"]
from napari_emda.events import Finished, Started
for event in (Started("predict", "", "warm", 0), Finished("done", "Done.")):
    print(event.to_json(), flush=True)
"""


@pytest.fixture
def standby():
    one = Standby((sys.executable, "-c", WAITS))
    yield one
    one.close()


def until_ready(qtbot, standby):
    standby.prepare()
    qtbot.waitUntil(lambda: standby.ready, timeout=240_000)


def job(tmp_path, standby):
    (tmp_path / "runs").mkdir(exist_ok=True)
    folder = JobFolder.new(PredictJob(project=str(tmp_path)))
    child = Child(fake_command(), folder, standby)
    return child, [event for batch in watch(child) for event in batch]


def devices(events):
    return [event.device for event in events if isinstance(event, Started)]


def test_a_job_takes_the_waiting_process_and_the_next_one_starts_its_own(qtbot, standby, tmp_path):
    until_ready(qtbot, standby)
    _, events = job(tmp_path, standby)
    assert devices(events) == ["warm"]
    assert isinstance(events[-1], Finished)
    _, events = job(tmp_path, standby)
    assert devices(events) == ["cpu"]
    until_ready(qtbot, standby)
    _, events = job(tmp_path, standby)
    assert devices(events) == ["warm"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGKILL")
def test_one_that_was_killed_costs_only_time(qtbot, standby, tmp_path):
    until_ready(qtbot, standby)
    pid = standby.process_id
    os.kill(pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: standby.process_id is None, timeout=240_000)
    _, events = job(tmp_path, standby)
    assert devices(events) == ["cpu"]


def test_one_that_ends_when_it_gets_the_job_is_replaced(qtbot, tmp_path):
    code = "import os, sys; print('ready', flush=True); sys.stdin.readline(); os._exit(9)"
    standby = Standby((sys.executable, "-c", code))
    until_ready(qtbot, standby)
    _, events = job(tmp_path, standby)
    standby.close()
    assert devices(events) == ["cpu"]
    assert isinstance(events[-1], Finished)


def test_one_of_another_environment_or_folder_gets_no_job(qtbot, standby, tmp_path, monkeypatch):
    until_ready(qtbot, standby)
    pid = standby.process_id
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not standby.ready
    _, events = job(tmp_path, standby)
    assert devices(events) == ["cpu"]
    # Another one takes its place, and is up to date.
    until_ready(qtbot, standby)
    assert standby.process_id != pid
    monkeypatch.chdir(tmp_path)
    assert not standby.ready
    until_ready(qtbot, standby)
    _, events = job(tmp_path, standby)
    assert devices(events) == ["warm"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGSTOP")
def test_one_that_has_slept_does_its_job(qtbot, standby, tmp_path):
    until_ready(qtbot, standby)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        os.kill(standby.process_id, number)
    _, events = job(tmp_path, standby)
    assert devices(events) == ["warm"]


def test_there_is_one_at_most_and_none_after_closing(qtbot, standby):
    until_ready(qtbot, standby)
    pid = standby.process_id
    standby.prepare()
    assert standby.process_id == pid
    standby.close()
    assert standby.process_id is None
    # Nobody waits for its end, but it comes.
    qtbot.waitUntil(lambda: not psutil.pid_exists(pid), timeout=240_000)
    standby.prepare()
    assert standby.process_id is None


def test_none_waits_where_memory_is_short(standby, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    standby.prepare()
    assert standby.process_id is None


# It loads until a file is there.
LOADS = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
"""


@pytest.fixture
def loading(tmp_path):
    # Not prepared here: pytest changes the environment between a fixture and a test.
    one = Standby((sys.executable, "-c", LOADS + WAITS, str(tmp_path / "loaded")))
    yield one
    one.close()


def test_one_that_is_still_loading_is_waited_for(loading, tmp_path):
    loading.prepare()
    assert not loading.ready
    threading.Timer(0.2, (tmp_path / "loaded").touch).start()
    _, events = job(tmp_path, loading)
    assert devices(events) == ["warm"]


def test_a_viewer_that_closes_while_one_is_loading_leaves_nothing(qtbot, loading, tmp_path):
    loading.prepare()
    pid = loading.process_id
    folder = JobFolder.new(PredictJob(project=str(tmp_path)))
    child = Child(fake_command(), folder, loading)
    launching = threading.Thread(target=child.launch)
    launching.start()
    qtbot.waitUntil(lambda: loading.process_id is None)
    # At once, although the process is not there yet.
    child.discard()
    (tmp_path / "loaded").touch()
    launching.join()
    assert not psutil.pid_exists(pid)
    assert child.process_id is None


@pytest.mark.skipif(os.name != "posix", reason="priorities have other names on Windows")
def test_children_give_way_to_the_window_from_their_start(loading):
    loading.prepare()
    assert os.getpriority(os.PRIO_PROCESS, loading.process_id) == 10
    group = Path(f"/proc/{loading.process_id}/autogroup")
    if group.exists():
        assert group.read_text().split()[-1] == "10"
    assert os.getpriority(os.PRIO_PROCESS, 0) < 10

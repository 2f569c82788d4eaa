"""What needs its own process: a fresh interpreter, a killed viewer, quitting the application."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from tests.viewer import loop, object_loop, story

ROOT = Path(__file__).parents[2]

START = """
import sys, time
from pathlib import Path
import napari
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from tests.viewer import story

def wait(condition):
    while not condition():
        QTest.qWait(20)

def keep():
    question = QApplication.activeModalWidget()
    if question is None:
        QTimer.singleShot(10, keep)
    else:
        next(button for button in question.buttons() if button.text().startswith("Keep")).click()

viewer = napari.Viewer()
dock, truth = story.start(viewer, fake={fake})
folder = Path({folder!r})
story.make_project(dock, folder, wait)
"""

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGKILL")


@pytest.fixture
def start():
    """A function that starts Python; the process and its children are ended after the test."""
    started = []

    def begin(*arguments):
        command = [sys.executable, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        started.append(process)
        return process

    yield begin
    for process in started:
        left = [process]
        with contextlib.suppress(psutil.NoSuchProcess):
            left = [*psutil.Process(process.pid).children(recursive=True), process]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        process.communicate()


def wait_until_gone(pid):
    """Wait until a process that is not our child has ended, also as a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.02)


def test_the_viewer_s_process_never_loads_torch():
    code = (
        "import importlib, pkgutil, sys, napari_emda._gui as gui\n"
        "for module in pkgutil.walk_packages(gui.__path__, 'napari_emda._gui.'):\n"
        "    importlib.import_module(module.name)\n"
        "import napari_emda.project.project, napari_emda.project.job_files\n"
        "import napari_emda.settings.base, napari_emda.events\n"
        "heavy = ('torch', 'kornia', 'lightning_fabric')\n"
        "sys.exit([name for name in heavy if name in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_napari_finds_the_dock_and_opens_it_without_torch():
    code = (
        "import sys, napari\n"
        "from dataclasses import replace\n"
        "from qtpy.QtTest import QTest\n"
        "from napari_emda.synthetic.sample_pair import RECORDINGS\n"
        "for domain, recording in RECORDINGS.items():\n"
        "    RECORDINGS[domain] = replace(recording, shape=(4, 96, 64))\n"
        "viewer = napari.Viewer()\n"
        "_, dock = viewer.window.add_plugin_dock_widget('napari-emda')\n"
        "viewer.open_sample('napari-emda', 'phantom')\n"
        "while dock.session.catalogue is None:\n"
        "    QTest.qWait(50)\n"
        "assert dock.data.target.layer().name == 'phantom target'\n"
        "assert 'torch' not in sys.modules and dock.session.catalogue is not None\n"
        "viewer.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def kill_at_work(begin, module, project, diary, enough):
    """Start a person's work in a viewer, and kill it as soon as its diary holds enough."""
    project.close()
    viewer = begin("-m", f"tests.viewer.{module}", str(project.folder), str(diary), "0", "fake")
    while not enough(loop.entries(diary)):
        assert viewer.poll() is None
        time.sleep(0.01)
    viewer.send_signal(signal.SIGKILL)
    viewer.wait()


@posix
def test_a_viewer_killed_while_somebody_paints_loses_nothing(project, tmp_path, start):
    """A fast one of `benchmarks/kill.py`, which does it at 20 moments with real children."""
    story.fake_model(project, "target")
    diary = tmp_path / "diary.jsonl"
    kill_at_work(start, "loop", project, diary, lambda entries: len(entries) >= 12)
    decisions, lost = loop.check(project.folder, diary)
    assert {"stroke", "decided"} <= {decision["kind"] for decision in decisions}
    assert lost == []
    for chunk in (project.folder / "annotations/target.zarr/c").glob("*/*/*"):
        chunk.unlink()
    assert loop.check(project.folder, diary)[1]


# Each decision is on the disk before it is shown: tests/project/test_object_edits.py.
@pytest.mark.slow
@posix
def test_a_viewer_killed_while_somebody_proofreads_loses_no_decision(project, tmp_path, start):
    """A fast one of `benchmarks/kill.py --work objects`."""
    object_loop.make(project)
    diary = tmp_path / "diary.jsonl"

    def enough(entries):
        in_effect = {kind for entry in entries for kind, _ in entry["active"]}
        all_kinds = in_effect == {"good", "delete", "split", "merge"}
        # In the middle of a decision, unless it is done by now.
        return all_kinds and entries[-1]["kind"] == "deciding"

    kill_at_work(start, "object_loop", project, diary, enough)
    decisions, lost = object_loop.check(project.folder, diary)
    assert len(decisions) > 8
    assert lost == []
    # Without the journal's last lines, the check finds what is missing.
    journal = project.folder / "object_edits.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-3]))
    assert object_loop.check(project.folder, diary)[1]


@posix
# That both ask and save is held by tests/viewer/test_closing.py, where only napari goes on.
@pytest.mark.parametrize(
    "how",
    [
        "kill",
        pytest.param("quit", marks=pytest.mark.slow),
        pytest.param("close", marks=pytest.mark.slow),
    ],
)
def test_however_the_viewer_ends_the_child_saves_and_ends(tmp_path, how, start):
    ends = {
        "kill": "time.sleep(3600)",
        # Qt closes the windows first, and so the dock asks.
        "quit": "QTimer.singleShot(0, keep); QTimer.singleShot(0, QApplication.quit); napari.run()",
        "close": "QTimer.singleShot(0, viewer.close); napari.run()",
    }
    begin = START.format(folder=str(tmp_path / "project"), fake=how != "kill")
    viewer = start(
        "-c",
        f"""{begin}
story.train(dock, 50000, save_every=50000)
wait(lambda: dock.train.strip.bar.value() >= 20)
print(dock.session.runner.process_id, flush=True)
{ends[how]}
""",
    )
    pid = int(viewer.stdout.readline())
    if how == "kill":
        viewer.send_signal(signal.SIGKILL)
    wait_until_gone(pid)  # with its 50000 steps it would be there until the test is given up
    viewer.wait()
    if how == "kill":
        assert Project.open(tmp_path / "project").runs.names() == ["001-histogram"]
    else:
        run = RunFolder.of(tmp_path / "project", "001-fake")
        assert run.interruption.endswith("of 50000")
        assert (run.path / "saved-on-hang-up").exists() == (how == "close")

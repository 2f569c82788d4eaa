"""Errors of the system and of libraries become one sentence; a signal ends a command cleanly."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from queue import Queue

import numpy as np
import pytest
import tifffile
from safetensors import SafetensorError

from napari_emda import cli
from napari_emda.cli.progress import Stopped, watch
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, explained, naming
from napari_emda.events import Finished, Started, Stepped, TileDone
from napari_emda.io.cache import cache_folder
from napari_emda.io.read import open_image
from napari_emda.io.write import save_volume
from napari_emda.jobs.stop_signals import StopSignals, stop_signals
from napari_emda.project.project import Project
from tests.cli.calling import call
from tests.this_process import signals_restored

# -- sentences -------------------------------------------------------------------------------------

ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:115] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 4000000000 bytes. Error code 12 (Cannot allocate memory)"
)
# What reaches the edge, the status with which a command ends then, and what its line says.
ERRORS = {
    "full disk": (
        OSError(errno.ENOSPC, "No space left on device", "a"),
        2,
        "'a' cannot be written",
    ),
    "full disk, no name": (OSError(errno.ENOSPC, "No space left on device"), 2, "make room"),
    "file too large": (OSError(errno.EFBIG, "File too large", "a.tif"), 2, "a.tif"),
    "broken disk": (OSError(errno.EIO, "Input/output error", b"a\xff"), 2, "Input/output error"),
    "forbidden": (PermissionError(errno.EACCES, "Permission denied", "a"), 2, "permissions"),
    "read-only": (OSError(errno.EROFS, "Read-only file system", "a"), 2, "another place"),
    "too many files": (OSError(errno.EMFILE, "Too many open files", "a"), 2, "limit of open files"),
    "memory": (MemoryError(), 2, "not enough memory"),
    "memory of torch": (RuntimeError(ALLOCATOR), 2, "not enough memory"),
    "memory of oneDNN": (RuntimeError("could not create a primitive"), 2, "not enough memory"),
    "threads": (RuntimeError("can't start new thread"), 2, "threads"),
    "a library without memory": (
        ImportError("libx.so.5: failed to map segment from shared object"),
        *(2, "free memory"),
    ),
    "full disk, in Rust": (
        SafetensorError("No space left on device (os error 28)"),
        2,
        "make room",
    ),
    "too many files, of torch": (
        *(RuntimeError("unable to open file <a> in read-only mode: Too many open files (24)"),),
        *(2, "limit of open files"),
    ),
    "no text": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "UTF-8"),
    "a fault of ours": (AttributeError("'x'\n has no 'y'"), 1, "report it"),
    "another of ours": (RecursionError("maximum recursion depth exceeded"), 1, "report it"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_whatever_reaches_the_command_line_is_one_sentence_with_a_log(case, monkeypatch, tmp_path):
    error, expected, part = ERRORS[case]
    monkeypatch.setenv("NAPARI_EMDA_CACHE", str(tmp_path / "cache"))

    def failing(*_, **__):
        raise error

    monkeypatch.setattr(Project, "open", failing)
    status, out, line = call("suggest", tmp_path)
    assert (status, out, line.count("\n")) == (expected, "", 1), line
    assert part in line
    assert "Traceback" not in line
    assert line[:-1].isprintable()
    log = cache_folder() / "errors.log"
    assert str(log) in line
    text = log.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert "suggest" in text or "pytest" in text
    assert type(error).__name__ in text


def test_a_log_that_cannot_be_written_takes_no_sentence_along(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAPARI_EMDA_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(Project, "open", lambda *_, **__: {}["missing"])
    status, _, line = call("suggest", tmp_path)
    assert (status, line.count("\n")) == (1, 1)
    assert "KeyError" in line
    assert "errors.log" not in line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_too_few_open_files_for_any_work_are_one_sentence(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (6, 6))
    status, out, line = call("methods")
    assert (status, out, line.count("\n")) == (2, "", 1)
    assert "ulimit -n" in line


def test_a_terminal_that_takes_no_line_changes_no_status(monkeypatch, tmp_path):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    stream = io.StringIO()
    monkeypatch.setattr(stream, "write", full)
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(SystemExit) as ended:
        cli.main(["suggest", str(tmp_path)])
    assert ended.value.code == 2


def test_the_log_does_not_grow_for_ever(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_EMDA_CACHE", str(tmp_path))
    monkeypatch.setattr("napari_emda.io.error_log._LARGEST", 2000)
    monkeypatch.setattr(Project, "open", lambda *_, **__: {}["missing"])
    for _ in range(10):
        call("suggest", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"errors.log", "errors-old.log"}
    assert all(path.stat().st_size < 20_000 for path in tmp_path.iterdir())


def test_a_file_without_a_name_in_the_error_gets_one():
    with pytest.raises(OSError, match="left") as caught, naming("here.tif"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "'here.tif' cannot be written" in str(explained(caught.value))
    with pytest.raises(OSError, match="left") as caught, naming("here.tif"):
        raise OSError(errno.ENOSPC, "No space left on device", "there.tif")
    assert "there.tif" in str(explained(caught.value))


def test_a_deleted_current_folder_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    status, _, line = call("suggest", "project")
    monkeypatch.chdir(tmp_path)
    assert (status, line.count("\n")) == (2, 1)
    assert "current folder no longer exists" in line


# -- signals ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def signals():
    """This process takes signals as a command does, for one test."""
    with signals_restored():
        stop_signals.install()
        yield
        stop_signals.__init__()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_has_nothing_to_save_ends_in_the_middle_of_its_work(number, capsys):
    done = []

    def job():
        yield Started("predict", "001-auto", "cpu", 0)
        try:
            os.kill(os.getpid(), number)
            time.sleep(600)  # of work without an event
        finally:
            done.append("tidied up")
        yield Finished("done", "Done.")

    with pytest.raises(Stopped):
        watch(job())
    assert done == ["tidied up"]
    assert "Stopped on request" in capsys.readouterr().err


def test_a_training_saves_its_work_before_it_ends(capsys):
    done = []

    def job():
        yield Started("train", "001-auto", "cpu", 10)
        try:
            for step in range(1, 10):
                # Several at once, as a batch system sends them.
                for _ in range(3):
                    os.kill(os.getpid(), signal.SIGTERM)
                done.append(step)
                yield Stepped(step, 10, {}, 1.0)
        except GeneratorExit:
            done.append("saved")
            raise

    with pytest.raises(Stopped):
        watch(job())
    assert done == [1, "saved"]
    assert "--resume 001-auto" in capsys.readouterr().err


def test_a_training_that_has_not_begun_ends_at_once():
    def job():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(600)
        yield Started("train", "001-auto", "cpu", 10)

    with pytest.raises(Stopped):
        watch(job())


def test_further_signals_do_not_disturb_the_end():
    ended = []

    def job():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(600)
        finally:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
            ended.append(True)
        yield TileDone("target", (0, 1, 0, 1, 0, 1), 1, 1)

    with pytest.raises(Stopped):
        watch(job())
    assert ended


def test_a_signal_that_a_library_has_swallowed_is_not_forgotten():
    def job():
        yield Started("predict", "001-auto", "cpu", 0)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(600)
        except KeyboardInterrupt:
            pass
        yield TileDone("target", (0, 1, 0, 1, 0, 1), 1, 2)
        raise AssertionError("It goes on.")

    with pytest.raises(Stopped):
        watch(job())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_any_command_ends_with_the_status_of_a_stop(number, monkeypatch, tmp_path):
    def slow(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(600)

    monkeypatch.setattr(Project, "open", slow)
    status, out, _ = call("suggest", tmp_path)
    assert (status, out) == (3, "")


def test_a_signal_in_a_text_that_is_executed_ends_with_the_status_of_a_stop(tmp_path):
    """As in an import, where dataclasses execute texts: Python would end by SIGINT instead."""
    text = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    (tmp_path / "stopped.py").write_text(
        f"from napari_emda import cli\ncli._run = lambda _: exec({text!r})\ncli.main(['methods'])\n"
    )
    done = subprocess.run([sys.executable, "-m", "stopped"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (3, b"")


def test_an_interrupt_that_a_finaliser_has_swallowed_comes_again(capfd):
    class Last:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)

    stopping = StopSignals()
    stopping.install()
    one = Last()
    with pytest.raises(KeyboardInterrupt):
        del one
        time.sleep(60)
    assert capfd.readouterr().err == ""


def test_what_fails_in_a_finaliser_is_said_as_before_while_nobody_has_stopped(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: said.append(found.exc_type))

    class Last:
        def __del__(self):
            raise ValueError

    stopping = StopSignals()
    stopping.install()
    stopping.install()
    Last()
    assert said == [ValueError]
    stopping.release()
    assert getattr(sys.unraisablehook, "__self__", None) is not stopping


def test_a_signal_after_the_work_spoils_no_status(tmp_path):
    (tmp_path / "late.py").write_text(
        "import atexit, os, signal\n"
        "from napari_emda import cli\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "cli.main(['formats'])\n"
    )
    done = subprocess.run([sys.executable, "-m", "late"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_hang_up_is_ignored_where_the_user_wants_that():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    other = StopSignals()
    other.install()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == other.receive


def test_the_viewer_gets_the_signals_back():
    one = StopSignals()
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    one.install()
    assert signal.getsignal(signal.SIGTERM) == one.receive
    one.release()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("left_early", [True, False])
def test_an_interrupt_at_the_end_of_an_export_keeps_nobody_waiting(
    left_early, tmp_path, monkeypatch
):
    """When the end of the image is handed to the thread that writes, which waits for it."""

    class Interrupted(Queue):
        interrupts = 0

        def put(self, item, **options):
            if isinstance(item, Exception) and not Interrupted.interrupts:
                Interrupted.interrupts += 1
                raise KeyboardInterrupt
            super().put(item, **options)

    monkeypatch.setattr("napari_emda.io.writers.tiff.Queue", Interrupted)
    image = np.zeros((3, 16, 16), np.uint8)
    saving = save_volume([image], tmp_path / "a.tif", np.uint8, VoxelGrid((1.0, 1.0, 1.0)))
    next(saving)
    with pytest.raises(KeyboardInterrupt):
        if left_early:
            saving.close()
        else:
            list(saving)
    assert [path.name for path in tmp_path.iterdir()] == ([] if left_early else ["a.tif"])


# -- files that change while they are read ---------------------------------------------------------


def test_an_image_that_is_cut_short_while_it_is_in_use_ends_no_process(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((8, 64, 64), np.uint8), photometric="minisblack")
    image = open_image(path).array
    assert not image[7].any()
    os.truncate(path, 1000)
    with pytest.raises(DataError, match=r"image\.tif has been cut short"):
        image[7]
    path.unlink()
    with pytest.raises(DataError, match=r"image\.tif"):
        image[0]


# -- arguments that nobody expects -----------------------------------------------------------------

DIGITS = "9" * 5000
NOT_UTF8 = os.fsdecode(b"caf\xe9")
STRANGE = {
    "steps of 5000 digits": ("train", "{project}", "--steps", DIGITS),
    "a setting of 5000 digits": ("train", "{project}", "--set", f"patch={DIGITS}"),
    "a float of 5000 digits": ("train", "{project}", "--set", f"pixel_size={DIGITS}"),
    "a count of 5000 digits": ("suggest", "{project}", "--count", DIGITS),
    "a box of 5000 digits": (
        *("score", "{project}", "--against", "{labels}", "--box", f"0:{DIGITS},:,:"),
    ),
    "a number to ignore": ("annotate", "{project}", "--from", "{labels}", "--ignore", DIGITS),
    "a project without UTF-8": ("suggest", f"{{project}}{NOT_UTF8}"),
    "labels without UTF-8": ("annotate", "{project}", "--from", NOT_UTF8),
    "a volume without UTF-8": ("suggest", "{project}", "--volume", NOT_UTF8),
    "a run without UTF-8": ("predict", "{project}", "--run", NOT_UTF8),
    "a class without UTF-8": (
        *("new", "{folder}/other", "--target", "{labels}", "--classes", "a", NOT_UTF8),
    ),
    "a setting without UTF-8": ("train", "{project}", "--set", f"network={NOT_UTF8}"),
    "a nul in a path": ("suggest", "{project}\0x"),
    "a very long path": ("suggest", "{project}/" + "x" * 5000),
    "a very long name of a file": ("annotate", "{project}", "--from", "x" * 300),
    "a job file that is a folder": ("run", "{project}"),
    "an empty path": ("annotate", "{project}", "--from", ""),
}


@pytest.mark.parametrize("case", STRANGE)
def test_strange_arguments_are_one_sentence(case, project, phantom_files):
    places = {
        "project": project.folder,
        "folder": project.folder.parent,
        "labels": phantom_files["source", "labels"],
    }
    project.close()
    arguments = [argument.format(**places) for argument in STRANGE[case]]
    status, out, line = call(*arguments)
    assert (status, out, line.count("\n")) == (2, "", 1), line[-1000:]
    assert "Traceback" not in line
    assert line[:-1].isprintable()


def test_names_without_utf8_are_refused_before_anything_is_made(phantom_files, tmp_path):
    folder = tmp_path / NOT_UTF8
    folder.mkdir()
    target = tmp_path / f"{NOT_UTF8}.tif"
    shutil.copy(phantom_files["target", "image"], target)
    places = [
        (tmp_path / "project", target),
        (folder / "project", phantom_files["target", "image"]),
    ]
    for project, image in places:
        status, _, line = call("new", project, "--target", image)
        assert (status, line.count("\n")) == (2, 1), line
        assert "no UTF-8" in line
        assert not project.exists()

"""A project that comes from somebody else: whatever it holds, nothing outside of it changes.

Each test puts one thing into a whole project, runs a command as the command line does, and expects
one sentence, exit status 2, and an untouched folder beside the project.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import zlib

import numpy as np
import pytest
import zarr

from napari_emda.errors import DataError, JobError
from napari_emda.io.safe_files import LARGEST_JSON, LARGEST_LINES
from napari_emda.project.job_folder import JobFolder
from napari_emda.project.project import Project
from napari_emda.project.region import Region
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.undo import parse
from tests.cli.calling import answer, call, image, listing
from tests.this_process import commands_here

RUN = "001-source_only"
SHAPE = (2, 64, 64)
SMALL = ("--profile", "test", "--device", "cpu")
MOST_LINES = 6
SETTINGS = ("patch=32", "batch=1", "precision=32", "validations=0")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a project that has been trained, predicted and annotated, and its images."""
    folder = tmp_path_factory.mktemp("whole")
    noise = np.random.default_rng(0)
    for name in ("source", "target"):
        image(folder / f"{name}.tif", noise.integers(0, 255, SHAPE).astype(np.uint8))
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, :32] = 1
    image(folder / "labels.tif", labels)
    project = folder / "project"
    with commands_here():
        pair = ("--source", folder / "source.tif", folder / "labels.tif")
        answer("new", project, *pair, "--target", folder / "target.tif")
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        answer("train", project, "--method", "source_only", "--steps", 1, *SMALL, *settings)
        answer("predict", project)
        suggest = ("suggest", project, "--strategy", "random", "--count", 1, "--patch", 32)
        answer(*suggest)
        answer("annotate", project, "--from", folder / "labels.tif")
        answer(*suggest)
        names = {"1": "foreground"}
        (project / "runs" / RUN / "names.json").write_text(json.dumps(names))
    return folder


@pytest.fixture
def received(whole, tmp_path):
    """A copy of the project; beside it, ``outside`` holds what must not change."""
    shutil.copytree(whole, tmp_path / "here")
    outside = tmp_path / "outside"
    (outside / "documents").mkdir(parents=True)
    (outside / "thesis.txt").write_text("years of work")
    (outside / "documents" / "letter.txt").write_text("dear")
    with commands_here():
        yield tmp_path / "here" / "project"


@pytest.fixture
def outside(received):
    """The folder that must not change; checked at the end."""
    folder = received.parents[1] / "outside"
    before = listing(folder), sorted(folder.rglob("*"))
    yield folder
    assert (listing(folder), sorted(folder.rglob("*"))) == before


def commands(project):
    """A command line of each kind that uses names from the files of a project."""
    labels = project.parent / "labels.tif"
    return {
        "predict": ("predict", project),
        "last": ("predict", project, "--checkpoint", "last", "--set", "flips=on"),
        "suggest": ("suggest", project, "--strategy", "random", "--patch", 32),
        "annotate": ("annotate", project, "--from", labels),
        "all": ("annotate", project, "--from", labels, "--regions", "all"),
        "score": ("score", project, "--against", labels),
        "export": ("export", project, "--what", "mask", "--to", project.parent / "mask.tif"),
        "resume": ("train", project, "--resume", RUN),
    }


def refused(project, command, *parts):
    """Run a command, which must be refused in one sentence; returns it."""
    status, out, error = call(*commands(project)[command])
    assert status == 2, error
    assert out == ""
    # A job that has started says so before.
    *started, sentence = error.splitlines()
    assert len(started) <= MOST_LINES, error
    assert sentence.isprintable()
    for part in parts:
        assert part in sentence, error
    return sentence


# -- names -----------------------------------------------------------------------------------------

NAMES = (
    "{outside}",
    "../../outside",
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    "C:a",
    "a\x1b[2Jb",
    "a\nb",
    "a\u202eb",
    "a\x00b",
    "a\ud800b",
    "x" * 300,
)


@pytest.mark.parametrize("command", ["predict", "suggest", "annotate", "score", "export"])
def test_a_volume_whose_name_is_a_path_is_refused(received, outside, command):
    rename_target(received, str(outside))
    refused(received, command, "volumes.1.name", "cannot be the name of a file")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_elsewhere_or_cannot_be_shown_is_refused(received, outside, name):
    rename_target(received, name.format(outside=outside))
    refused(received, "suggest", "damaged at 'volumes.1.name'")


def rename_target(project, name):
    path = project / "project.json"
    values = json.loads(path.read_text())
    values["volumes"][1]["name"] = name
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("field", ["id", "volume", "run"])
def test_a_region_whose_names_lead_elsewhere_is_no_region(received, outside, field):
    path = received / "regions.jsonl"
    region = json.loads(path.read_text().splitlines()[-1])
    region |= {"id": "new", "state": "suggested"} | {field: "../../../outside/documents"}
    path.write_text(json.dumps(region) + "\n")
    refused(received, "annotate", "No patch of 'target' is open")


@pytest.mark.parametrize(
    "box", ["", "a", "0:1,0:1", "-1:1,0:1,0:1", "1:1,0:1,0:1", "0:1,0:1,0:" + "9" * 30]
)
def test_a_box_is_checked_where_it_is_read(box):
    with pytest.raises(ValueError, match="box"):
        Region(id="a", volume="target", box=box)


@pytest.mark.parametrize("name", ["../../../outside", "..", "", "a/b"])
def test_decisions_of_other_runs_and_imports_lead_nowhere(received, outside, name):
    region = {"id": name or "../x", "volume": "target", "box": "0:1,0:1,0:1"}
    lines = [{"run": name, "names": {}}, {"imported": region, "done": True}]
    for line in lines:
        (received / "undo.jsonl").write_text(json.dumps(line) + "\n")
        with Project.open(received) as project:
            assert project.history.undo() is None
    with pytest.raises(ValueError, match="name"):
        parse(json.dumps(lines[0]).encode())


@pytest.mark.parametrize("name", ["../../outside", "/", "..", "", "a/../../b"])
def test_a_run_s_name_is_no_path(received, outside, name):
    with pytest.raises(JobError, match="name"):
        RunFolder.of(received, name)


def test_names_of_classes_are_printed_as_they_are_and_not_as_commands(received, outside):
    path = received / "project.json"
    values = json.loads(path.read_text())
    values["classes"] = ["background", "[red]x[/bold]"]
    path.write_text(json.dumps(values))
    status, _, error = call("suggest", received, "--strategy", "random", "--patch", 32)
    assert status == 0, error
    values["classes"] = ["background", "\x1b]0;title\x07"]
    path.write_text(json.dumps(values))
    refused(received, "suggest", "\\x1b]0;title\\x07")


@pytest.mark.parametrize("count", [0, 1, 255, 300])
def test_more_classes_than_can_be_stored_are_refused(received, outside, count):
    path = received / "project.json"
    values = json.loads(path.read_text())
    values["classes"] = [str(number) for number in range(count)]
    path.write_text(json.dumps(values))
    refused(received, "suggest", "classes")
    with pytest.raises(JobError, match="classes"):
        Project.create(received.parent / "other", tuple(values["classes"]))


# -- links, special files, sizes -------------------------------------------------------------------

IN_RUN = f"runs/{RUN}"
# What is in a project, and a command that uses it.
ENTRIES = {
    "project.json": "suggest",
    ".lock": "suggest",
    "regions.jsonl": "suggest",
    "undo.jsonl": "suggest",
    "redo.jsonl": "suggest",
    "check_points.jsonl": "suggest",
    "on-view.txt": "suggest",
    "volumes": "suggest",
    "annotations": "predict",
    "undo": "suggest",
    "runs": "suggest",
    "jobs": "suggest",
    IN_RUN: "predict",
    f"{IN_RUN}/checkpoint.safetensors": "predict",
    f"{IN_RUN}/selected.safetensors": "predict",
    f"{IN_RUN}/job.json": "resume",
    f"{IN_RUN}/log.jsonl": "resume",
    f"{IN_RUN}/trained-by.json": "resume",
    f"{IN_RUN}/probabilities.zarr": "last",
    f"{IN_RUN}/probabilities.zarr/target": "last",
    f"{IN_RUN}/probabilities.zarr/target/zarr.json": "last",
    f"{IN_RUN}/uncertainty.zarr": "last",
    f"{IN_RUN}/predicted-target.jsonl": "last",
    f"{IN_RUN}/predicted-by-target.json": "last",
    f"{IN_RUN}/calibration-target.json": "score",
    f"{IN_RUN}/.predicted-by-target.json.lock": "last",
    "annotations/target.zarr": "all",
    "annotations/target.zarr/zarr.json": "all",
    "annotations/target.zarr/c": "all",
    "annotations/target.zarr/c/0": "all",
}


def removed(path):
    """The path, with nothing there any more; whether it was a folder."""
    was_folder = path.is_dir() or path.name in ("volumes", "undo", "jobs", "candidates")
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    return was_folder


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_link_in_a_project_is_refused(received, outside, entry):
    path = received / entry
    is_folder = removed(path)
    path.symlink_to(outside / ("documents" if is_folder else "thesis.txt"))
    refused(received, ENTRIES[entry], "is a link")


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_pipe_in_a_project_keeps_nobody_waiting(received, outside, entry):
    path = received / entry
    removed(path)
    os.mkfifo(path)
    refused(received, ENTRIES[entry], "neither a file nor a folder")


@pytest.mark.parametrize("entry", ["c", "c/0"])
def test_a_prediction_is_replaced_without_following_links_in_it(received, outside, entry):
    path = received / IN_RUN / "probabilities.zarr" / "target" / entry
    is_folder = removed(path)
    path.symlink_to(outside / ("documents" if is_folder else "thesis.txt"))
    # Other settings, so that it is made anew.
    status, _, error = call(*commands(received)["last"])
    assert status == 0, error


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_chunk_of_the_annotations_is_no_link(received, outside, kind):
    chunk = next((received / "annotations" / "target.zarr").glob("c/*/*/*"))
    chunk.unlink()
    chunk.symlink_to(outside / "thesis.txt") if kind == "link" else os.mkfifo(chunk)
    refused(received, "all", "is a link" if kind == "link" else "neither a file nor a folder")


FILES_OF_A_RUN = {
    "checkpoint.safetensors": lambda run: run.checkpoint,
    "selected.safetensors": lambda run: run.selected,
    "candidates": lambda run: run.candidate(1),
    "job.json": lambda run: run.job(),
    "log.jsonl": lambda run: run.open_log(),
    "job.log": lambda run: run.add_to_child_log("x"),
    "names.json": lambda run: run.cluster_names(),
    "preview.npy": lambda run: run.preview("preview"),
    "trained-by.json": lambda run: run.being_trained,
    "predicted-target.jsonl": lambda run: run.journal("target"),
    "probabilities.zarr": lambda run: run.probabilities("target"),
    "uncertainty.zarr": lambda run: run.uncertainty("target"),
    "object_maps.zarr": lambda run: run.object_maps("target"),
}


@pytest.mark.parametrize("name", FILES_OF_A_RUN)
def test_no_file_of_a_run_may_be_a_link(tmp_path, name):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    (run.path / name).symlink_to(tmp_path)
    with pytest.raises(JobError, match="is a link"):
        FILES_OF_A_RUN[name](run)


@pytest.mark.parametrize(
    ("entry", "size"),
    [
        ("project.json", LARGEST_JSON),
        ("regions.jsonl", LARGEST_LINES),
        ("redo.jsonl", LARGEST_LINES),
        (f"{IN_RUN}/job.json", LARGEST_JSON),
        (f"{IN_RUN}/predicted-target.jsonl", LARGEST_LINES),
        ("annotations/target.zarr/zarr.json", LARGEST_JSON),
    ],
)
def test_files_beyond_all_sizes_are_not_read(received, outside, entry, size):
    (received / entry).touch()
    # A file with a hole: it takes no room on the disk.
    os.truncate(received / entry, size + 1)
    refused(received, ENTRIES[entry], (received / entry).name)


def test_what_can_be_undone_is_bounded(received, outside):
    os.truncate(received / "undo.jsonl", LARGEST_LINES + 1)
    with Project.open(received) as project, pytest.raises(JobError, match=r"undo\.jsonl"):
        project.history.undo()
    # More than the patch has, and a patch beyond all sizes.
    packed = base64.b64encode(zlib.compress(bytes(2**22), 9)).decode()
    for box in ("0:1,0:64,0:64", "0:1000,0:100000,0:100000"):
        region = {"id": "a", "volume": "target", "box": box}
        with pytest.raises(ValueError, match="patch"):
            parse(json.dumps({"before": region, "painted": packed}).encode())


@pytest.mark.parametrize(
    "entry", ["regions.jsonl", "undo.jsonl", "redo.jsonl", f"{IN_RUN}/log.jsonl"]
)
def test_the_other_name_of_a_hard_link_keeps_its_content(received, outside, entry):
    path = received / entry
    path.touch()
    backup = shutil.copyfile(path, outside.parent / "backup")
    content = backup.read_bytes()
    path.unlink()
    path.hardlink_to(backup)
    status, _, error = call(*commands(received)["resume" if "log" in entry else "suggest"])
    assert status == 0, error
    assert backup.read_bytes() == content


@pytest.mark.parametrize("entry", [".lock", f"{IN_RUN}/.predicted-by-target.json.lock"])
def test_a_lock_that_is_a_hard_link_is_refused(received, outside, entry):
    (received / entry).unlink(missing_ok=True)
    (received / entry).hardlink_to(outside / "thesis.txt")
    refused(received, ENTRIES[entry], "hard link")


def test_jobs_of_a_received_project_are_neither_followed_nor_removed(received, outside):
    (received / "jobs").mkdir()
    (received / "jobs" / "train-1").symlink_to(outside / "documents")
    with pytest.raises(JobError, match="is a link"):
        JobFolder.left_in(received)


def test_the_link_latest_among_the_runs_is_no_run(received, outside):
    (received / "runs" / "latest").symlink_to(RUN)
    with Project.open(received) as project:
        assert project.runs.names() == [RUN]


def test_the_project_itself_may_be_reached_by_a_link(received, outside):
    link = received.parent / "link"
    link.symlink_to(received)
    status, _, error = call(*commands(link)["suggest"])
    assert status == 0, error


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "\udcff", "null", "[]", "{}"])
@pytest.mark.parametrize("entry", ["project.json", f"{IN_RUN}/job.json"])
def test_nonsense_is_one_sentence(received, outside, entry, text):
    (received / entry).write_bytes(text.encode("utf-8", "surrogateescape"))
    status, _, error = call(*commands(received)[ENTRIES[entry]])
    assert status == 2, error
    assert "Traceback" not in error


# -- where results are written ---------------------------------------------------------------------


PLACES = (
    "image",
    "labels",
    "dots",
    "link",
    "hard link",
    "annotations",
    "probabilities",
    "new file in the project",
    "through a link",
    "the project",
)


def places(project):
    """Paths that must not be overwritten, by how they are written."""
    folder = project.parent
    (folder / "link.tif").symlink_to(folder / "target.tif")
    (folder / "hard.tif").hardlink_to(folder / "target.tif")
    (folder / "alias").symlink_to(project)
    return {
        "image": folder / "target.tif",
        "labels": folder / "labels.tif",
        "dots": project / ".." / "target.tif",
        "link": folder / "link.tif",
        "hard link": folder / "hard.tif",
        "annotations": project / "annotations" / "target.zarr",
        "probabilities": project / "runs" / RUN / "probabilities.zarr",
        "new file in the project": project / "mask.tif",
        "through a link": folder / "alias" / "annotations" / "target.zarr",
        "the project": folder / "project.zarr",
    }


@pytest.mark.parametrize("place", PLACES)
def test_an_export_never_replaces_what_the_project_needs(received, outside, place):
    path = places(received)[place]
    project = received
    if place == "the project":
        project = received.rename(path)
    before = listing(project.parent)
    status, out, error = call("export", project, "--what", "mask", "--to", path, "--overwrite")
    assert (status, out, error.count("\n")) == (2, "", 1), error
    assert "part of the project" in error or "which the project uses" in error
    assert {k: v for k, v in listing(project.parent).items() if ".lock" not in k} == {
        k: v for k, v in before.items() if ".lock" not in k
    }


def test_predict_and_naming_check_the_place_as_well(received, outside):
    for arguments in (
        ("predict", received, "--out", received / "annotations" / "p.tif"),
        ("name-clusters", received, "--out", received / "mask.tif"),
    ):
        status, _, error = call(*arguments)
        assert status == 2
        assert "part of the project" in error


def test_an_image_in_a_folder_of_zarr_is_not_replaced_with_the_folder(received, outside):
    with Project.open(received, exclusive=True) as project:
        folder = received.parent / "images.zarr"
        zarr.create_group(folder).create_array("0", data=np.arange(128).reshape(2, 8, 8))
        project.volumes.add(folder / "0", "target", spacing=(50, 8, 8))
        with pytest.raises(DataError, match="which the project uses"):
            project.claim(folder, (".zarr",), overwrite=True)
        assert project.claim(received.parent / "new.zarr", (".zarr",), overwrite=True)

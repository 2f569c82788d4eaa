"""A prediction is one model's and one image's, whatever happens between two commands."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_emda.data.box import Box
from napari_emda.errors import JobError
from napari_emda.inference import predict as predict_module
from napari_emda.project import stored_prediction
from napari_emda.project.owner import Owner
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.project.unchanged_prediction import UnchangedPrediction
from tests.cli.calling import answer, call, image, listing
from tests.this_process import commands_here

SHAPE = (2, 64, 64)
RUN = "001-source_only"
SETTINGS = ("patch=32", "batch=1", "precision=32", "validations=0")
HEADER = {"model": "1", "uncertainty": False, "shape": [*SHAPE]}
WHOLE = '{"boxes": [[0, 2, 0, 64, 0, 64]]}'


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A project with two runs, none of which has predicted anything."""
    folder = tmp_path_factory.mktemp("whole")
    noise = np.random.default_rng(0)
    for name in ("source", "target"):
        image(folder / f"{name}.tif", noise.integers(0, 255, SHAPE).astype(np.uint8))
    image(folder / "labels.tif", (noise.random(SHAPE) > 0.8).astype(np.uint8))
    with commands_here():
        pair = ("--source", folder / "source.tif", folder / "labels.tif")
        answer("new", folder / "project", *pair, "--target", folder / "target.tif")
        for seed in (0, 1):
            values = [part for setting in SETTINGS for part in ("--set", setting)]
            train = ("train", folder / "project", "--method", "source_only", "--steps", 1)
            answer(*train, "--seed", seed, "--profile", "test", "--device", "cpu", *values)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of the folder with the project and its images."""
    shutil.copytree(whole, tmp_path / "here")
    with commands_here():
        yield tmp_path / "here"


def stored(folder):
    prediction = StoredPrediction(RunFolder.of(folder / "project", RUN), "target")
    return np.array(prediction.probabilities)


def predicted(folder, *options):
    """Predict; returns the probabilities and what was said."""
    status, _, said = call("predict", folder / "project", "--run", RUN, *options)
    assert status == 0, said
    return stored(folder), said


def change_image(folder, keep_time):
    path = folder / "target.tif"
    status = path.stat()
    image(path, 255 - tifffile.imread(path))
    assert path.stat().st_size == status.st_size
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def change_model(folder, keep_time):
    runs = folder / "project" / "runs"
    path = runs / RUN / "checkpoint.safetensors"
    status = path.stat()
    # Of the same step, so that it has the same name.
    shutil.copy(runs / "002-source_only" / "checkpoint.safetensors", path)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def change_size(folder, keep_time):
    path = folder / "project" / "project.json"
    contents = json.loads(path.read_text())
    for volume in contents["volumes"]:
        if volume["name"] == "target":
            volume["spacing"] = [50.0, 12.0, 12.0]
    path.write_text(json.dumps(contents))


@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize("change", [change_image, change_model, change_size])
def test_of_another_image_or_model_it_is_predicted_anew(change, keep_time, folder):
    before, _ = predicted(folder)
    change(folder, keep_time)
    after, said = predicted(folder)
    assert not np.array_equal(before, after)
    assert ("predicted anew" in said) == (change is not change_model)
    shutil.rmtree(folder / "project" / "runs" / RUN / "probabilities.zarr")
    np.testing.assert_array_equal(predicted(folder)[0], after)


@pytest.mark.parametrize("what", ["score", "export", "suggest"])
def test_no_other_command_takes_the_prediction_of_another_image(what, folder):
    before, _ = predicted(folder)
    change_image(folder, keep_time=True)
    options = {
        "score": ("--against", folder / "labels.tif"),
        "export": ("--what", "mask", "--to", folder / "mask.tif"),
        "suggest": ("--patch", 32, "--count", 1),
    }
    status, _, said = call(what, folder / "project", "--run", RUN, *options[what])
    assert status == 0, said
    assert "predicted anew" in said
    assert not np.array_equal(stored(folder), before)


@pytest.mark.parametrize("what", ["score", "export", "suggest"])
def test_other_settings_than_the_model_asks_for_are_said(what, folder):
    before, _ = predicted(folder, "--set", "flips=on")
    options = {
        "score": ("--against", folder / "labels.tif"),
        "export": ("--what", "mask", "--to", folder / "mask.tif"),
        "suggest": ("--patch", 32, "--count", 1),
    }
    status, _, said = call(what, folder / "project", "--run", RUN, *options[what])
    assert status == 0, said
    assert "was made with flipped copies, and is used as it is" in " ".join(said.split())
    np.testing.assert_array_equal(stored(folder), before)
    # Asked for, the other one is made.
    assert not np.array_equal(predicted(folder)[0], before)


def test_a_copied_project_needs_no_new_prediction(folder, tmp_path, monkeypatch):
    predicted(folder)
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    monkeypatch.setattr(predict_module, "plan", lambda *_, **__: pytest.fail("predicted again"))
    options = ("--against", folder / "labels.tif")
    status, _, said = call("score", tmp_path / "copy" / "project", "--run", RUN, *options)
    assert status == 0, said


def test_while_another_process_predicts_nobody_else_does(folder):
    run = RunFolder.of(folder / "project", RUN)
    predicted(folder)
    # The process that has started the tests, which goes on while they run.
    Owner.of(os.getppid()).write(run.path / "predicted-by-target.json")
    before = listing(run.path)
    status, _, said = call("predict", folder / "project", "--run", RUN, "--checkpoint", "last")
    assert (status, said.count("Traceback")) == (2, 0)
    assert f"is being written by another process (number {os.getppid()})" in " ".join(said.split())
    assert listing(run.path) == before


# -- the files of a prediction ---------------------------------------------------------------------


def begin(run, **values):
    prediction = StoredPrediction(RunFolder(run), "target")
    header = {**HEADER, **values}
    prediction.begin(header, (1, *SHAPE), classes=("background", "a"), uncertainty=False)
    return prediction


def test_a_prediction_that_is_replaced_while_it_is_read_is_not_read_on(tmp_path):
    prediction = begin(tmp_path)
    array = UnchangedPrediction(prediction.probabilities, prediction, prediction.state)
    assert not array[0, 0].any()
    begin(tmp_path, model="2")
    with pytest.raises(JobError, match=r"was replaced by another process .* try again\.$"):
        array[0, 1]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux names open files")
@pytest.mark.parametrize("every", [0.0, 60.0])
def test_tiles_are_on_the_disk_before_the_journal_lists_them(every, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_prediction, "_SYNC_EVERY", every)
    prediction = begin(tmp_path)
    synced = []
    fsync = os.fsync

    def watched(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write = prediction.writer(uncertainty=False)
    with prediction.recording():
        for z in (0, 1):
            box = Box((z, 0, 0), (z + 1, 64, 64))
            write(box, np.full((1, *box.shape), 7, np.uint8), None)
            prediction.box_done(box)
    chunks = [prediction.run.probabilities("target") / "c" / "0" / f"{z}" for z in (0, 1)]
    in_journal = [i for i, path in enumerate(synced) if path == prediction.journal]
    assert len(in_journal) == (2 if every == 0 else 1)
    for chunk, listed in zip(chunks, (in_journal[0], in_journal[-1]), strict=True):
        assert {chunk / "0" / "0", chunk / "0", chunk} <= set(synced[:listed])
    assert begin(tmp_path).complete({}) is True
    assert StoredPrediction(RunFolder(tmp_path), "target").header == HEADER


@pytest.mark.parametrize("line", [WHOLE[:-3], '{"boxes": [0,', "1", '{"boxes": [0.5]}', "{}"])
def test_behind_a_damaged_line_nothing_counts(line, tmp_path):
    prediction = begin(tmp_path)
    with prediction.journal.open("a") as file:
        file.write(f"{line}\n{WHOLE}\n")
    assert not prediction.complete({"model": "1"})
    with prediction.journal.open("w") as file:
        file.write(f"{json.dumps(HEADER)}\n{WHOLE}\n")
    assert prediction.complete({"model": "1"})

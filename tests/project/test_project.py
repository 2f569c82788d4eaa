"""The project folder: everything is on disk, in readable files, after a crash as well."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from sklearn.metrics import confusion_matrix

from napari_emda.data.box import Box
from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.data.label_values import check_annotations
from napari_emda.data.volume import IGNORE
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, JobError
from napari_emda.io.tiff import write_tiff
from napari_emda.project import project as project_module
from napari_emda.project.project import Project
from napari_emda.project.region import Region
from napari_emda.sampling.sampler import PatchSampler
from tests.predictions import note_as_predicted

BOX = Box((1, 10, 20), (2, 26, 36))


def region(project, box=BOX, **values):
    """A region that has just been suggested."""
    (suggested,) = project.regions.suggest(
        [{"volume": "target", "box": str(box), "score": 0.5}], "entropy", "001-a", **values
    )
    return suggested


def refused(folder, match, **values):
    """Check that a project does not open, with one sentence."""
    with pytest.raises(JobError, match=match) as error:
        Project.open(folder, **values)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


# -- the folder ----------------------------------------------------------------------------------


def test_a_project_that_is_opened_again_has_the_same_contents(project, phantoms):
    project.close()
    again = Project.open(project.folder)
    assert again.classes == ("background", "mitochondria")
    assert again.volumes.entries == project.volumes.entries
    source = again.volumes.open("source")
    target = again.volumes.open("target")
    np.testing.assert_array_equal(source.image[:], phantoms["source"][0])
    np.testing.assert_array_equal(source.class_ids[:, :, :], phantoms["source"][1])
    assert (source.grid, source.domain) == (VoxelGrid((50.0, 8.0, 8.0), "nm"), "source")
    assert (target.labels, target.domain) == (None, "target")
    assert again.volumes.target().name == "target"


def test_the_project_file_is_plain_json(project):
    values = json.loads((project.folder / "project.json").read_text())
    assert values["format"] == 2
    assert [volume["name"] for volume in values["volumes"]] == ["source", "target"]


def test_of_two_that_make_a_project_in_one_folder_the_second_is_refused(
    make_project, tmp_path, monkeypatch
):
    lock_folder = project_module.lock_folder

    def late(folder):
        monkeypatch.setattr(project_module, "lock_folder", lock_folder)
        make_project(folder).close()
        return lock_folder(folder)

    monkeypatch.setattr(project_module, "lock_folder", late)
    with pytest.raises(JobError, match="not empty"):
        Project.create(tmp_path / "p")
    with Project.open(tmp_path / "p", exclusive=True) as project:
        assert len(project.volumes.entries) == 2


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("chapter 1")
    with pytest.raises(JobError, match="exists and is not empty: choose a new folder"):
        Project.create(tmp_path)
    with pytest.raises(JobError, match="exists and is not empty"):
        Project.create(tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


LEFT_BY_A_CRASH = {
    "a lock": {".lock": ""},
    "half a file": {".lock": "", ".project-0123abcd.json": '{"form'},
    "no volumes": {".lock": "", "project.json": '{"format": 2, "classes": ["a", "b"]}'},
}


@pytest.mark.parametrize("left", LEFT_BY_A_CRASH)
def test_a_project_whose_making_was_killed_is_made_again(left, make_project, tmp_path):
    for name, text in LEFT_BY_A_CRASH[left].items():
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / name).write_text(text)
    make_project(tmp_path / "p").close()
    # Now it holds volumes, and is somebody's.
    with pytest.raises(JobError, match="exists and is not empty"):
        Project.create(tmp_path / "p")


@pytest.mark.parametrize("name", ["project.json", ".project-notes.txt", "a.json"])
def test_a_folder_with_anything_else_is_left_alone(name, tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / name).write_text("mine")
    with pytest.raises(JobError, match="exists and is not empty"):
        Project.create(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_volumes_that_are_added_together_are_all_there_or_none(project, phantom_files):
    before = (project.folder / "project.json").read_bytes()
    with pytest.raises(DataError), project.volumes.added_together():
        project.volumes.add(phantom_files["target", "image"], "target", name="another")
        project.volumes.add(project.folder / "missing.tif", "target")
    assert (project.folder / "project.json").read_bytes() == before
    assert len(project.volumes.entries) == 2
    with project.volumes.added_together():
        for name in ("third", "fourth"):
            project.volumes.add(phantom_files["target", "image"], "target", name=name)
        assert (project.folder / "project.json").read_bytes() == before
    with Project.open(project.folder) as again:
        assert [e.name for e in again.volumes.entries] == ["source", "target", "third", "fourth"]


@pytest.mark.parametrize("classes", [(), ("background",), ("a", "a")])
def test_a_project_needs_two_different_classes(classes, tmp_path):
    with pytest.raises(JobError, match="at least two classes"):
        Project.create(tmp_path / "p", classes)
    assert not (tmp_path / "p").exists()


def test_it_opens_exclusively_once(project):
    refused(project.folder, "is open elsewhere: close it there first", exclusive=True)
    Project.open(project.folder).close()  # reading is always possible
    project.close()
    with Project.open(project.folder, exclusive=True):
        refused(project.folder, "open elsewhere", exclusive=True)
    Project.open(project.folder, exclusive=True).close()


def test_it_opens_exclusively_once_in_all_processes(project):
    code = (
        "import sys; from napari_emda.project.project import Project; "
        "Project.open(sys.argv[1], exclusive=True)"
    )
    command = [sys.executable, "-c", code, str(project.folder)]
    locked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "is open elsewhere" in locked.stderr
    project.close()
    # The lock ends with the process that holds it.
    subprocess.run(command, check=True, timeout=60)
    Project.open(project.folder, exclusive=True).close()


def test_a_project_that_cannot_be_read_is_not_locked(project):
    project.close()
    (project.folder / "project.json").write_text("{}")
    refused(project.folder, "is damaged", exclusive=True)
    refused(project.folder, "is damaged", exclusive=True)


def test_a_folder_without_a_project_is_refused(tmp_path):
    refused(tmp_path, "is not a project .* make one from your images")
    refused(tmp_path / "nowhere", "is not a project")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": 1, "volumes": [7]}',
        '{"format": "x", "classes": []}',
        "\xff",
    ],
)
def test_a_damaged_project_is_refused(text, project):
    (project.folder / "project.json").write_bytes(text.encode("latin-1"))
    refused(project.folder, r"project\.json' is damaged|has format")


def test_the_damaged_place_is_named(project):
    path = project.folder / "project.json"
    values = json.loads(path.read_text())
    values["volumes"][1]["spacing"] = [1, 2]
    path.write_text(json.dumps(values))
    refused(project.folder, r"is damaged at 'volumes\.1\.spacing.*restore it from a backup")


FORMAT_1 = """{
  "format": 1,
  "classes": ["background", "nucleus"],
  "volumes": [
    {"name": "stack", "domain": "source", "image": "../stack.tif", "labels": "../labels.tif",
     "labels_zero": "background", "spacing": [50.0, 8.0, 8.0], "unit": "nm", "depth": true},
    {"name": "fields", "domain": "target", "image": "../fields.tif", "labels": null,
     "labels_zero": "background", "spacing": [6.0, 6.0, 4.0], "unit": "nm", "depth": false},
    {"name": "older", "domain": "target", "image": "../older.tif", "labels": null,
     "labels_zero": "unannotated", "spacing": [5.0, 5.0, 5.0], "unit": "nm"}
  ]
}
"""
"""As earlier versions wrote it; the oldest had no ``depth``."""


def test_a_project_of_format_1_opens_and_is_rewritten_only_when_it_changes(tmp_path, phantom_files):
    path = tmp_path / "p" / "project.json"
    path.parent.mkdir()
    path.write_text(FORMAT_1)
    with Project.open(path.parent, exclusive=True) as project:
        assert [entry.grid for entry in project.volumes.entries] == [
            VoxelGrid((50, 8, 8)),
            VoxelGrid((6, 6, 4), sections_are_independent=True),
            VoxelGrid((5, 5, 5)),
        ]
        assert project.volumes.entry("older").labels_zero == "unannotated"
        assert path.read_text() == FORMAT_1
        before = project.volumes.entries
        project.volumes.add(phantom_files["target", "image"], "target", name="new")
    written = json.loads(path.read_text())
    assert written["format"] == 2
    assert [volume["sections_are_independent"] for volume in written["volumes"]] == [
        False,
        True,
        False,
        False,
    ]
    assert Project.open(path.parent).volumes.entries[:3] == before


def test_a_newer_project_is_refused(project):
    path = project.folder / "project.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 4, "hologram": True}))
    refused(project.folder, "has format 4, this program knows formats up to 3: update napari-emda")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_project_opens_only_for_reading(project):
    project.close()
    (project.folder / ".lock").unlink(missing_ok=True)
    project.folder.chmod(0o555)
    try:
        refused(project.folder, "cannot be written .*copy it", exclusive=True)
        assert Project.open(project.folder).volumes.entries
    finally:
        project.folder.chmod(0o755)


def test_a_lock_that_cannot_be_written_is_explained(project, monkeypatch):
    """As for root, who may write everywhere except on a read-only file system."""
    project.close()

    def acquire(*_, **__):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(project_module.FileLock, "acquire", acquire)
    refused(
        project.folder,
        r"cannot be written \(Read-only file system\): copy it to a folder that can",
        exclusive=True,
    )


def test_a_write_that_fails_leaves_the_old_file(project, monkeypatch):
    before = (project.folder / "project.json").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        project.volumes.add_entry(project.volumes.entries[0].model_copy(update={"name": "third"}))
    assert (project.folder / "project.json").read_bytes() == before


# -- volumes -------------------------------------------------------------------------------------


def test_names_are_made_unique_and_valid_for_files(project, phantom_files):
    names = [
        project.volumes.add(phantom_files["target", "image"], "target", name=name).name
        for name in ("target", "target", "../../etc", "Zellkern Ä.tif", "///", "Con.1")
    ]
    expected = ["target_2", "target_3", "etc", "Zellkern_Ä.tif", "volume", "volume_Con.1"]
    assert names == expected
    assert Project.open(project.folder).volumes.entries == project.volumes.entries


@pytest.mark.parametrize("letter", ["A", "ü", "字"])
def test_a_file_may_have_a_longer_name_than_a_volume(letter, project, phantom_files, tmp_path):
    # As long as Linux allows, with the ending.
    path = tmp_path / f"{letter * (250 // len(letter.encode()))}.tif"
    shutil.copy(phantom_files["target", "image"], path)
    names = {project.volumes.add(path, "target").name for _ in range(3)}
    assert len(names) == 3
    with Project.open(project.folder) as again:
        assert names <= {entry.name for entry in again.volumes.entries}
        for name in names:
            assert name.startswith(letter)
            again.annotations.require(name)[0, :4, :4] = 1


@pytest.mark.parametrize(
    ("numbers", "options"),
    [
        ((0, 1, 7, 2**32 - 2), {}),
        ((0, 1, 2, 2), {"labels_zero": "unannotated"}),
        ((0, 1, 7, 2**32 - 2), {"labels_meaning": LabelMeaning(7, (0, 1))}),
    ],
)
def test_labels_keep_the_numbers_of_their_objects(numbers, options, tmp_path, noise):
    labels = noise.choice(numbers, (2, 40, 40)).astype(np.uint32)
    image = tmp_path / "image.tif"
    stored = tmp_path / "labels.tif"
    write_tiff(image, iter(labels.astype(np.uint8)), labels.shape, np.uint8, VoxelGrid((9, 9, 9)))
    write_tiff(stored, iter(labels), labels.shape, labels.dtype, VoxelGrid((9, 9, 9)))
    with Project.create(tmp_path / "project", ("background", "a")) as project:
        project.volumes.add(image, "source", labels=stored, name="s", **options)
        volume = project.volumes.open("s")
    box = Box.whole(volume.shape)
    is_object = volume.read_labels(box) == 1
    assert is_object.any()
    np.testing.assert_array_equal(volume.read_ids(box), np.where(is_object, labels, 0))


def test_numbers_are_classes_where_there_are_more_than_two(tmp_path, noise):
    labels = noise.integers(0, 3, (2, 40, 40)).astype(np.uint8)
    path = tmp_path / "labels.tif"
    write_tiff(path, iter(labels), labels.shape, labels.dtype, VoxelGrid((9, 9, 9)))
    with Project.create(tmp_path / "project", ("background", "a", "b")) as project:
        project.volumes.add(path, "source", labels=path, name="s")
        assert project.volumes.open("s").ids is None


def test_an_invalid_volume_changes_nothing(project, phantom_files, tmp_path):
    before = (project.folder / "project.json").read_bytes()
    np.save(tmp_path / "a.npy", np.zeros(3))
    for image, labels in (
        (tmp_path / "a.npy", None),
        (phantom_files["target", "image"], tmp_path / "gone.tif"),
    ):
        with pytest.raises(DataError):
            project.volumes.add(image, "source", labels=labels)
    assert (project.folder / "project.json").read_bytes() == before


def test_a_deleted_file_is_named(project, phantom_files, tmp_path):
    copy = tmp_path / "copy.tif"
    copy.write_bytes(phantom_files["target", "image"].read_bytes())
    project.volumes.add(copy, "target", name="moved")
    copy.unlink()
    with pytest.raises(DataError, match=r"copy\.tif does not exist"):
        project.volumes.open("moved")


def test_an_unknown_volume_gets_a_suggestion(project):
    with pytest.raises(JobError, match=r"There is no volume 'tagret'\. Did you mean 'target'\?"):
        project.volumes.open("tagret")


def test_a_project_without_a_target_asks_for_one(tmp_path):
    with (
        Project.create(tmp_path / "p") as empty,
        pytest.raises(JobError, match="no target volume: add the image"),
    ):
        empty.volumes.target()


def test_an_array_in_memory_is_stored_in_the_project(project, noise, tmp_path):
    array = noise.integers(0, 255, (3, 40, 50)).astype(np.uint8)
    path = project.volumes.store("layer", array)
    entry = project.volumes.add(path, "target", name="layer", spacing=(30, 5, 5))
    assert entry.image.startswith("volumes/layer-")
    project.close()
    moved = project.folder.rename(tmp_path / "moved")
    np.testing.assert_array_equal(Project.open(moved).volumes.open("layer").image[:], array)


# -- annotations and regions ---------------------------------------------------------------------


def test_a_complete_patch_is_background_where_nothing_is_painted(project):
    suggested = region(project)
    array = project.annotations.require("target")
    array[1, 12:15, 22:25] = 2
    assert project.annotations.accept(suggested).state == "accepted"
    ids = Project.open(project.folder).volumes.open("target").read_labels(Box.whole((4, 96, 96)))
    assert (ids == 1).sum() == 9
    assert (ids == 0).sum() == 16 * 16 - 9
    inside = ids[BOX.slices]
    assert (inside != IGNORE).all()
    assert (ids == IGNORE).sum() == ids.size - inside.size


def test_a_partial_patch_is_not_annotated_where_nothing_is_painted(project):
    painted = np.zeros(BOX.shape, int)
    painted[0, 2, 3:5] = 2, 1
    assert project.annotations.accept(region(project), painted, complete=False).state == "partial"
    ids = project.volumes.open("target").read_labels(BOX)
    assert ids[0, 2, 3:5].tolist() == [1, 0]
    assert (ids == IGNORE).sum() == ids.size - 2


def test_regions_are_taken_from_a_label_image(project, phantom_files, phantoms):
    region(project)
    (taken,) = project.annotations.take(phantom_files["target", "labels"], "target")
    assert (taken.state, taken.voxels) == ("accepted", BOX)
    np.testing.assert_array_equal(
        project.volumes.open("target").read_labels(BOX), phantoms["target"][1][BOX.slices]
    )
    assert project.annotations.take(phantom_files["target", "labels"], "target") == []


def test_regions_have_their_latest_state_in_their_first_order(project):
    regions = project.regions.suggest(
        [{"volume": "target", "box": f"{z}:{z + 1},0:8,0:8", "score": z} for z in range(3)],
        "random",
        "",
    )
    project.regions.record(regions[1].model_copy(update={"state": "skipped"}))
    again = Project.open(project.folder).regions.all()
    assert [r.id for r in again] == [r.id for r in regions]
    assert [r.state for r in again] == ["suggested", "skipped", "suggested"]
    assert len((project.folder / "regions.jsonl").read_text().splitlines()) == 4


def test_regions_are_those_of_the_file_whatever_happens_to_it(project):
    regions = project.regions
    file = project.folder / "regions.jsonl"

    def same():
        assert regions.all() == Project.open(project.folder).regions.all()
        return [(r.id, r.state) for r in regions.all()]

    first = region(project)
    second = Project.open(project.folder).regions.add("target", BOX)
    assert same() == [(first.id, "suggested"), (second.id, "suggested")]
    whole = file.read_bytes()
    # A last line that nothing ends is read, and no longer counts when it is gone.
    file.write_bytes(
        whole + second.model_copy(update={"state": "skipped"}).model_dump_json().encode()
    )
    assert same()[1] == (second.id, "skipped")
    file.write_bytes(whole)
    assert same()[1] == (second.id, "suggested")
    # An earlier line is another one, as after a repair.
    file.write_bytes(whole.replace(first.id.encode(), b"another"))
    assert [r.id for r in regions.all()] == [
        r.id for r in Project.open(project.folder).regions.all()
    ]
    file.write_bytes(whole.splitlines(keepends=True)[0])
    assert same() == [(first.id, "suggested")]
    file.unlink()
    assert same() == []


def test_a_new_round_replaces_regions_without_a_decision(project):
    first = region(project)
    assert (first.round, project.regions.round) == (1, 1)
    second = region(project)
    assert (second.round, project.regions.round) == (2, 2)
    assert [r.state for r in project.regions.all()] == ["replaced", "suggested"]


@pytest.mark.parametrize(
    "incomplete", [b'{"id": "x", "vol', b"\n\n", '{"id": "Ä'.encode()[:-1], b"\x00" * 20]
)
def test_an_incomplete_last_line_loses_only_itself(incomplete, project):
    first = region(project)
    with (project.folder / "regions.jsonl").open("ab") as file:
        file.write(incomplete)
    assert [r.id for r in project.regions.all()] == [first.id]
    project.regions.record(Region(id="next", volume="target", box=str(BOX)))
    assert [r.id for r in project.regions.all()] == [first.id, "next"]


@pytest.mark.parametrize("pixel_size", [8.0, 16.0, 11.0])
def test_annotations_are_found_without_searching_the_whole_volume(pixel_size, project, noise):
    for box in (BOX, Box((3, 0, 0), (4, 31, 17)), Box((1, 60, 70), (2, 96, 96))):
        project.annotations.accept(region(project, box), noise.integers(1, 3, box.shape))
    quick = project.volumes.open("target")
    assert sum(box.size for box in quick.annotated) > 0
    samplers = [
        PatchSampler([volume], 32, 4, pixel_size=pixel_size)
        for volume in (quick, replace(quick, annotated=()))
    ]
    assert samplers[0].prior("target", 2) == samplers[1].prior("target", 2)
    for sampler in samplers:
        labels = sampler.batch(0)["target"].labels[:2]
        assert all((patch != IGNORE).any() for patch in labels)


def test_annotations_are_a_plain_zarr_array_of_uint8(project):
    project.annotations.accept(region(project), np.full(BOX.shape, 2))
    array = zarr.open_array(project.folder / "annotations" / "target.zarr", mode="r")
    assert (array.dtype, array.shape) == (np.uint8, (4, 96, 96))
    assert array[:].sum() == 2 * BOX.size


# -- runs ----------------------------------------------------------------------------------------


def test_an_array_that_a_crash_has_left_empty_is_made(project):
    (project.folder / "annotations" / "target.zarr").mkdir(parents=True)
    assert project.annotations.open("target") is None
    assert not project.annotations.require("target")[:].any()


def test_runs_are_numbered_and_listed_once_they_have_a_model(project):
    first = project.runs.new("ynet")
    second = project.runs.new("mmd")
    assert [first.name, second.name] == ["001-ynet", "002-mmd"]
    with pytest.raises(JobError, match="no trained model yet: train one first"):
        project.run()
    for folder in (first, second):
        folder.checkpoint.touch()
    (project.folder / "runs" / "notes").mkdir()
    assert project.runs.names() == ["001-ynet", "002-mmd"]
    assert project.run() == second
    assert project.run("001-ynet") == first
    assert project.runs.new("ynet").name == "003-ynet"
    with pytest.raises(
        JobError, match=r"no run '001-ynt' with a model\. Did you mean '001-ynet'\?"
    ):
        project.run("001-ynt")


# -- how far the model agreed --------------------------------------------------------------------


def with_prediction(project, values):
    """The name of a new run that has predicted the target."""
    run = project.runs.new("histogram")
    run.checkpoint.touch()
    zarr.open_group(run.path / "probabilities.zarr", mode="a")
    zarr.create_array(
        run.probabilities("target"),
        data=values[None].astype(np.uint8),
        chunks=(1, 1, 96, 96),
    )
    note_as_predicted(run.path, "target", values.shape)
    return run.name


def test_an_accepted_patch_records_how_far_the_model_agreed(project, phantoms, noise):
    truth = phantoms["target"][1][BOX.slices]
    guess = np.where(noise.random((4, 96, 96)) < 0.2, 255, 0)
    run = with_prediction(project, guess)
    (suggested,) = project.regions.suggest(
        [{"volume": "target", "box": str(BOX), "score": 1}], "entropy", run
    )
    complete = project.annotations.accept(suggested, truth + 1)
    predicted = guess[BOX.slices] > 127
    np.testing.assert_array_equal(
        complete.confusion, confusion_matrix(truth.ravel(), predicted.ravel())
    )
    assert complete.changed == (truth != predicted).sum()
    painted = np.zeros(BOX.shape, np.uint8)
    painted[0, :4] = truth[0, :4] + 1
    partial = project.annotations.accept(suggested, painted, complete=False)
    np.testing.assert_array_equal(
        partial.confusion, confusion_matrix(truth[0, :4].ravel(), predicted[0, :4].ravel())
    )
    assert partial.changed == (truth[0, :4] != predicted[0, :4]).sum()
    assert Project.open(project.folder).regions.all() == [partial]


def test_without_a_prediction_the_annotation_is_compared_with_background(project, phantoms):
    truth = phantoms["target"][1][BOX.slices]
    accepted = project.annotations.accept(region(project), truth + 1)
    assert accepted.confusion == ()
    assert accepted.changed == truth.sum()


@pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="only Linux gives the name of an open file"
)
def test_annotations_are_synced_to_disk_before_they_are_recorded(project, monkeypatch):
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append(os.path.realpath(f"/proc/self/fd/{number}"))
    )
    suggested = region(project)
    synced.clear()
    project.annotations.accept(suggested, np.full(BOX.shape, 2))
    array = project.folder / "annotations" / "target.zarr"
    chunk = array / "c" / "1" / "0" / "0"
    folders = [*chunk.parents[:3], array, array.parent]
    assert [path for path in map(str, (chunk, *folders)) if path not in synced] == []
    assert synced.index(str(chunk)) < synced.index(str(project.folder / "regions.jsonl"))
    assert synced[-1] == str(project.folder / "regions.jsonl")


@pytest.mark.parametrize("zero", ["background", "unannotated"])
def test_labels_are_imported_where_nothing_is_annotated(zero, project, phantoms):
    truth = phantoms["target"][1]
    project.annotations.accept(region(project), np.full(BOX.shape, 2))
    imported = project.annotations.import_labels(truth * 7, "target", zero)
    ids = project.volumes.open("target").read_labels(Box.whole(truth.shape))
    assert (ids[BOX.slices] == 1).all()
    inside = np.zeros(truth.shape, bool)
    inside[BOX.slices] = True
    np.testing.assert_array_equal(
        ids[~inside], np.where(truth > 0, 1, 0 if zero == "background" else IGNORE)[~inside]
    )
    assert (imported.strategy, imported.decided) == ("imported", zero == "background")
    with pytest.raises(DataError, match="same shape"):
        project.annotations.import_labels(truth[1:], "target")


@pytest.mark.parametrize(
    ("number", "dtype"), [(3, np.uint8), (256, np.uint16), (-1, np.int16), (1.5, float)]
)
def test_a_number_that_is_no_class_is_not_accepted(number, dtype, project):
    values = np.ones(BOX.shape, dtype)
    values[0, 2, 3] = number
    suggested = region(project)
    with pytest.raises(
        DataError, match=rf"hold the number {number} in 1 voxel of section 1 \(y 12"
    ):
        project.annotations.accept(suggested, values)
    assert not np.asarray(project.annotations.open("target")).any()
    assert [r.state for r in project.regions.all()] == ["suggested"]


@pytest.mark.parametrize("number", [3, 255])
def test_a_number_that_is_no_class_is_replaced_by_imported_labels(number, project, phantoms):
    truth = phantoms["target"][1]
    array = project.annotations.require("target")
    array[1, 20:30, 40:50] = number
    with pytest.raises(DataError, match=f"number {number} in 100 voxels of section 1"):
        check_annotations(project.volumes.open("target"))
    project.annotations.import_labels(truth, "target")
    volume = project.volumes.open("target")
    check_annotations(volume)
    np.testing.assert_array_equal(
        volume.read_labels(Box.whole(truth.shape)), np.where(truth > 0, truth, IGNORE)
    )


def test_zero_can_mean_background_in_labelled_sections(project, phantoms):
    labels = phantoms["target"][1].copy()
    labels[2:] = 0
    assert labels[:2].any((1, 2)).all()
    imported = project.annotations.import_labels(labels, "target", whole_sections=True)
    ids = project.volumes.open("target").read_labels(Box.whole(labels.shape))
    assert np.array_equal(ids[:2], labels[:2] > 0)
    assert (ids[2:] == IGNORE).all()
    assert imported.state == "partial"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such setting")
def test_names_beyond_ascii_are_found_where_python_expects_ascii(tmp_path):
    """As on clusters, where jobs often run with LC_ALL=C."""
    folder = tmp_path / "Übung – Прое́кт"
    folder.mkdir()
    tifffile.imwrite(tmp_path / "gewebe_ü.tif", np.arange(100, dtype=np.uint8).reshape(5, 4, 5))
    # Made and opened by either, so that both write the same path.
    with Project.create(folder / "here", ("a", "b")) as project:
        project.volumes.add(tmp_path / "gewebe_ü.tif", "target", spacing=(50, 8, 8))
    script = (
        "import sys; from napari_emda.project.project import Project\n"
        "folder, image = sys.argv[1:]\n"
        "project = Project.create(folder + '/there', ('a', 'b'))\n"
        "project.volumes.add(image, 'target', spacing=(50, 8, 8))\n"
        "for project in (project, Project.open(folder + '/here')):\n"
        "    print(project.volumes.open(project.volumes.entries[0].name).shape)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, folder, tmp_path / "gewebe_ü.tif"],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout.split("\n"), run.stderr) == (["(5, 4, 5)", "(5, 4, 5)", ""], "")
    project = Project.open(folder / "there")
    assert project.volumes.open(project.volumes.entries[0].name).shape == (5, 4, 5)

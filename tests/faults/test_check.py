"""``check`` names every damage in a project, and ``--repair`` mends it and deletes nothing."""

from __future__ import annotations

import errno
import io
import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from napari_emda.data.box import Box
from napari_emda.errors import DataError
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from tests.cli.calling import call, listing
from tests.this_process import commands_here

RUN = "001-auto"
IN_RUN = f"runs/{RUN}"
CHUNK = "annotations/target.zarr/c/0/0/0"
SECOND_CHUNK = "annotations/target.zarr/c/2/0/0"


@pytest.fixture(autouse=True)
def same_process():
    """Commands leave their handlers behind."""
    with commands_here():
        yield


def model(path, step):
    """A file of the form of a model, of a few bytes."""
    values = {"format": 3, "model": {"step": step}, "training": {"settings": {"steps": 10}}}
    metadata = {"napari_emda": json.dumps(values)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": np.full(4, step, np.float32)}, path, metadata)


@pytest.fixture
def folder(make_project, tmp_path):
    """A project with two annotated patches, of which a backup has the first, and with a run."""
    with make_project(tmp_path / "project") as project:
        first = project.regions.add("target", Box((0, 0, 0), (1, 32, 32)))
        project.annotations.accept(first, np.full((1, 32, 32), 2))
        assert project.backups.make() is not None
        second = project.regions.add("target", Box((2, 40, 40), (3, 72, 72)))
        project.annotations.accept(second, np.full((1, 32, 32), 1))
        project.regions.drop([project.regions.add("target", Box((3, 0, 0), (4, 8, 8)))], "test")
        run = RunFolder(project.folder / IN_RUN)
        model(run.checkpoint, 10)
        model(run.candidate(5), 5)
        prediction = StoredPrediction(run, "target")
        shape = (1, *project.volumes.shape("target"))
        header = {"model": "m", "uncertainty": False}
        prediction.begin(header, shape, classes=project.classes, uncertainty=False)
        box = Box.whole(shape[1:])
        prediction.writer(uncertainty=False)(box, np.full(shape, 9, np.uint8), None)
        run.write_cluster_names({1: project.classes[1]})
    return tmp_path / "project"


def spoil(name):
    """Make the content of a file nonsense, of the same size."""

    def change(project):
        path = project / name
        path.write_bytes(b"\xff" * path.stat().st_size)

    return change


def shorten(name):
    return lambda project: os.truncate(project / name, (project / name).stat().st_size // 2)


def remove(name):
    return lambda project: (project / name).unlink()


def link(name):
    def change(project):
        (project / name).unlink(missing_ok=True)
        (project / name).symlink_to(project.parent / "outside.txt")

    return change


def tear_a_line(project):
    path = project / "regions.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0][:20] + b"\n", *lines[1:]]))


def lie_about_chunks(project):
    """Say that the annotations lie in narrower chunks than those that are on the disk."""
    path = project / "annotations/target.zarr/zarr.json"
    values = json.loads(path.read_text())
    values["chunk_grid"]["configuration"]["chunk_shape"][2] = 6
    path.write_text(json.dumps(values))


# What is done to a project, and words of the sentence on it.
DAMAGES = {
    "project file, nonsense": (spoil("project.json"), "project.json"),
    "project file, cut short": (shorten("project.json"), "project.json"),
    "project file, missing": (remove("project.json"), "project.json"),
    "project file, a link": (link("project.json"), "is a link"),
    "chunk, nonsense": (spoil(CHUNK), "section 0"),
    "chunk, cut short": (shorten(CHUNK), "section 0"),
    "chunk, a link": (link(CHUNK), "is a link"),
    "chunk without a backup": (spoil(SECOND_CHUNK), "section 2"),
    "chunk, missing": (remove(SECOND_CHUNK), "nothing is annotated there"),
    "description of the annotations": (spoil("annotations/target.zarr/zarr.json"), "zarr.json"),
    "other chunks in the description": (lie_about_chunks, "zarr.json"),
    "no description": (remove("annotations/target.zarr/zarr.json"), "zarr.json"),
    "a torn line of regions": (tear_a_line, "regions.jsonl"),
    "regions, nonsense": (spoil("regions.jsonl"), "regions.jsonl"),
    "undo, nonsense": (spoil("undo.jsonl"), "undo.jsonl"),
    "last model, nonsense": (spoil(f"{IN_RUN}/checkpoint.safetensors"), "model of the last step"),
    "last model, cut short": (shorten(f"{IN_RUN}/checkpoint.safetensors"), "cut short"),
    "kept model": (shorten(f"{IN_RUN}/candidates/5.safetensors"), "model of step 5"),
    "names of clusters": (spoil(f"{IN_RUN}/names.json"), "names of the clusters"),
    "prediction": (
        spoil(f"{IN_RUN}/probabilities.zarr/target/c/0/2/0/0"),
        "prediction of 'target'",
    ),
    "prediction's description": (
        spoil(f"{IN_RUN}/probabilities.zarr/target/zarr.json"),
        "prediction of 'target'",
    ),
    "a pipe": (lambda project: os.mkfifo(project / "on-view.txt"), "neither a file nor a folder"),
}


def contents(project):
    """The contents of all files, which a repair must keep somewhere."""
    paths = (path for path in project.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.read_bytes() for path in paths}


def are_kept(before, after):
    """Whether all contents are still there; to journals, lines may have been added."""
    return all(any(new.startswith(old) for new in after) for old in before)


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damage_is_named_and_repaired_and_nothing_is_deleted(case, folder):
    damage, words = DAMAGES[case]
    (folder.parent / "outside.txt").write_text("years of work")
    assert call("check", folder)[0] == 0
    damage(folder)
    before = contents(folder)

    status, out, _ = call("check", folder)
    assert status == 2
    assert words in out
    assert "Traceback" not in out
    assert "--repair" in out
    assert contents(folder) == before

    status, out, err = call("check", folder, "--repair", "--json")
    assert status == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["damages"]
    assert all(found["repaired"] and found["outcome"] for found in result["damages"])
    assert are_kept(before, contents(folder))
    if result["rescued"]:
        report = folder / "rescued" / os.path.basename(result["rescued"]) / "report.txt"  # noqa: PTH119
        assert result["damages"][0]["outcome"] in report.read_text(encoding="utf-8")
    assert (folder.parent / "outside.txt").read_text() == "years of work"

    assert call("check", folder)[0] == 0
    with Project.open(folder, exclusive=True) as project:
        assert [entry.name for entry in project.volumes.entries] == ["source", "target"]
        project.annotations.open("target")[:]


@pytest.mark.parametrize(
    "case", ["chunk, nonsense", "chunk, a link", "regions, nonsense", "no description"]
)
def test_annotations_come_back_from_the_backup(case, folder):
    (folder.parent / "outside.txt").write_text("years of work")
    DAMAGES[case][0](folder)
    assert call("check", folder, "--repair")[0] == 0
    with Project.open(folder) as project:
        assert (project.annotations.open("target")[0, :32, :32] == 2).all()
        accepted = [region for region in project.regions.all() if region.state == "accepted"]
        assert "0:1,0:32,0:32" in [region.box for region in accepted]


@pytest.mark.parametrize("name", ["latest", "by its name"])
def test_a_project_goes_back_to_a_backup_without_any_damage(name, folder):
    backup = next((folder / "backups").iterdir()).name
    before = contents(folder)
    status, out, _ = call("check", folder, "--restore", "latest" if name == "latest" else backup)
    assert status == 0
    assert backup in out
    with Project.open(folder) as project:
        accepted = [region.box for region in project.regions.all() if region.state == "accepted"]
        assert accepted == ["0:1,0:32,0:32"]
        painted = project.annotations.open("target")
        assert (painted[0, :32, :32] == 2).all()
        assert not painted[2].any()
    # The second patch is in 'rescued'.
    assert are_kept(before, contents(folder))


def test_a_backup_that_is_not_there_changes_nothing(folder):
    backup = next((folder / "backups").iterdir())
    before = contents(folder)
    status, _, err = call("check", folder, "--restore", "yesterday")
    assert (status, contents(folder)) == (2, before)
    assert f"choose latest or {backup.name}" in err
    with Project.open(folder, exclusive=True):
        status, _, err = call("check", folder, "--restore", "latest")
    assert (status, "open elsewhere" in err) == (2, True)
    backup.unlink()
    status, _, err = call("check", folder, "--restore", "latest")
    assert (status, "has no backups" in err) == (2, True)


def test_annotations_are_described_anew_without_a_backup(folder):
    for path in (folder / "backups").iterdir():
        path.unlink()
    spoil("annotations/target.zarr/zarr.json")(folder)
    assert call("check", folder, "--repair")[0] == 0
    with Project.open(folder) as project:
        assert (project.annotations.open("target")[0, :32, :32] == 2).all()


def test_a_patch_that_no_backup_has_is_suggested_again(folder):
    spoil(SECOND_CHUNK)(folder)
    _, out, _ = call("check", folder, "--repair")
    assert "annotate the patches 2:3,40:72,40:72 again" in out
    with Project.open(folder) as project:
        states = {region.box: region.state for region in project.regions.all()}
        assert states["2:3,40:72,40:72"] == "suggested"
        assert states["0:1,0:32,0:32"] == "accepted"
        assert not project.annotations.open("target")[2].any()


def test_a_run_goes_on_with_another_of_its_models(folder):
    spoil(f"{IN_RUN}/checkpoint.safetensors")(folder)
    assert call("check", folder, "--repair")[0] == 0
    kept = (folder / IN_RUN / "candidates" / "5.safetensors").read_bytes()
    assert (folder / IN_RUN / "checkpoint.safetensors").read_bytes() == kept


@pytest.mark.parametrize(
    "name",
    [
        "project.json",
        "regions.jsonl",
        CHUNK,
        "annotations/target.zarr/zarr.json",
        f"{IN_RUN}/checkpoint.safetensors",
        f"{IN_RUN}/names.json",
        f"{IN_RUN}/probabilities.zarr/target/c/0/2/0/0",
    ],
)
def test_what_the_system_does_not_let_be_read_is_left_as_it_is(name, folder, monkeypatch):
    """It is no damage: the user has to allow it, or the disk to come back."""
    opened = io.open

    def refusing(file, *arguments, **options):
        if str(file) == str(folder / name):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return opened(file, *arguments, **options)

    before = listing(folder)
    for place in ("io.open", "builtins.open"):
        monkeypatch.setattr(place, refusing)
    status, out, err = call("check", folder, "--repair")
    monkeypatch.undo()
    assert status == 2
    assert "Permission denied" in out + err
    assert "Traceback" not in out + err
    assert not (folder / "rescued").exists()
    assert listing(folder) == before


def test_what_nobody_but_the_user_can_mend_stays_a_damage(folder, phantom_files):
    path = folder / "project.json"
    path.write_text(path.read_text().replace("target_image", "moved_image"))
    for options in ((), ("--repair",)):
        status, out, _ = call("check", folder, *options)
        assert status == 2
        assert "The image of 'target' cannot be read" in out
        assert "does not exist" in out


def test_images_are_read_to_their_end(folder, tmp_path):
    with Project.open(folder, exclusive=True) as project:
        image = tmp_path / "image.tif"
        image.write_bytes(project.volumes.files()[-1].read_bytes())
        content = bytearray(image.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(64)
        entry = project.volumes.add(image, "target", name="other")
        image.write_bytes(content)
    status, out, _ = call("check", folder)
    assert status == 2
    assert f"The image of '{entry.name}' cannot be read" in out


def test_a_damaged_chunk_that_is_met_at_work_is_one_sentence(folder):
    spoil(CHUNK)(folder)
    with Project.open(folder) as project, pytest.raises(DataError, match="check PROJECT --repair"):
        project.annotations.open("target")[0]


def test_a_project_that_is_open_is_checked_and_not_repaired(folder):
    with Project.open(folder, exclusive=True):
        assert call("check", folder)[0] == 0
        status, _, err = call("check", folder, "--repair")
    assert status == 2
    assert "open elsewhere" in err


def test_other_folders_are_left_alone(tmp_path):
    for options in ((), ("--repair",)):
        status, _, err = call("check", tmp_path, *options)
        assert status == 2
        assert "is not a project" in err
    assert list(tmp_path.iterdir()) == []


def test_a_newer_project_is_not_damaged(folder):
    path = folder / "project.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "format": 99}))
    before = listing(folder)
    status, _, err = call("check", folder, "--repair")
    assert status == 2
    assert "update napari-emda" in err
    assert {k: v for k, v in listing(folder).items() if k != ".lock"} == {
        k: v for k, v in before.items() if k != ".lock"
    }

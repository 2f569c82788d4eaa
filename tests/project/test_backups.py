"""Backups: copies of the annotations that are checked, bounded in number, and put back whole."""

import os
import shutil
import zipfile

import numpy as np
import pytest

from napari_emda.data.box import Box
from napari_emda.errors import DataError, JobError
from napari_emda.project.backups import KEPT, Backups
from napari_emda.project.region import Region

BOXES = (Box((0, 0, 0), (1, 32, 32)), Box((2, 40, 50), (3, 72, 90)))


def annotate(project, box, value=2):
    """Accept a patch of one class; returns the annotations of the volume."""
    region = project.regions.add("target", box)
    project.annotations.accept(region, np.full(box.shape, value))
    return project.annotations.open("target")[:]


def listing(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def states(project):
    return {region.id: region.state for region in project.regions.all()}


def test_nothing_is_copied_before_anything_is_annotated(project):
    project.regions.add("target", BOXES[0])
    assert project.backups.make() is None
    assert project.backups.all() == []


def test_what_was_lost_is_restored_and_what_is_replaced_is_kept(project):
    before = annotate(project, BOXES[0])
    regions = states(project)
    backup = project.backups.make()
    assert (backup.patches, backup.round) == (1, 1)
    assert project.backups.all() == [backup]
    after = annotate(project, BOXES[1])
    chunk = project.folder / "annotations" / "target.zarr" / "c" / "0" / "0" / "0"
    chunk.write_bytes(b"damaged")
    rescued = project.backups.restore(backup)
    np.testing.assert_array_equal(project.annotations.open("target")[:], before)
    assert states(project) == regions
    assert (rescued / "annotations" / "target.zarr" / "c" / "0" / "0" / "0").read_bytes() == (
        b"damaged"
    )
    assert len((rescued / "regions.jsonl").read_text().splitlines()) == 4
    assert after.sum() > before.sum()
    assert project.history.undo() is None


def test_a_backup_can_be_used_without_this_program(project, tmp_path):
    annotate(project, BOXES[0])
    backup = project.backups.make()
    shutil.unpack_archive(backup.path, tmp_path / "copy")
    for name, content in listing(tmp_path / "copy").items():
        if name != "backup.json":
            assert (project.folder / name).read_bytes() == content
    assert {"project.json", "regions.jsonl"} < set(listing(tmp_path / "copy"))


def test_without_a_change_there_is_no_second_backup(project):
    annotate(project, BOXES[0])
    assert project.backups.make() is not None
    assert project.backups.make() is None
    annotate(project, BOXES[1])
    assert project.backups.make() is not None
    assert [backup.patches for backup in project.backups.all()] == [2, 1]


def test_the_last_ones_are_kept_and_no_other_file_is_removed(project, monkeypatch):
    clock = iter(range(1_700_000_000, 1_800_000_000, 3600))
    monkeypatch.setattr("napari_emda.project.backups.time.time", lambda: next(clock))
    (project.folder / "backups").mkdir()
    (project.folder / "backups" / "mine.zip").touch()
    for count in range(KEPT + 3):
        annotate(project, Box((0, 0, count * 4), (1, 4, count * 4 + 4)))
        assert project.backups.make() is not None
    assert [backup.patches for backup in project.backups.all()] == list(range(KEPT + 3, 3, -1))
    assert len(list((project.folder / "backups").iterdir())) == KEPT + 1


def test_damaged_annotations_do_not_push_out_good_backups(project):
    annotate(project, BOXES[0])
    good = project.backups.make()
    annotate(project, BOXES[1])
    chunk = project.folder / "annotations" / "target.zarr" / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(DataError, match=r"damaged in section 0: .*check PROJECT --repair'\."):
        project.backups.make()
    assert project.backups.all() == [good]
    assert [path.name for path in good.path.parent.iterdir()] == [good.name]


def test_a_single_chunk_is_found_in_the_newest_backup_that_has_it(project):
    annotate(project, BOXES[0])
    path = project.folder / "annotations" / "target.zarr" / "c" / "0" / "0" / "0"
    content = path.read_bytes()
    older = project.backups.make()
    assert project.backups.chunk("target", (0, 0, 0)) == (older, content)
    assert project.backups.chunk("target", (1, 0, 0)) is None
    annotate(project, BOXES[1])
    newer = project.backups.make()
    assert project.backups.chunk("target", (0, 0, 0)) == (newer, content)
    (project.folder / "project.json").unlink()
    found, text = Backups(project.folder).project_file()
    assert (found, b'"classes"' in text) == (newer, True)


def spoil(path, how):
    content = path.read_bytes()
    if how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif how == "spoilt":
        place = content.index(b"zstd") if b"zstd" in content else len(content) // 3
        path.write_bytes(content[:place] + b"\xff\xfe" + content[place + 2 :])
    elif how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["cut off", "empty"])
def test_a_damaged_backup_is_not_offered_and_changes_nothing(how, project):
    annotate(project, BOXES[0])
    backup = project.backups.make()
    spoil(backup.path, how)
    before = listing(project.folder)
    assert project.backups.all() == []
    with pytest.raises(DataError, match="is damaged: choose another"):
        project.backups.restore(backup)
    assert listing(project.folder) == before
    annotate(project, BOXES[1])
    assert project.backups.make() in project.backups.all()


@pytest.mark.parametrize(
    "name",
    [
        "../outside.txt",
        "/tmp/outside.txt",
        "annotations/../../outside.zarr/zarr.json",
        "annotations/...zarr/zarr.json",
        "annotations/target.zarr/c/0/0/../0",
        "annotations\\target.zarr\\zarr.json",
        "annotations/target.zarr/c/-1/0/0",
        "runs/001-a/job.json",
        "annotations/target.zarr/c/0/0/9",
    ],
)
def test_a_backup_from_elsewhere_leads_nowhere_and_unfolds_to_nothing(name, project, tmp_path):
    annotate(project, BOXES[0])
    backup = project.backups.make()
    with zipfile.ZipFile(backup.path, "a", zipfile.ZIP_DEFLATED) as file:
        # Deflated, a chunk is a bomb.
        file.writestr(name, b"\0" * 100_000)
    before = listing(tmp_path)
    with pytest.raises(DataError, match="holds foreign files"):
        project.backups.restore(backup)
    assert listing(tmp_path) == before
    assert project.backups.chunk("target", (0, 0, 9)) is None


def test_backups_that_are_a_link_are_refused(project, tmp_path):
    annotate(project, BOXES[0])
    (tmp_path / "elsewhere").mkdir()
    (project.folder / "backups").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobError, match="is a link"):
        project.backups.make()
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_disk_that_fails_leaves_the_annotations_and_the_older_backups(project, monkeypatch):
    before = annotate(project, BOXES[0])
    backup = project.backups.make()
    after = annotate(project, BOXES[1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(OSError, match="No space"):
            project.backups.make()
        with pytest.raises(OSError, match="No space"):
            project.backups.restore(backup)
    assert [path.name for path in backup.path.parent.iterdir()] == [backup.name]
    np.testing.assert_array_equal(project.annotations.open("target")[:], after)
    project.backups.restore(backup)
    np.testing.assert_array_equal(project.annotations.open("target")[:], before)


def test_a_backup_that_cannot_be_read_back_is_none(project, monkeypatch):
    annotate(project, BOXES[0])
    # zipfile says this of a disk that fails.
    error = zipfile.BadZipFile("File is not a zip file")
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "testzip", lambda _: (_ for _ in ()).throw(error))
        with pytest.raises(OSError, match="cannot be read back"):
            project.backups.make()
    assert not list((project.folder / "backups").iterdir())


def test_a_backup_clears_what_killed_programs_have_left(project):
    annotate(project, BOXES[0])
    partial = project.folder / "annotations/target.zarr/c/0/0/.0-0123abcd-partial"
    partial.touch()
    project.backups.make()
    assert not partial.exists()


def test_regions_of_other_volumes_and_partial_ones_are_counted_once(project):
    region = Region(id="a", volume="target", box="0:1,0:8,0:8")
    for state in ("suggested", "partial", "accepted"):
        project.regions.record(region.model_copy(update={"state": state}))
    assert project.backups.make().patches == 1

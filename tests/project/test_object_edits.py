"""Decisions on objects of a project: journal, undo, crashes, and what they teach."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import zarr
from skimage.measure import label

from napari_emda.data.box import Box
from napari_emda.errors import DataError, JobError
from napari_emda.jobs.execute import execute
from napari_emda.objects.table_file import read_csv
from napari_emda.project.checking.check import check, repair
from napari_emda.project.checking.damage import Damage
from napari_emda.project.job_files import ExportJob, ObjectsJob
from napari_emda.project.project import Project
from napari_emda.project.proofreading import Proofreading, reconcile, undo
from tests.jobs.conftest import CLASSES, RUN

SHAPE = (4, 40, 60)
# Three discs; the first two touch. A square of the other class lies beside the third.
DISCS = [(12, 10), (12, 19), (30, 45)]


def disc_values(radius=5.5):
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    values = np.zeros((2, *SHAPE), np.uint8)
    for cy, cx in DISCS:
        values[0, 1:3, (y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 220
    values[1, 1:3, 28:34, 52:56] = 220
    return values


@pytest.fixture
def project_folder(tmp_path, monkeypatch):
    return made(tmp_path, monkeypatch, disc_values())


def made(tmp_path, monkeypatch, values):
    from types import SimpleNamespace

    zarr.save_array(tmp_path / "target.zarr", np.zeros(SHAPE, np.uint8))
    with Project.create(tmp_path / "p", CLASSES) as project:
        project.volumes.add(tmp_path / "target.zarr", "target", spacing=(50.0, 8.0, 8.0))
        run = project.folder / "runs" / RUN
        run.mkdir(parents=True)
        (run / "checkpoint.safetensors").write_bytes(b"")
        zarr.open_group(run / "probabilities.zarr", mode="a")
        zarr.create_array(
            run / "probabilities.zarr" / "target",
            data=values,
            attributes={"classes": list(CLASSES)},
        )
    header = SimpleNamespace(classes=CLASSES, features_only=False)
    monkeypatch.setattr("napari_emda.inference.checkpoint.read_header", lambda path: header)
    monkeypatch.setattr("napari_emda.jobs.objects.ensure_predicted", lambda *_: iter(()))
    list(execute(ObjectsJob(project=str(project.folder), run=RUN)))
    return project.folder


def opened(project, class_name="mitochondria"):
    return Proofreading.of(project, RUN, "target", class_name)


def annotations(project):
    array = project.annotations.open("target")
    return np.zeros(SHAPE, np.uint8) if array is None else np.asarray(array[...])


def at(objects, disc):
    return int(objects.objects[1, disc[0], disc[1]])


def damages_of(project, place):
    found = check(project)
    return [damage for damage in found if isinstance(damage, Damage) and damage.place == place]


def test_decisions_last_and_can_be_taken_back(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        found = objects.objects[...]
        pair = at(objects, DISCS[0])
        objects.split(pair, [(1, 12, 8), (2, 12, 21)])
        parts = at(objects, DISCS[0]), at(objects, DISCS[1])
        assert len({*parts, at(objects, DISCS[2])}) == 3
        objects.delete(at(objects, DISCS[2]))
        after = objects.objects[...]
        assert set(np.unique(after)) == {0, *parts}
    # As after a crash: everything is read from the disk.
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        np.testing.assert_array_equal(objects.objects[...], after)
        assert objects.undo().kind == "delete"
        assert objects.undo().kind == "split"
        assert objects.undo() is None
        np.testing.assert_array_equal(objects.objects[...], found)
        assert not annotations(project).any()
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        assert [objects.redo().kind for _ in range(2)] == ["split", "delete"]
        assert objects.redo() is None
        np.testing.assert_array_equal(objects.objects[...], after)


def test_a_good_object_teaches_its_class_and_a_rim(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        number = at(objects, DISCS[2])
        mask = objects.objects[...] == number
        objects.good(number)
        taught = annotations(project)
        assert (taught[mask] == 2).all()
        y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
        distance = np.hypot(y - DISCS[2][0], x - DISCS[2][1])
        values = disc_values()
        other_class = values[1] > 0
        # Sections are 50 nm apart, and the rim is 4 pixels of 8 nm wide.
        assert not taught[[0, 3]].any()
        section = taught[1]
        assert (section[(distance > 6.5) & (distance < 8) & ~other_class[1]] == 1).all()
        assert not section[distance > 10.5].any()
        # The other class was not decided on.
        assert not taught[other_class].any()
        assert not taught[label(values[0] > 0) == 1].any()
        assert project.regions.any_annotated()
        (region,) = project.regions.all()
        assert (region.strategy, region.state) == ("object", "partial")


def test_a_deleted_object_is_background_and_a_split_one_has_a_seam(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        third = at(objects, DISCS[2])
        mask = objects.objects[...] == third
        objects.delete(third)
        assert (annotations(project)[mask] == 1).all()
        assert (annotations(project) > 0).sum() == mask.sum()
        objects.split(at(objects, DISCS[0]), [(1, 12, 8), (1, 12, 21)])
        parts = [objects.objects[...] == at(objects, disc) for disc in DISCS[:2]]
        taught = annotations(project)
        # Wherever the parts share a face in a section.
        seam = parts[0][:, :, :-1] & parts[1][:, :, 1:]
        assert seam.any()
        assert (taught[:, :, :-1][seam] == 1).all() and (taught[:, :, 1:][seam] == 1).all()
        assert (taught[1, 12, 6:9] == 0).all()
        assert taught[1, 12, 12] == 2 and taught[1, 12, 17] == 2


def test_what_was_painted_is_never_overwritten(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        array = project.annotations.require("target")
        z, y, x = 1, DISCS[2][0], DISCS[2][1]
        array[z, y, x] = 3
        number = at(objects, DISCS[2])
        objects.good(number)
        assert annotations(project)[z, y, x] == 3
        # Painted over after the decision.
        array[z, y, x + 1] = 1
        objects.undo()
        left = annotations(project)
        assert left[z, y, x] == 3 and left[z, y, x + 1] == 1
        assert (left > 0).sum() == 2


def test_redraw_opens_a_patch_where_the_object_is_largest(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        edit, region = objects.redraw(at(objects, DISCS[2]))
        assert region.state == "suggested" and region.id == edit.region
        disc = Box((1, 25, 40), (2, 36, 51))
        assert region.voxels.clip_to(disc) in (disc, disc.moved((1, 0, 0)))
        objects.undo()
        assert [r.state for r in project.regions.all()] == ["replaced"]
        objects.redo()
        assert [r.state for r in project.regions.all()] == ["suggested"]


def test_a_new_decision_ends_what_could_be_repeated(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        edit = objects.delete(at(objects, DISCS[2]))
        record = project_folder / "undo" / f"{edit.region}.zarr"
        objects.undo()
        assert record.exists()
        objects.good(at(objects, DISCS[0]))
        assert not record.exists()
        assert objects.redo() is None


def test_wrong_decisions_are_refused_and_leave_no_trace(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        refused = [
            (lambda: objects.delete(99), "There is no object 99"),
            (lambda: objects.merge(1, 1), "cannot be merged with itself"),
            (lambda: objects.merge(1, 99), "There is no object 99"),
            (lambda: objects.split(1, [(1, 12, 10), (0, 0, 0)]), "in the background"),
        ]
        for act, problem in refused:
            with pytest.raises(DataError, match=problem):
                act()
        assert not (project_folder / "object_edits.jsonl").exists()
        assert not project.regions.all()


def test_a_damaged_line_costs_that_line_alone_and_can_be_repaired(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        objects.good(at(objects, DISCS[2]))
        objects.delete(at(objects, DISCS[0]))
    path = project_folder / "object_edits.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    # The last line is cut off, as by a kill.
    path.write_bytes(lines[0] + lines[1][: len(lines[1]) // 2])
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        assert [edit.kind for edit in objects.replayed.done] == ["good"]
        objects.delete(at(objects, DISCS[0]))
        assert [edit.kind for edit in opened(project).replayed.done] == ["good", "delete"]
    path.write_bytes(lines[0].replace(b"good", b"goof") + lines[1])
    (damage,) = damages_of(project_folder, path.name)
    assert "1 of 2 edits of objects" in damage.problem
    list(repair(project_folder))
    assert len(path.read_bytes().splitlines()) == 1
    assert not damages_of(project_folder, path.name)


@pytest.mark.parametrize(
    "line",
    [
        b'{"undo":"../../x"}',
        b'{"redo":5}',
        b'{"edit":7}',
        b'{"edit":{"kind":"delete"}}',
        b"[1]",
        b"[" * 5000,
        b"7",
        b'{"undo":"unknown"}',
    ],
)
def test_nonsense_in_the_journal_has_no_effect(project_folder, line):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        objects.delete(at(objects, DISCS[2]))
        with (project_folder / "object_edits.jsonl").open("ab") as file:
            file.write(line + b"\n")
        assert [edit.kind for edit in opened(project).replayed.done] == ["delete"]


def test_a_link_in_place_of_the_journal_is_refused(project_folder, tmp_path):
    other = tmp_path / "elsewhere"
    other.write_text("")
    (project_folder / "object_edits.jsonl").symlink_to(other)
    with pytest.raises(JobError, match="is a link"):
        Project.open(project_folder)


def test_a_crash_between_decision_and_annotations_is_made_up_for(project_folder, monkeypatch):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        number = at(objects, DISCS[2])

        def killed(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(project.annotations, "teach", killed)
        with pytest.raises(KeyboardInterrupt):
            objects.delete(number)
        assert not annotations(project).any()
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        assert not objects.objects.exists(number)
        assert annotations(project).any()


def test_a_crash_between_undo_and_annotations_is_made_up_for(project_folder, monkeypatch):
    with Project.open(project_folder, exclusive=True) as project:
        opened(project).delete(1)

        def killed(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(project.history, "swap_taught", killed)
            with pytest.raises(KeyboardInterrupt):
                undo(project)
        assert annotations(project).any()
        reconcile(project)
        assert not annotations(project).any()


def test_edits_of_a_prediction_that_is_gone_are_refused(project_folder):
    path = project_folder / "runs" / RUN / "objects" / "target" / "objects.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "prediction": {"model": "another"}}))
    with Project.open(project_folder) as project:
        with pytest.raises(JobError, match="is gone or was replaced: find the objects again"):
            opened(project)
        path.unlink()
        with pytest.raises(JobError, match="No objects were found in 'target'"):
            opened(project)


def test_no_decision_is_made_on_objects_that_were_found_anew_meanwhile(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        list(execute(ObjectsJob(project=str(project_folder), run=RUN, settings={"threshold": 0.7})))
        with pytest.raises(JobError, match="were found anew meanwhile"):
            objects.delete(1)
        assert not (project_folder / "object_edits.jsonl").exists()
        assert not annotations(project).any()


@pytest.mark.parametrize("kind", ["good", "delete", "split", "redraw"])
def test_no_decision_is_made_once_the_prediction_is_gone(project_folder, kind):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        shutil.rmtree(project_folder / "runs" / RUN / "probabilities.zarr" / "target")
        seeds = [[(1, *DISCS[0]), (1, *DISCS[1])]] if kind == "split" else []
        with pytest.raises(JobError, match="is gone or was replaced"):
            getattr(objects, kind)(1, *seeds)
        # The next start would carry out what the journal holds.
        assert not (project_folder / "object_edits.jsonl").exists()
        assert not project.regions.all()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("objects.json", "{"),
        ("objects.json", '{"run": "../x", "volume": "target", "settings": {}, "classes": {}}'),
        ("1.csv", "id,voxels\n1,1\n"),
        ("1.csv", "\x00"),
        ("1-queue.csv", "id,score,twin,reason\n1,nan,0,\n"),
        ("1-queue.csv", "id,score,twin,reason\n1,0.5,77,\n"),
    ],
)
def test_damaged_files_of_objects_are_named(project_folder, name, text):
    (project_folder / "runs" / RUN / "objects" / "target" / name).write_text(text)
    project = Project.open(project_folder)
    with pytest.raises((JobError, DataError), match=name):
        opened(project).queue()


def test_edits_are_carried_over_to_other_settings(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        objects.split(at(objects, DISCS[0]), [(1, 12, 8), (2, 12, 21)])
        objects.delete(at(objects, DISCS[2]))
    settings = {"threshold": 0.6, "minimum_size": 3}
    list(execute(ObjectsJob(project=str(project_folder), run=RUN, settings=settings)))
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        assert objects.replayed.moved and not objects.replayed.lost
        assert at(objects, DISCS[0]) != at(objects, DISCS[1])
        assert at(objects, DISCS[2]) == 0


def test_edits_of_one_class_leave_the_other_alone(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        opened(project).delete(1)
        other = opened(project, "membrane")
        assert other.objects.exists(1)
        with pytest.raises(JobError, match="objects of 2 classes: choose one"):
            Proofreading.of(project, RUN)


def test_objects_that_were_decided_on_leave_the_queue(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        assert sorted(objects.queue()["id"].tolist()) == [1, 2]
        objects.good(1)
        assert objects.queue()["id"].tolist() == [2]
        objects.undo()
        assert sorted(objects.queue()["id"].tolist()) == [1, 2]


def test_exports_and_numbers_contain_the_edits(project_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_emda.jobs.export.ensure_predicted", lambda *_: iter(()))
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        objects.split(at(objects, DISCS[0]), [(1, 12, 8), (2, 12, 21)])
        objects.delete(at(objects, DISCS[2]))
        expected = objects.objects[...]
        voxels = {k: objects.objects.voxels(k) for k in objects.objects.ids.tolist()}
    common = {"project": str(project_folder), "run": RUN, "class_name": "mitochondria"}
    for what, name in (("objects", "o.zarr"), ("table", "t.csv"), ("meshes", "m.ply")):
        job = ExportJob(what=what, to=str(tmp_path / name), **common)
        *_, last = execute(job)
        assert last.text.endswith("The objects contain 2 edits.")
    ids = zarr.open_group(tmp_path / "o.zarr", mode="r")["0"][...]
    np.testing.assert_array_equal(ids, expected)
    table = read_csv(tmp_path / "t.csv")
    assert dict(zip(table["id"].tolist(), table["voxels"].tolist(), strict=True)) == voxels
    *_, last = execute(ObjectsJob(**common))
    numbers = last.result["classes"]["mitochondria"]
    assert numbers["objects"] == len(voxels)
    assert numbers["total"] == sum(voxels.values()) * 50 * 8 * 8
    assert last.text.endswith("The objects contain 2 edits.")


def test_a_backup_holds_the_edits(project_folder):
    with Project.open(project_folder, exclusive=True) as project:
        objects = opened(project)
        objects.good(1)
        backup = project.backups.make()
        objects.delete(2)
        project.backups.restore(backup)
        again = opened(project)
        assert [edit.kind for edit in again.replayed.done] == ["good"]

"""A packed project is the project, and a forged one does nothing.

The project is the stored one of an early version, so that nothing is trained here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_emda.errors import DataError, EmdaError, JobError
from napari_emda.io.identity import image_identity
from napari_emda.io.known_servers import UnknownServer
from napari_emda.io.read import open_image, open_labels
from napari_emda.jobs.inputs import remarks
from napari_emda.project.owner import Owner
from napari_emda.project.packing import manifest, unpack
from napari_emda.project.packing.crops import remark_on_crops
from napari_emda.project.packing.manifest import MANIFEST
from napari_emda.project.packing.pack import pack
from napari_emda.project.packing.unpack import is_pack, missing_images, unpacked
from napari_emda.project.project import Project
from tests.cli.calling import answer, call, listing
from tests.project.test_old_versions import STORED
from tests.this_process import commands_here


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A project, in ``p``, beside its images."""
    folder = tmp_path_factory.mktemp("stored")
    with zipfile.ZipFile(STORED) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def packs(stored):
    """The project packed in each way: paths by images."""
    return {
        images: packed(stored / "p", stored / f"{images}.zip", images)
        for images in ("none", "crops", "whole")
    }


@pytest.fixture
def received(packs, tmp_path):
    """A pack in a folder of its own, as a colleague gets it."""
    return Path(shutil.copy(packs["none"], tmp_path / "brain.zip"))


def run(work):
    """The result of work that says what it does."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def packed(folder, path, images="none", **options):
    with Project.open(folder, exclusive=True) as project:
        return run(pack(project, path, images, **options)).path


def opened(path, folder=None):
    return run(unpacked(path, folder))


# -- what travels ----------------------------------------------------------------------------------


def test_a_project_that_travelled_with_its_images_is_the_same(stored, packs, tmp_path):
    folder = opened(packs["whole"], tmp_path / "elsewhere")
    before, after = listing(stored / "p"), listing(folder)
    same = {
        name
        for name in before
        if not name.endswith((".lock", "project.json", "job.json", "log.jsonl"))
    }
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    with Project.open(stored / "p") as old, Project.open(folder) as new:
        assert new.classes == old.classes
        assert new.regions.all() == old.regions.all()
        for entry in old.volumes.entries:
            ours, theirs = old.volumes.open(entry.name), new.volumes.open(entry.name)
            np.testing.assert_array_equal(np.asarray(theirs.image[:]), np.asarray(ours.image[:]))
            assert theirs.grid == ours.grid
            assert image_identity(theirs.path) == image_identity(ours.path)
    assert missing_images(folder) == []


def test_large_images_keep_their_time_by_which_predictions_know_them(
    stored, packs, tmp_path, monkeypatch
):
    monkeypatch.setattr("napari_emda.io.identity._READ_WHOLE", 0)
    folder = opened(packs["whole"], tmp_path / "elsewhere")
    travelled = image_identity(folder / "volumes/target/image/target.tif")
    assert travelled == image_identity(stored / "target.tif")
    os.utime(stored / "target.tif")
    assert travelled != image_identity(stored / "target.tif")


def test_a_prediction_that_travelled_is_not_made_again(packs, tmp_path):
    folder = opened(packs["whole"], tmp_path / "elsewhere")
    before = listing(folder)
    with commands_here():
        answer("predict", folder, "--run", "001-auto")
    assert {k: v for k, v in listing(folder).items() if "probabilities" in k} == {
        k: v for k, v in before.items() if "probabilities" in k
    }


def test_without_images_they_are_looked_for_beside_the_project(stored, received):
    folder = opened(received)
    assert folder == received.with_suffix("")
    names = ["../source.tif", "../source-labels.tif", "../target.tif"]
    assert missing_images(folder) == names
    for name in names:
        shutil.copy(stored / name[3:], folder.parent)
    assert missing_images(folder) == []
    with Project.open(folder) as project:
        assert project.volumes.open("target").shape == (3, 64, 64)


def test_crops_hold_the_image_around_patches_at_their_places(stored, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_emda.project.packing.crops.MARGIN", 8)
    shutil.copytree(stored, tmp_path / "s")
    path = packed(tmp_path / "s" / "p", tmp_path / "crops.zip", "crops")
    folder = opened(path)
    with Project.open(stored / "p") as old, Project.open(folder) as new:
        kept = np.zeros((3, 64, 64), bool)
        for region in old.regions.all():
            z0, z1, y0, y1, x0, x1 = region.voxels.bounds
            kept[z0:z1, max(0, y0 - 8) : y1 + 8, max(0, x0 - 8) : x1 + 8] = True
        assert 0 < kept.sum() < kept.size
        image = np.asarray(old.volumes.open("target").image[:])
        crops = np.asarray(new.volumes.open("target").image[:])
        np.testing.assert_array_equal(crops, np.where(kept, image, 0))
        source = new.volumes.open("source")
        np.testing.assert_array_equal(source.image[:], old.volumes.open("source").image[:])
        np.testing.assert_array_equal(source.labels[:], old.volumes.open("source").labels[:])
        assert new.run("001-auto").checkpoint.is_file()
        assert remark_on_crops(old) == ""
        assert "of 'target' it holds what is around the annotated patches" in remark_on_crops(new)
        (said,) = remarks(new, None)
        assert said.text == remark_on_crops(new)
    assert not list(folder.glob("runs/*/probabilities.zarr"))
    # Packed once more with all there is, it still has no whole image.
    again = opened(packed(folder, tmp_path / "again.zip", "whole"))
    with Project.open(again) as project:
        assert "'target'" in remark_on_crops(project)


def test_no_file_of_a_pack_says_where_the_project_lay(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "alice")
    folder = tmp_path / "alice" / "p"
    for run_folder in (folder / "runs").iterdir():
        job = json.loads((run_folder / "job.json").read_text())
        job["project"] = "/home/alice/p"
        (run_folder / "job.json").write_text(json.dumps(job))
        log = {"event": "saved", "path": str(run_folder / "checkpoint.safetensors"), "step": 1}
        (run_folder / "log.jsonl").write_text(json.dumps(log) + "\n")
        (run_folder / "job.log").write_text("/home/alice")
    path = packed(folder, tmp_path / "p.zip", "whole")
    assert b"alice" not in path.read_bytes()
    with Project.open(opened(path, tmp_path / "q")) as project:
        assert project.run("001-auto").training().method == "auto"


def test_an_image_of_two_files_and_a_folder_of_sections_travel(tmp_path):
    pytest.importorskip("nrrd")
    image = np.random.default_rng(0).integers(0, 255, (2, 40, 48), np.uint8)
    (tmp_path / "header.nhdr").write_text(
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 48 40 2\nencoding: raw\n"
        "data file: voxels.raw\n"
    )
    (tmp_path / "voxels.raw").write_bytes(image.tobytes())
    group = zarr.create_group(tmp_path / "stack.zarr")
    group.create_array("inner/0", data=image)
    with Project.create(tmp_path / "p") as project:
        project.volumes.add(tmp_path / "header.nhdr", "target", spacing=(50, 8, 8))
        project.volumes.add(tmp_path / "stack.zarr" / "inner" / "0", "target", spacing=(50, 8, 8))
    folder = opened(packed(tmp_path / "p", tmp_path / "p.zip", "whole"), tmp_path / "q")
    with Project.open(folder) as project:
        for entry in project.volumes.entries:
            np.testing.assert_array_equal(project.volumes.open(entry.name).image[:], image)


def test_one_file_of_image_and_labels_is_packed_once(tmp_path):
    h5py = pytest.importorskip("h5py")
    image = np.random.default_rng(0).integers(0, 255, (2, 40, 48), np.uint8)
    with h5py.File(tmp_path / "both.h5", "w") as file:
        file["raw"] = image
        file["labels"] = (image > 127).astype(np.uint8)
    with Project.create(tmp_path / "p") as project:
        raw, labels = tmp_path / "both.h5:/raw", tmp_path / "both.h5:/labels"
        project.volumes.add(raw, "source", labels=labels, spacing=(50, 8, 8))
    folder = opened(packed(tmp_path / "p", tmp_path / "p.zip", "whole"), tmp_path / "q")
    with Project.open(folder) as project:
        volume = project.volumes.open("both_raw")
        np.testing.assert_array_equal(volume.image[:], image)
        np.testing.assert_array_equal(volume.labels[:], image > 127)
    assert len(list(folder.glob("volumes/**/*.h5"))) == 1


def test_files_of_one_name_get_names_of_their_own(stored, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(stored / "target.tif", tmp_path / name / "image.tif")
    with Project.create(tmp_path / "p") as project:
        for name in ("a", "b"):
            project.volumes.add(tmp_path / name / "image.tif", "target", spacing=(50, 8, 8))
    folder = opened(packed(tmp_path / "p", tmp_path / "p.zip"), tmp_path / "q")
    assert missing_images(folder) == ["../image.tif", "../image-2.tif"]


def test_names_that_other_systems_take_for_one_are_told_apart(stored, tmp_path):
    with Project.create(tmp_path / "p") as project:
        names = [
            project.volumes.add(stored / "target.tif", "target", name=name).name
            for name in ("Brain", "brain", "BRAIN")
        ]
    assert names == ["Brain", "brain_2", "BRAIN_3"]
    # As versions before have named them.
    shutil.copytree(stored, tmp_path / "s")
    if (tmp_path / "s/p/runs/001-AUTO").exists():
        return  # this system takes them for one itself
    shutil.copytree(tmp_path / "s/p/runs/001-auto", tmp_path / "s/p/runs/001-AUTO")
    with pytest.raises(JobError, match="rename the volume, run or file"):
        packed(tmp_path / "s" / "p", tmp_path / "p.zip")
    assert not (tmp_path / "p.zip").exists()


# -- what is refused -------------------------------------------------------------------------------


def test_a_run_that_is_being_written_is_not_packed(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "s")
    folder = tmp_path / "s" / "p"
    Owner.of().write(folder / "runs" / "001-auto" / "predicted-by-target.json")
    with pytest.raises(JobError, match="being trained or predicted"):
        packed(folder, tmp_path / "p.zip")
    assert not (tmp_path / "p.zip").exists()


@pytest.mark.parametrize("place", ["annotations/x", "runs/001-auto/x", "runs/001-auto/candidates"])
def test_a_link_is_not_packed(stored, tmp_path, place):
    shutil.copytree(stored, tmp_path / "s")
    (tmp_path / "s" / "p" / place).symlink_to(stored)
    with pytest.raises(JobError, match="is a link"):
        packed(tmp_path / "s" / "p", tmp_path / "p.zip")


def test_a_pack_replaces_nothing_unless_it_is_asked_to(stored, tmp_path):
    (tmp_path / "p.zip").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        packed(stored / "p", tmp_path / "p.zip")
    with pytest.raises(DataError, match="part of the project"):
        packed(stored / "p", stored / "p" / "p.zip")
    assert opened(packed(stored / "p", tmp_path / "p.zip", overwrite=True))


def test_nothing_is_unpacked_over_other_files(received):
    mine = received.with_suffix("")
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(JobError, match="rename one of them"):
        opened(received)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


def test_what_was_unpacked_is_used_and_keeps_its_changes(packs, received):
    folder = opened(received)
    (folder / "on-view.txt").write_text("changed")
    before = listing(folder)
    assert opened(received) == folder
    assert listing(folder) == before
    # Another pack of the same name is another project.
    shutil.copy(packs["crops"], received)
    with pytest.raises(JobError, match="is not what"):
        opened(received)


def test_of_two_that_unpack_at_once_both_have_the_project(received):
    first = unpacked(received)
    second = unpacked(received)
    next(first)
    next(second)
    assert run(first) == run(second)
    assert {path.name for path in received.parent.iterdir()} == {"brain.zip", "brain"}


def test_what_comes_while_it_is_unpacked_stays(received):
    work = unpacked(received)
    next(work)
    mine = received.with_suffix("")
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(JobError, match="rename one of them"):
        run(work)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


def test_a_disk_without_room_is_named_before_anything_is_written(received, monkeypatch):
    monkeypatch.setattr(unpack, "_ROOM", 2**62)
    with pytest.raises(JobError, match="make room"):
        opened(received)
    assert [path.name for path in received.parent.iterdir()] == ["brain.zip"]


def test_any_byte_that_was_changed_is_noticed(received):
    whole = received.read_bytes()
    numbers = np.random.default_rng(0).integers(0, len(whole), 8)
    # Among them the list of files, and what ends the file.
    numbers = [*numbers, len(whole) - 3000, len(whole) - 20]
    for number in map(int, numbers):
        changed = bytearray(whole)
        changed[number] ^= 0x55
        received.write_bytes(changed)
        try:
            folder = opened(received)
        except DataError as error:
            assert_one_sentence(error)
            assert [path.name for path in received.parent.iterdir()] == ["brain.zip"]
        else:
            # A time or an attribute in the zip file, which are not used.
            received.write_bytes(whole)
            assert_same_files(folder, received)
            shutil.rmtree(folder)


def assert_same_files(folder, pack_file):
    with zipfile.ZipFile(pack_file) as archive:
        for name in set(archive.namelist()) - {MANIFEST}:
            assert (folder / name).read_bytes() == archive.read(name)


def assert_one_sentence(error):
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    assert text.isprintable()


@pytest.mark.parametrize("size", [0, 1, 21, 5000])
def test_a_file_that_was_cut_short_is_refused(received, size):
    received.write_bytes(received.read_bytes()[:size])
    with pytest.raises(DataError, match="no whole packed project"):
        opened(received)


# -- forged packs ----------------------------------------------------------------------------------


class Forged:
    """A pack whose list agrees with whatever was put into it."""

    def __init__(self, pack_file):
        with zipfile.ZipFile(pack_file) as archive:
            names = [name for name in archive.namelist() if name != MANIFEST]
            self.files = [(name, archive.read(name)) for name in names]
            self.header = archive.read(MANIFEST).splitlines()[0].decode()
        self.attributes = {}
        self.compression = {}
        self.listed = {}

    def add(self, name, content=b"evil"):
        self.files.append((name, content))

    def project(self, change):
        for number, (name, content) in enumerate(self.files):
            if name == "project.json":
                values = json.loads(content)
                change(values)
                self.files[number] = name, json.dumps(values).encode()

    def lines(self):
        yield self.header
        for name, content in self.files:
            line = {
                "name": name,
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "time": 10**18,
            }
            yield json.dumps(line | self.listed.get(name, {}))

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def write(self, path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in [*self.files, (MANIFEST, "\n".join(self.lines()).encode())]:
                info = zipfile.ZipInfo("x")
                # As it is: the constructor would cut and turn it.
                info.filename = info.orig_filename = name
                info.external_attr = self.attributes.get(name, 0o100644) << 16
                info.compress_type = self.compression.get(name, zipfile.ZIP_STORED)
                archive.writestr(info, content)


@pytest.fixture
def forged(received):
    """A pack to be forged; at its end, opening it has been refused and has left nothing."""
    forgery = Forged(received)
    outside = received.parent / "outside"
    outside.mkdir()
    (outside / "thesis.txt").write_text("years of work")
    before = listing(received.parent)
    yield forgery
    forgery.write(received)
    with pytest.raises(EmdaError) as refused:
        opened(received)
    assert isinstance(refused.value, DataError | JobError)
    assert_one_sentence(refused.value)
    del before["brain.zip"]
    after = listing(received.parent)
    del after["brain.zip"]
    assert after == before
    assert not received.with_suffix("").exists()


NAMES = (
    "/etc/passwd",
    "../outside/thesis.txt",
    "runs/../../outside/thesis.txt",
    "runs/./x",
    "runs//x",
    "runs/x/",
    "..",
    "",
    "runs",
    "C:/x",
    "C:x",
    "runs/C:x",
    "runs\\..\\..\\outside\\thesis.txt",
    "\\\\server\\share\\x",
    "runs/a\0b",
    "runs/a\x1b[2Jb",
    "runs/a\nb",
    "runs/a\u202eb",
    "runs/" + "x" * 300,
    "/".join(["runs", *["x"] * 40]),
    "/".join(["runs", *["long-name" * 8] * 6]),
    "runs/aux",
    "runs/NUL.tif",
    "runs/x.",
    "runs/x ",
    "runs/a?b",
    "runs/a*b",
    "runs/.bashrc",
    ".lock",
    ".bashrc",
    "unpacked.json",
    "jobs/job.json",
    "undo.jsonl",
    "thesis.txt",
    "Project.json",
    "ANNOTATIONS/x",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_such_a_name_is_refused(forged, name):
    forged.add(name)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("runs/a/x", "runs/a/x"),
        ("runs/a/x", "runs/a/X"),
        ("runs/a/x", "runs/A/y"),
        ("runs/a/stra\u00dfe", "runs/a/strasse"),
        ("runs/a/\u00e9", "runs/a/e\u0301"),
        ("runs/a", "runs/a/x"),
        ("runs/a/x", "runs/A"),
    ],
)
def test_two_names_that_may_become_one_file_are_refused(forged, first, second):
    forged.add(first)
    forged.add(second)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_links_and_special_files_are_refused(forged, kind):
    forged.add("runs/x", b"../../outside")
    forged.attributes["runs/x"] = kind | 0o777


@pytest.mark.parametrize("size", [100, 50_000_000])
def test_what_is_compressed_is_refused_before_it_is_unpacked(forged, size):
    forged.add("runs/x", bytes(size))
    forged.compression["runs/x"] = zipfile.ZIP_DEFLATED


def test_entries_that_share_their_bytes_are_refused(forged, received):
    """As in bombs that point many names to one content."""
    forged.add("runs/x", bytes(100_000))
    original = forged.write

    def write(path):
        original(path)
        with zipfile.ZipFile(path, "a") as archive:
            shared = archive.getinfo("runs/x")
            for number in range(100):
                info = zipfile.ZipInfo(f"runs/{number}")
                for field in (
                    "header_offset",
                    "file_size",
                    "compress_size",
                    "CRC",
                    "external_attr",
                ):
                    setattr(info, field, getattr(shared, field))
                archive.filelist.append(info)
                archive.NameToInfo[info.filename] = info
            archive._didModify = True

    forged.write = write


def test_an_entry_that_claims_more_bytes_than_there_are_is_refused(forged, received):
    original = forged.write

    def write(path):
        original(path)
        content = path.read_bytes()
        # In the directory at the end of the file: sizes of `project.json`.
        place = content.rfind(b"PK\x01\x02", 0, content.rfind(b"project.json"))
        huge = (2**32 - 2).to_bytes(4, "little")
        path.write_bytes(content[: place + 20] + huge * 2 + content[place + 28 :])

    forged.write = write


# In this order: what is patched is needed until the pack is opened, at the end of the fixture.
def test_more_files_than_any_project_has_are_refused(monkeypatch, forged):
    monkeypatch.setattr(manifest, "MOST_FILES", len(forged.files))
    forged.add("runs/x")


@pytest.mark.parametrize(
    "line",
    [
        {"size": 3},
        {"size": -1},
        {"size": "9" * 5000},
        {"sha256": "0" * 64},
        {"sha256": "0"},
        {"time": -1},
        {"time": 2**63},
        {"time": 1e300},
        {"name": "runs/other"},
        {"name": ["a"]},
    ],
)
def test_a_list_that_lies_is_refused(forged, line):
    forged.listed["project.json"] = line


@pytest.mark.parametrize("header", ["", "{}", "[" * 10_000, '{"format": 2, "images": "none"}'])
def test_a_list_of_another_kind_is_refused(forged, header):
    forged.header = header


def test_files_that_the_list_does_not_name_are_refused(forged, received):
    forged.add("runs/x")
    lines = forged.lines
    forged.lines = lambda: list(lines())[:-1]


@pytest.mark.parametrize("name", [MANIFEST, "project.json"])
def test_without_its_main_files_it_is_no_pack(received, name):
    forgery = Forged(received)
    with zipfile.ZipFile(received, "w") as archive:
        for file, content in [*forgery.files, (MANIFEST, "\n".join(forgery.lines()))]:
            if file != name:
                archive.writestr(file, content)
    with pytest.raises(DataError, match=name):
        opened(received)


@pytest.mark.parametrize("kind", ["image", "labels"])
@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../secret.tif",
        "volumes/../../../x.tif",
        "C:/x.tif",
        "C:x.tif",
        "..\\..\\x.tif",
        "\\\\server\\share\\x.tif",
        "//server/share/x.tif",
    ],
)
def test_images_outside_of_the_folder_are_refused(forged, path, kind):
    forged.project(lambda values: values["volumes"][0].update({kind: path}))


@pytest.mark.parametrize("name", ["../x", "/x", "aux/..", "a\nb"])
def test_names_of_volumes_are_checked(forged, name):
    forged.project(lambda values: values["volumes"][0].update(name=name))


def test_a_server_is_asked_about_as_in_any_project(received):
    forgery = Forged(received)
    address = "https://example.org/a.zarr"
    forgery.project(lambda values: values["volumes"][0].update(image=address))
    forgery.write(received)
    with Project.open(opened(received)) as project, pytest.raises(UnknownServer):
        project.volumes.check_servers()


def test_zipped_images_are_not_taken_for_projects(tmp_path):
    (tmp_path / "image.zarr.zip").touch()
    assert not is_pack(tmp_path / "image.zarr.zip")


def test_other_zip_files_are_no_packs(tmp_path, stored):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", b"a")
    with pytest.raises(DataError, match="no whole packed project"):
        opened(tmp_path / "photos.zip")


# -- on the command line ---------------------------------------------------------------------------


def test_every_command_takes_a_pack(received, stored):
    for name in ("source.tif", "source-labels.tif", "target.tif"):
        shutil.copy(stored / name, received.parent)
    with commands_here():
        status, out, error = call("check", received)
        assert (status, out) == (0, f"Nothing is wrong with {received.with_suffix('')}.\n"), error
        again = received.parent / "again.zip"
        result = answer("pack", received, "--to", again, "--images", "whole")
        assert result["left_out"] == []
        result = answer("unpack", again, "--to", received.parent / "again here")
    assert result["missing"] == []
    assert open_labels(received.parent / "again here/volumes/source/labels/source-labels.tif")
    assert open_image(received.parent / "again here/volumes/target/image/target.tif")


def test_new_takes_no_pack(received, stored):
    with commands_here():
        status, _, error = call("new", received, "--target", stored / "target.tif")
    assert status == 2
    assert "exists and is not empty" in error
    assert [path.name for path in received.parent.iterdir()] == ["brain.zip"]

"""Files and folders are written whole or not at all: exceptions and kills at every rename."""

import contextlib
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_emda.errors import DataError
from napari_emda.io.atomic import replacing_file, replacing_folder, write_text
from napari_emda.io.leftovers import (
    clear_folder,
    clear_leftovers,
    clear_tree,
    held,
    note_old_name,
    partial_path,
)

# Of a folder that replaces another: old aside, new in place, old into the workspace.
RENAMES = 3


def make_folder(path, content):
    path.mkdir()
    (path / "c").mkdir()
    (path / "zarr.json").write_text(content)
    (path / "c" / "0").write_text(content)


def content_of(folder):
    return {(folder / name).read_text() for name in ("zarr.json", "c/0")}


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "names.json"
    write_text(path, "old")
    write_text(path, "größer")
    assert path.read_bytes() == "größer".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["names.json"]


@pytest.mark.parametrize("durable", [True, False])
def test_a_library_writes_to_a_file_of_the_same_suffix(tmp_path, durable):
    with replacing_file(tmp_path / "preview.npy", durable=durable) as partial:
        np.save(partial, np.arange(3))
    assert np.load(tmp_path / "preview.npy").tolist() == [0, 1, 2]


@pytest.mark.skipif(os.name != "posix", reason="Windows syncs no folders")
@pytest.mark.parametrize(("number", "works"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_network_disk_that_syncs_no_folders_will_do(number, works, tmp_path, monkeypatch):
    fsync = os.fsync

    def fails_for_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fails_for_folders)
    with contextlib.nullcontext() if works else pytest.raises(OSError, match="Input"):
        write_text(tmp_path / "names.json", "new")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(error), replacing_file(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_names_as_long_as_the_file_system_allows_are_written(tmp_path):
    path = tmp_path / ("ä" * 125 + ".txt")
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_written_file_has_the_mode_of_any_new_file(tmp_path):
    write_text(tmp_path / "a", "new")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_folder_replaces_an_older_one_and_nothing_else_is_left(tmp_path):
    make_folder(tmp_path / "mask.zarr", "old")
    make_folder(tmp_path / "mask-old.zarr", "of another crash")
    with replacing_folder(tmp_path / "mask.zarr") as partial:
        make_folder(partial, "new")
    assert content_of(tmp_path / "mask.zarr") == {"new"}
    assert content_of(tmp_path / "mask-old.zarr") == {"of another crash"}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("failing", range(RENAMES))
def test_a_rename_that_fails_leaves_a_whole_folder_under_its_name(tmp_path, monkeypatch, failing):
    make_folder(tmp_path / "mask.zarr", "old")
    renames = []
    replace = Path.replace

    def fail_once(self, target):
        renames.append(target)
        if len(renames) == failing + 1:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_once)
    with pytest.raises(OSError, match="Input"), replacing_folder(tmp_path / "mask.zarr") as partial:
        make_folder(partial, "new")
    assert content_of(tmp_path / "mask.zarr") == ({"new"} if failing == 2 else {"old"})


@pytest.mark.parametrize("failing", range(RENAMES))
def test_a_disk_that_goes_on_failing_leaves_the_old_folder_where_it_can_be_found(
    tmp_path, monkeypatch, failing
):
    make_folder(tmp_path / "mask.zarr", "old")
    renames = []
    replace = Path.replace

    def fail_from_then_on(self, target):
        renames.append(target)
        if len(renames) > failing:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_from_then_on)
    expected = pytest.raises(DataError, match=r"nothing is lost: rename 'mask-old.zarr' back\.")
    if failing != 1:
        expected = pytest.raises(OSError, match="Input")
    with expected, replacing_folder(tmp_path / "mask.zarr") as partial:
        make_folder(partial, "new")
    found = {name: content_of(tmp_path / name) for name in visible(tmp_path)}
    assert {"old"} in found.values() or found["mask.zarr"] == {"new"}
    assert visible(tmp_path) == sorted(path.name for path in tmp_path.iterdir())


KILLED = """
import os, sys
from pathlib import Path
from napari_emda.io.atomic import replacing_folder
count = 0
replace = Path.replace
def killed(self, target):
    global count
    count += 1
    if count == int(sys.argv[2]):
        os._exit(9)
    return replace(self, target)
Path.replace = killed
with replacing_folder(Path(sys.argv[1])) as partial:
    (partial / "c").mkdir(parents=True)
    (partial / "zarr.json").write_text("new")
    (partial / "c" / "0").write_text("new")
os._exit(0)
"""


@pytest.mark.parametrize("at", range(1, RENAMES + 2))
def test_a_kill_before_any_rename_leaves_a_whole_folder_that_is_found(tmp_path, at):
    path = tmp_path / "mask.zarr"
    make_folder(path, "old")
    command = [sys.executable, "-c", KILLED, str(path), str(at)]
    process = subprocess.run(command, check=False)
    assert process.returncode == (9 if at <= RENAMES else 0)
    names = visible(tmp_path)
    assert names
    for name in names:
        assert content_of(tmp_path / name) == ({"old"} if "old" in name or at == 1 else {"new"})
    # The next one that writes to this place finds the old one under its name.
    clear_leftovers(path)
    assert content_of(path) == ({"old"} if at in (1, 2) else {"new"})
    assert visible(tmp_path) == sorted(file.name for file in tmp_path.iterdir())
    with replacing_folder(path) as partial:
        make_folder(partial, "newer")
    assert content_of(path) == {"newer"}
    # Visible, and perhaps in use by now: nobody but the user deletes it.
    assert visible(tmp_path) == (["mask-old.zarr", "mask.zarr"] if at == 3 else ["mask.zarr"])


WAITS = """
import sys
from pathlib import Path
from napari_emda.io.atomic import replacing_file, workspace
path = Path(sys.argv[1])
with replacing_file(path) as partial, workspace(path) as folder:
    partial.write_text("new")
    print(partial.name, folder.name, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no locks that do not hinder writing")
def test_what_is_in_use_stays_and_what_a_killed_process_has_left_goes(tmp_path):
    path = tmp_path / "mask.tif"
    (tmp_path / ".mask-settings").mkdir()
    (tmp_path / ".mask-0123abcd-partial.csv").touch()
    command = [sys.executable, "-c", WAITS, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        left = process.stdout.readline().split()
        write_text(path, "of another process")
        assert all((tmp_path / name).exists() for name in left)
        process.kill()
        process.wait()
        process.stdin.close()
    assert all((tmp_path / name).exists() for name in left)
    write_text(path, "old")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".mask-0123abcd-partial.csv",
        ".mask-settings",
        "mask.tif",
    ]


@pytest.mark.parametrize("name", ["../documents", "/tmp", "documents", "mask.zarr", ""])
def test_a_note_that_lies_moves_nothing(name, tmp_path):
    folder = tmp_path / "results"
    (folder / ".mask-0123abcd-partial").mkdir(parents=True)
    (folder / ".mask-0123abcd-partial" / "old-name.txt").write_text(name)
    (folder / "documents").mkdir()
    (tmp_path / "documents").mkdir()
    clear_leftovers(folder / "mask.zarr")
    assert visible(folder) == ["documents"]
    assert (tmp_path / "documents").is_dir()


def test_a_folder_is_cleared_of_what_is_left_of_any_file(tmp_path):
    mine = [".notes-partial.txt", "a-0123abcd-partial.zip", ".mask-old.zarr"]
    for name in (*mine, ".a-0123abcd-partial.zip", ".b-0123abcd-partial"):
        (tmp_path / name).touch()
    (tmp_path / ".c-0123abcd-partial").mkdir()
    # It may hold the name of an older folder, which must get it back.
    (tmp_path / ".d-0123abcd-partial").mkdir()
    note_old_name(tmp_path / ".d-0123abcd-partial", "d-old.zarr")
    (tmp_path / ".e-0123abcd-partial").symlink_to(tmp_path / mine[0])
    in_use = partial_path(tmp_path / "f.zip", ".zip")
    with held(in_use):
        clear_folder(tmp_path)
        left = {path.name for path in tmp_path.iterdir()}
    assert left == {*mine, ".d-0123abcd-partial", ".e-0123abcd-partial", in_use.name}
    clear_folder(tmp_path / "missing")


def test_a_tree_is_cleared_without_following_links(tmp_path):
    for folder in ("tree", "tree/a/b", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / ".c-0123abcd-partial").touch()
        (tmp_path / folder / "c").touch()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "elsewhere")
    clear_tree(tmp_path / "tree")
    left = [path.parent.name for path in tmp_path.rglob(".c-*")]
    assert left == ["elsewhere"]
    assert len(list(tmp_path.rglob("c"))) == 3
    clear_tree(tmp_path / "missing")


def test_a_folder_that_is_a_link_is_not_cleared(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".a-0123abcd-partial.zip").touch()
    (tmp_path / "link").symlink_to("elsewhere")
    clear_folder(tmp_path / "link")
    assert list((tmp_path / "elsewhere").iterdir())

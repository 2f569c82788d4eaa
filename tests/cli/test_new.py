"""``new`` says what it has found in the files, and refuses what they cannot mean."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from tests.cli.calling import answer, call, image

SHAPE = (4, 40, 48)
GREY = np.random.default_rng(0).integers(1, 255, SHAPE).astype(np.uint8)
IDS = (GREY > 128).astype(np.uint8)
# Labels that no compression makes small, so that there is something to damage.
LABELS = GREY % 3 * 60


def sections(folder, stack, numbers=None):
    folder.mkdir()
    for section, number in zip(stack, numbers or range(len(stack)), strict=True):
        tifffile.imwrite(folder / f"s{number:03d}.tif", section)
    return folder


SIZE = ("--target-spacing", 50, 8, 8)


def test_new_prints_sections_sizes_and_where_they_come_from(tmp_path):
    source = image(tmp_path / "i.tif", GREY), image(tmp_path / "l.tif", IDS)
    target = sections(tmp_path / "t", GREY)
    status, out, err = call("new", tmp_path / "p", "--source", *source, "--target", target, *SIZE)
    assert (status, err) == (0, "")
    head, first, second = out.splitlines()
    assert head.endswith("source i (50 x 8 x 8 nm), target t (50 x 8 x 8 nm)")
    assert first == (
        "  source: 4 sections of 40 x 48 pixels, uint8; voxel size 50 x 8 x 8 nm (z, y, x) "
        "from its file"
    )
    assert second == (
        "  target: 4 sections of 40 x 48 pixels, uint8; voxel size 50 x 8 x 8 nm (z, y, x) as given"
    )
    volumes = answer("new", tmp_path / "q", "--target", target, *SIZE)["volumes"]
    assert [(v["shape"], v["dtype"], v["spacing_from"]) for v in volumes] == [
        (list(SHAPE), "uint8", "user")
    ]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--target", "i.tif", "--spacing", 50, 8, 8], "give --target-spacing"),
        (["--target", "i.tif", "--zero", "unannotated"], "there is none: leave it out."),
        (["--target", "i.tif", "--background", 1], "there is none: leave it out."),
        (["--model", "m", "--target", "i.tif", "--ignore", 255], "there is none: leave it out."),
        (["--source", "i.tif", "l.tif", *SIZE], "--target-spacing is about the target"),
        (["--source", "i.tif", "l.tif", "--target-independent"], "about the target"),
    ],
)
def test_options_about_a_volume_that_is_not_there_are_refused(options, part, tmp_path, refused):
    refused(["new", tmp_path / "p", *options], part)


def test_a_mask_or_the_source_as_target_is_pointed_out(tmp_path):
    source = image(tmp_path / "i.tif", GREY), image(tmp_path / "l.tif", IDS)
    expected = {1: "The image l.tif looks like a mask", 0: "is both source and target"}
    for target, words in expected.items():
        new = ("new", tmp_path / str(target), "--source", *source, "--target", source[target])
        (notice,) = answer(*new)["notices"]
        assert words in notice


@pytest.mark.parametrize(
    ("given", "states"),
    [
        ((50, 8, 8), ""),
        ((48, 8.2, 8), ""),
        ((8, 8, 50), "states 50 nm along z, 8 nm along x, and 8 x 8 x 50 nm (z y x) is used as"),
        ((50, 4, 8), "states 8 nm along y, and 50 x 4 x 8 nm (z y x) is used as given with"),
    ],
)
def test_a_voxel_size_other_than_that_of_the_file_is_pointed_out(tmp_path, given, states):
    new = ("new", tmp_path / "p", "--target", image(tmp_path / "t.tif", GREY))
    notices = answer(*new, "--target-spacing", *given)["notices"]
    assert len(notices) == bool(states)
    assert states in "".join(notices)


def test_a_single_image_has_no_thickness_to_contradict(tmp_path):
    new = ("new", tmp_path / "p", "--target", image(tmp_path / "t.tif", GREY[:1]))
    assert answer(*new, "--target-spacing", 70, 8, 8)["notices"] == []


def test_a_missing_section_distance_is_asked_for_alone(tmp_path, refused):
    tifffile.imwrite(
        tmp_path / "t.tif",
        GREY,
        imagej=True,
        resolution=(1 / 8, 1 / 8),
        metadata={"axes": "ZYX", "unit": "nm", "spacing": 3, "zunit": "sec"},
    )
    refused(
        ["new", tmp_path / "p", "--target", tmp_path / "t.tif"],
        "The voxel size of 't.tif' is not in its file: give it as --target-spacing Z 8 8 in nm, "
        "where Z is the distance of its sections (the file says 3 sec along z).",
    )
    # Between independent images there is no distance to ask for.
    args = "new", tmp_path / "q", "--target", tmp_path / "t.tif", "--independent"
    assert answer(*args)["volumes"][0]["spacing"] == [8, 8, 8]


def test_missing_sections_and_other_files_are_said(tmp_path):
    folder = sections(tmp_path / "t", GREY, [1, 2, 3, 5])
    (folder / "notes.txt").write_text("x")
    status, _, err = call("new", tmp_path / "p", "--target", folder, *SIZE)
    assert status == 0
    assert "In the folder t, notes.txt is not read." in err
    assert "4 sections numbered 1 to 5, and 1 is missing (4)" in err
    args = "new", tmp_path / "q", "--target", folder, *SIZE, "--independent"
    assert len(answer(*args)["notices"]) == 1


def test_tiles_are_refused_unless_they_are_independent(tmp_path, refused):
    folder = tmp_path / "t"
    folder.mkdir()
    for number, section in enumerate(GREY):
        tifffile.imwrite(folder / f"r{number // 2}c{number % 2}.tif", section)
    arguments = ["new", tmp_path / "p", "--target", folder, *SIZE]
    refused(arguments, "two numbers each (r0c0.tif to r1c1.tif), as tiles")
    assert call(*arguments, "--target-independent")[0] == 0


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("2024.05.12_brain.tif", "2024.05.12_brain"),
        ("Gewebe_u\u0308.tif", "Gewebe_\u00fc"),
        ("-x.tif", "x"),
        ("\u00a7\u00a7.tif", "volume"),
    ],
)
def test_a_volume_is_called_as_its_file(tmp_path, file, name):
    target = image(tmp_path / file, GREY)
    assert answer("new", tmp_path / "p", "--target", target)["volumes"][0]["name"] == name


@pytest.mark.parametrize("address", ["ftp://example.org/t.zarr", "sftp://bucket/t.tif"])
def test_addresses_of_other_kinds_are_refused(tmp_path, refused, address):
    refused(["new", tmp_path / "p", "--target", address], f"'{address}' is an address")


# ---------------------------------------------------------------- damaged files


def tiff(path, **options):
    tifffile.imwrite(path, LABELS, photometric="minisblack", metadata={"axes": "ZYX"}, **options)


def zarr_array(path):
    zarr.create_array(path, data=LABELS, chunks=(2, 40, 48))


def pictures(path):
    path.mkdir()
    for number, section in enumerate(LABELS):
        Image.fromarray(section).save(path / f"{number}.png")


FORMATS = {
    "raw.tif": tiff,
    "zlib.tif": lambda path: tiff(path, compression="zlib"),
    "imagej.tif": lambda path: tiff(path, imagej=True),
    "a.ome.tif": lambda path: tiff(path, ome=True, compression="lzw"),
    "a.png": lambda path: Image.fromarray(LABELS[0]).save(path),
    "a.jpg": lambda path: Image.fromarray(LABELS[0]).save(path),
    "a.zarr": zarr_array,
    "folder": pictures,
}


def largest_file(path):
    if path.is_file():
        return path
    return max((file for file in path.rglob("*") if file.is_file()), key=lambda f: f.stat().st_size)


def emptied(file):
    file.write_bytes(b"")


def halved(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def nonsense(file):
    file.write_bytes(b"These are no voxels at all, but a letter." * 9)


def scrambled(file):
    """Damage in the middle, which no header shows."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle - 60 : middle + 60] = b"\xa5" * 120
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [emptied, halved, nonsense, scrambled])
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_labels_are_refused_in_one_line(tmp_path, refused, name, damage):
    """Labels are read completely, so that damage in the middle is found as well."""
    FORMATS[name](tmp_path / name)
    labels = tmp_path / name
    shape = (1, *SHAPE[1:]) if name in ("a.png", "a.jpg") else SHAPE
    source = image(tmp_path / "i.tif", GREY[: shape[0]])
    arguments = ["new", tmp_path / "p", "--source", source, labels]
    assert call(*arguments)[0] == 0
    shutil.rmtree(tmp_path / "p")
    damage(largest_file(labels))
    if damage is scrambled and name in ("raw.tif", "imagej.tif", "a.jpg"):
        # Nothing checks these bytes: they are other voxels, or a picture with a stripe.
        assert call(*arguments)[0] in (0, 2)
    else:
        refused(arguments, labels.name if labels.is_file() else "")


@pytest.mark.parametrize("name", ["raw.tif", "a.png", "a.zarr", "folder"])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".zarr", ""])
def test_wrong_endings_are_refused_or_read(tmp_path, name, suffix):
    FORMATS[name](tmp_path / name)
    renamed = (tmp_path / name).rename(tmp_path / f"other{suffix}")
    status, _, err = call("new", tmp_path / "p", "--target", renamed, *SIZE)
    assert status in (0, 2)
    # A refusal is one sentence. What is read may look unusual, which is said.
    assert err.count("\n") == 1 or status == 0
    assert "Traceback" not in err


def test_a_folder_s_name_cannot_steer_the_terminal(tmp_path):
    target = sections(tmp_path / "t", GREY)
    folder = tmp_path / "p\x1b[2J\x07q"
    status, out, err = call("new", folder, "--target", target, *SIZE)
    assert status == 0
    checked, report, _ = call("check", folder)
    assert checked == 0
    assert "p\\x1b[2J\\x07q" in out
    assert "p\\x1b[2J\\x07q" in report
    assert not {"\x1b", "\x07"} & set(out + err + report)

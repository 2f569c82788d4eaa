"""Labels of every convention on the command line: understood when told, asked about if in doubt."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from napari_emda.data.box import Box
from napari_emda.data.volume import IGNORE
from napari_emda.project.project import Project
from tests.cli.calling import answer, call, image

SHAPE = (4, 40, 48)
GREY = np.random.default_rng(0).integers(1, 255, SHAPE).astype(np.uint8)
IDS = (GREY > 128).astype(np.int16) + (GREY > 200)
MASK = (IDS > 0).astype(np.int16)
VOID = np.arange(SHAPE[2]) < 5
THREE = ("--classes", "background", "a", "b")


def class_ids(folder, volume):
    with Project.open(folder) as project:
        return project.volumes.open(volume).read_labels(Box.whole(SHAPE))


@pytest.fixture
def files(tmp_path):
    """Writes an image beside labels, and returns the arguments of ``new`` that name both."""

    def write(labels):
        tifffile.imwrite(tmp_path / "l.tif", labels, photometric="minisblack")
        return ["--source", image(tmp_path / "i.tif", GREY), tmp_path / "l.tif"]

    return write


CASES = {
    "no 0": (MASK + 1, [], ["--background", 1], ["no voxel is 0", "--background 1"]),
    "no 0, three classes": (IDS + 1, THREE, ["--background", 1], ["--background 1"]),
    "-1": (
        np.where(VOID, -1, MASK),
        [],
        ["--ignore", "-1"],
        ["the number -1 occurs (800 voxels)", "--ignore -1"],
    ),
    "-1, three classes": (np.where(VOID, -1, IDS), THREE, ["--ignore", "-1"], ["--ignore -1"]),
    "255": (
        np.where(VOID, 255, MASK).astype(np.uint8),
        [],
        ["--ignore", 255],
        ["the number 255 occurs (800 voxels)", "--ignore 255", "--ignore none"],
    ),
    "255, three classes": (
        np.where(VOID, 255, IDS),
        THREE,
        ["--ignore", 255],
        ["800 voxels hold the value 255", "--ignore 255"],
    ),
    "two such numbers": (
        np.where(VOID, np.where(GREY % 2, -1, 255), IDS + 1),
        THREE,
        ["--ignore", "-1", "--ignore", 255, "--background", 1],
        ["--ignore -1"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_doubtful_labels_are_refused_until_their_meaning_is_said(case, files, refused, tmp_path):
    labels, classes, options, parts = CASES[case]
    new = ["new", tmp_path / "p", *files(labels), *classes]
    refused(new, *parts)
    entry = answer(*new, *options)["volumes"][0]
    expected = (IDS if classes else MASK).astype(np.uint8)
    if "0" not in case:
        expected = np.where(VOID, IGNORE, expected)
    np.testing.assert_array_equal(class_ids(tmp_path / "p", "i"), expected)
    # Kept with the project, and in a format that older versions refuse to misread.
    stored = json.loads((tmp_path / "p" / "project.json").read_text())
    assert stored["format"] == 3
    assert stored["volumes"][0]["labels_meaning"] == entry["labels_meaning"]
    # The same as annotations of a target.
    new = ["new", tmp_path / "t", "--target", tmp_path / "i.tif", *classes]
    answer(*new)
    annotate = ["annotate", tmp_path / "t", "--from", tmp_path / "l.tif", "--regions", "all"]
    refused(annotate, *parts)
    answer(*annotate, *options)
    np.testing.assert_array_equal(class_ids(tmp_path / "t", "i"), expected)


def test_a_number_that_looks_like_void_can_be_a_class(files, tmp_path):
    labels = np.where(VOID, 255, MASK).astype(np.uint8)
    answer("new", tmp_path / "p", *files(labels), "--ignore", "none")
    np.testing.assert_array_equal(class_ids(tmp_path / "p", "i"), labels > 0)
    assert "labels_meaning" not in (tmp_path / "p" / "project.json").read_text()


def test_suggested_patches_are_annotated_except_where_nobody_looked(files, tmp_path):
    files(np.where(VOID, 255, MASK).astype(np.uint8))
    answer("new", tmp_path / "p", "--target", tmp_path / "i.tif")
    box = Box((1, 0, 0), (2, 32, 32))
    with Project.open(tmp_path / "p") as project:
        project.regions.suggest([{"volume": "i", "box": str(box), "score": 1}], "random", "")
    annotate = ["annotate", tmp_path / "p", "--from", tmp_path / "l.tif"]
    assert call(*annotate)[0] == 2
    (region,) = answer(*annotate, "--ignore", 255)["annotated"]
    assert region["state"] == "partial"
    expected = np.where(VOID, IGNORE, MASK)[box.slices]
    np.testing.assert_array_equal(class_ids(tmp_path / "p", "i")[box.slices], expected)


def test_sections_without_labels_are_hinted_at_and_can_be_unlabelled(files, tmp_path):
    labels = MASK.copy()
    labels[1:] = 0
    new = ["new", tmp_path / "p", *files(labels)]
    status, out, err = call(*new)
    assert status == 0
    assert "3 of 4 sections hold no label: say --zero sections" in err
    assert "4 sections of 40 x 48 pixels" in out
    status, _, err = call("new", tmp_path / "q", *new[2:], "--zero", "sections")
    assert (status, err) == (0, "")
    expected = labels.astype(np.uint8)
    expected[1:] = IGNORE
    np.testing.assert_array_equal(class_ids(tmp_path / "q", "i"), expected)


def test_zero_can_be_unannotated_in_a_source(files, tmp_path):
    labels = np.where(VOID, 0, MASK + 1)
    answer("new", tmp_path / "p", *files(labels), "--zero", "unannotated")
    np.testing.assert_array_equal(class_ids(tmp_path / "p", "i"), np.where(VOID, IGNORE, MASK))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--ignore", "white"], "'white' is not a value of --ignore"),
        (["--zero", "nothing"], "'nothing' is not a value of --zero"),
        (["--background", 1, "--ignore", 1], "cannot be background and ignored"),
    ],
)
def test_impossible_meanings_are_refused(options, part, files, refused, tmp_path):
    refused(["new", tmp_path / "p", *files(MASK), *options], part)


@pytest.mark.parametrize(
    ("labels", "options", "parts"),
    [
        # 7 occurs nowhere, so that everything would be a structure.
        (MASK, ["--background", 7], ["holds 7", "they hold 0 and 1"]),
        (IDS, [*THREE, "--background", 7], ["holds 7", "they hold 0, 1 and 2"]),
        # Strokes without any background, and background without any structure.
        (MASK * 2, ["--zero", "unannotated"], ["are all 2 but for 0"]),
        (MASK, ["--zero", "unannotated"], ["are all 1 but for 0"]),
        # A number that does not occur says nothing about 255.
        (np.where(VOID, 255, MASK), ["--ignore", 254], ["the number 255 occurs"]),
        # Image and labels exchanged.
        (GREY, [], ["254 numbers begin at 1", "if these are grey values, choose the labels"]),
    ],
)
def test_options_that_do_not_fit_the_labels_are_refused(
    labels, options, parts, files, refused, tmp_path
):
    refused(["new", tmp_path / "p", *files(labels), *options], *parts)


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        (MASK, [], None),
        (IDS, [], "3 different values, and all above 0 count as"),
        (MASK + 1, ["--background", 1], None),
        (IDS + 1, ["--background", 1], "3 different values, and all but 1 count as"),
        (np.where(VOID, 0, MASK + 1), ["--zero", "unannotated"], None),
        (np.where(VOID, 255, MASK), ["--ignore", 255], None),
    ],
)
def test_several_numbers_for_one_structure_are_counted_without_the_others(
    labels, options, words, files, tmp_path
):
    notices = answer("new", tmp_path / "p", *files(labels), *options)["notices"]
    assert len(notices) == (words is not None)
    assert words is None or words in notices[0]


def test_strokes_of_one_class_may_be_added_to_a_target(tmp_path):
    strokes = np.zeros(SHAPE, np.uint8)
    strokes[1, 3:5] = 1
    target = image(tmp_path / "t.tif", GREY)
    answer("new", tmp_path / "p", "--target", target)
    tifffile.imwrite(tmp_path / "l.tif", strokes, photometric="minisblack")
    options = ("--from", tmp_path / "l.tif", "--regions", "all", "--zero", "unannotated")
    answer("annotate", tmp_path / "p", *options)
    found = class_ids(tmp_path / "p", "t")
    np.testing.assert_array_equal(found, np.where(strokes, 1, IGNORE))

"""Numbers in labels: what they mean, what must be asked, and where wrong ones lie."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_emda.data.box import Box
from napari_emda.data.label_meaning import LabelMeaning, MeantLabels, ObjectNumbers
from napari_emda.data.label_question import question, value_remark
from napari_emda.data.label_values import (
    inspect,
    not_annotations,
    whole_numbers,
    wrong_numbers,
)
from napari_emda.data.volume import IGNORE
from napari_emda.errors import DataError

SHAPE = (3, 8, 10)
HALVES = [Box((0, 0, 0), (3, 8, 4)), Box((0, 0, 4), (3, 8, 10))]


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (3, np.uint8),
        (255, np.uint8),
        (256, np.uint16),
        (-1, np.int8),
        (1.5, np.float32),
        (np.nan, float),
        (np.inf, float),
    ],
)
def test_a_number_that_is_no_class_is_found_with_its_place(number, dtype):
    values = np.full(SHAPE, 2, dtype)
    values[1, 2, 3:6] = number
    values[2, 7, 9] = number
    found = wrong_numbers(values, not_annotations(2), HALVES)
    # The three voxels lie in both halves.
    assert list(found.counts.values()) == [4]
    assert found.boxes == {1: Box((1, 2, 3), (2, 3, 6)), 2: Box((2, 7, 9), (3, 8, 10))}
    assert found.in_words() == (
        f"{number:g} in 4 voxels of section 1 (y 2 to 2, x 3 to 5) and 1 other section"
    )


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_classes_and_unpainted_voxels_are_right(dtype):
    values = (np.arange(240).reshape(SHAPE) % (2 if dtype is bool else 3)).astype(dtype)
    assert not wrong_numbers(values, not_annotations(2), HALVES)


# -- questions -------------------------------------------------------------------------------------


def asked(values, meaning=None, classes=2):
    """What is asked about labels that hold these numbers, and the likely answer."""
    labels = np.resize(np.array(values), SHAPE)
    return asked_of(labels, meaning, classes)


def asked_of(labels, meaning=None, classes=2):
    """What is asked about labels (z, y, x)."""
    found = question(inspect(labels), meaning or LabelMeaning(), classes)
    return None if found is None else (found.about, found.number)


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        # What ilastik's Simple Segmentation holds.
        ([1, 2], 2, ("background", 1)),
        ([1, 2, 3], 3, ("background", 1)),
        ([1, 2, 3], 4, ("background", 1)),
        ([7, 9], 2, ("background", 7)),
        # Nobody looked: -1, void, and -1 that became unsigned.
        ([-1, 0, 1], 2, ("ignore", -1)),
        ([-1, 0, 1, 2], 3, ("ignore", -1)),
        ([-100, 0, 1], 2, ("ignore", -100)),
        ([0, 1, 255], 2, ("ignore", 255)),
        (np.array([0, 1, 65535], np.uint16), 2, ("ignore", 65535)),
        (np.array([0, 1, 5, 70000, 2**64 - 1], np.uint64), 2, ("ignore", 2**64 - 1)),
        # Masks, numbered objects, grey edges of a mask.
        ([0, 1], 2, None),
        ([0, 255], 2, None),
        (np.array([0, 65535], np.uint16), 2, None),
        ([False, True], 2, None),
        (range(240), 2, None),
        ([0, 3, 90, 254, 255], 2, None),
        ([0, 128, 255], 2, None),
        ([0, 1, 2], 3, None),
    ],
)
def test_only_doubtful_labels_are_asked_about(values, classes, expected):
    assert asked(values, classes=classes) == expected


BLOBS = np.zeros((3, 40, 48), np.uint8)
for _y, _x in ((6, 8), (6, 30), (24, 10), (26, 34)):
    BLOBS[:, _y : _y + 8, _x : _x + 9] = 1


@pytest.mark.parametrize(
    "labels",
    [
        np.where(BLOBS, 0, 255).astype(np.uint8),
        BLOBS == 0,
        np.where(BLOBS, 0, 1).astype(np.int16),
        # A nucleus, and objects of which one is cut by the edge.
        np.pad(np.zeros((2, 20, 20), np.uint8), ((0, 0), (9, 9), (9, 9)), constant_values=1),
        np.where(np.roll(BLOBS, 6, axis=2), 0, 7).astype(np.uint8),
    ],
)
def test_a_mask_that_is_the_other_way_round_is_asked_about(labels):
    most = int(labels.max())
    assert asked_of(labels) == ("background", most)
    found = question(inspect(labels), LabelMeaning(), 2)
    assert found.another == 0
    assert f"--background {most}" in found.remedy and "--background 0" in found.remedy
    for background in (0, most):
        assert asked_of(labels, LabelMeaning(background=background)) is None
    # Annotations in part, where 0 is not annotated.
    assert asked_of(labels, LabelMeaning(ignore=(0,))) is None


@pytest.mark.parametrize(
    "labels",
    [
        BLOBS,
        # A tissue within resin, the insides of cells between membranes, half a section.
        np.pad(np.ones((2, 30, 30), np.uint8), ((0, 0), (4, 4), (4, 4))),
        (np.indices((2, 40, 40))[1] % 10 > 1) & (np.indices((2, 40, 40))[2] % 10 > 1),
        np.repeat([[[0, 1]]], 20, axis=2).repeat(30, axis=1).astype(np.uint8),
        # Numbered objects, and a volume of one number.
        np.arange(1800, dtype=np.uint16).reshape(1, 30, 60),
        np.ones((2, 5, 5), np.uint8),
    ],
)
def test_other_masks_with_much_foreground_are_not_asked_about(labels):
    found = question(inspect(labels), LabelMeaning(), 2)
    assert found is None or found.another is None


def test_the_larger_of_two_numbers_is_likely_to_be_the_background():
    labels = np.where(BLOBS, 1, 2)
    found = question(inspect(labels), LabelMeaning(), 2)
    assert (found.about, found.number, found.another) == ("background", 2, 1)
    for option in ("--background 2", "--background 1", "--background 0"):
        assert option in found.remedy


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_decimal_numbers_that_are_whole_are_labels(dtype):
    numbers = np.array([[[0, 1, 7]], [[7, 0, 255]]])
    found = whole_numbers(numbers.astype(dtype), "mask")
    assert found.dtype == np.int64
    np.testing.assert_array_equal(np.asarray(found[:, :, :]), numbers)
    assert whole_numbers(numbers, "mask") is numbers


@pytest.mark.parametrize("number", [0.5, np.nan, np.inf, 1e300])
def test_other_decimal_numbers_are_no_labels(number):
    labels = whole_numbers(np.array([[[0, 1, number]]]), "mask.tif")
    with pytest.raises(DataError, match=r"'mask\.tif' holds decimal numbers"):
        inspect(labels)


@pytest.mark.parametrize(
    ("values", "classes", "meaning", "words"),
    [
        ([0, 1], 2, LabelMeaning(), ""),
        (
            [0, 1, 2],
            2,
            LabelMeaning(),
            "there are 3 different values, and all above 0 count as 'a'",
        ),
        ([1, 2, 3], 2, LabelMeaning(background=1), "all but 1 count as 'a'"),
        ([0, 1, 2], 3, LabelMeaning(), ""),
        ([0, 2], 3, LabelMeaning(), "no voxel is 'a'"),
        ([0, 1, 3], 4, LabelMeaning(), "no voxel is 'b'"),
        ([1, 3], 3, LabelMeaning(background=1), "no voxel is 'a'"),
    ],
)
def test_what_numbers_that_can_be_used_leave_open(values, classes, meaning, words):
    names = ("background", "a", "b", "c")[:classes]
    found = value_remark(values, names, meaning, complete=True)
    assert words in found and bool(words) == bool(found)


@pytest.mark.parametrize(
    ("values", "meaning"),
    [
        ([1, 2], LabelMeaning(background=1)),
        ([1, 2], LabelMeaning(background=0)),
        ([0, 1], LabelMeaning(background=1)),  # a mask the other way round
        ([-1, 0, 1], LabelMeaning(ignore=(-1,))),
        ([-1, 1], LabelMeaning(background=-1)),
        ([0, 1, 255], LabelMeaning(ignore=(255,))),
        ([0, 1, 255], LabelMeaning(ignore=())),
        ([0, 1, 2], LabelMeaning(background=1, ignore=(0,))),
    ],
)
def test_an_answer_is_not_asked_for_again(values, meaning):
    assert asked(values, meaning) is None


def test_one_answer_may_leave_another_question():
    assert asked([0, 1, 2], LabelMeaning(background=1)) == ("ignore", 0)
    assert asked([0, 1, 255], LabelMeaning(ignore=(0,))) == ("ignore", 255)
    assert asked([1, 2, 255], LabelMeaning(ignore=(255,))) == ("background", 1)


@given(arrays(np.int16, (5, 4, 6), elements=st.integers(-3, 300)))
def test_numbers_are_counted_as_numpy_does(labels):
    found = inspect(labels)
    numbers, counts = np.unique(labels, return_counts=True)
    assert found.counts == dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    assert found.sections == 5
    bytes_ = inspect(labels.astype(np.uint8))
    numbers, counts = np.unique(labels.astype(np.uint8), return_counts=True)
    assert bytes_.counts == dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def test_an_early_answer_reads_few_sections_from_end_to_end():
    class Noted:
        shape = (1000, 4, 4)
        dtype = np.dtype(np.uint8)
        read: ClassVar[list[int]] = []

        def __getitem__(self, key):
            z = key[0].start
            self.read.append(z)
            return np.full((1, 4, 4), int(z in (0, 999)), np.uint8)

    found = inspect(Noted(), 16)
    assert len(Noted.read) == found.sections == 16
    assert {0, 999} <= set(Noted.read)
    assert found.uniform == {0: 14, 1: 2}
    assert found.hint(LabelMeaning()) == "14 of 16 sections hold no label"
    assert found.hint(LabelMeaning(labelled_sections=True)) == ""


def test_large_sections_are_read_in_strips(monkeypatch):
    """The counts are those of whole sections, also of which are uniform."""
    labels = np.zeros((3, 50, 40), np.uint8)
    labels[1, 30:] = 7
    labels[2] = 5
    whole = inspect(labels)
    monkeypatch.setattr("napari_emda.data.blocks.BLOCK_VOXELS", 400)
    monkeypatch.setattr("napari_emda.data.blocks._STRIP_ROWS", 8)
    assert inspect(labels) == whole
    assert whole.uniform == {0: 1, 5: 1}
    assert whole.counts == {0: 3200, 7: 800, 5: 2000}


def test_millions_of_objects_leave_few_numbers():
    labels = np.arange(300_000, dtype=np.int32).reshape(3, 250, 400)
    found = inspect(labels)
    assert len(found.counts) <= 2**16
    assert {0, 299_999} <= found.counts.keys()


# -- meaning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meaning", "classes", "values", "expected"),
    [
        (LabelMeaning(), 2, [0, 1, 7, 300], [0, 1, 1, 1]),
        (LabelMeaning(), 3, [0, 1, 2], [0, 1, 2]),
        (LabelMeaning(background=1), 2, [1, 2], [0, 1]),
        (LabelMeaning(background=1), 2, [0, 1], [1, 0]),
        (LabelMeaning(background=1), 3, [1, 2, 3], [0, 1, 2]),
        (LabelMeaning(background=3), 3, [1, 2, 3], [1, 2, 0]),
        (LabelMeaning(background=2), 3, [1, 2, 3], [1, 0, 2]),
        (LabelMeaning(background=255), 3, [1, 2, 255], [1, 2, 0]),
        (LabelMeaning(ignore=(-1, 255)), 2, [-1, 0, 1, 255], [IGNORE, 0, 1, IGNORE]),
        (LabelMeaning(ignore=(255,)), 3, [0, 1, 2, 255], [0, 1, 2, IGNORE]),
        (LabelMeaning(background=1, ignore=(0,)), 2, [0, 1, 2], [IGNORE, 0, 1]),
        (LabelMeaning(background=1, ignore=(0,)), 3, [0, 1, 2, 3], [IGNORE, 0, 1, 2]),
        (LabelMeaning(ignore=(0,)), 3, [0, 1, 2], [IGNORE, 1, 2]),
        (LabelMeaning(background=-1), 2, [-1, 0, 1], [0, 1, 1]),
        # A file that has changed since it was checked: no class is made of a number beyond uint8.
        (LabelMeaning(), 3, [256, 257], [254, 254]),
    ],
)
def test_numbers_become_class_ids(meaning, classes, values, expected):
    labels = np.array(values, np.int32)
    assert meaning.class_ids(labels, classes).tolist() == expected
    if max(values) < 256 or classes == 2:
        assert all(meaning.is_class(value, classes) for value in values)


@pytest.mark.parametrize("background", [None, 1])
def test_booleans_are_a_mask_with_any_number_of_classes(background):
    labels = np.array([False, True])
    expected = [0, 1] if background is None else [1, 0]
    assert LabelMeaning(background).class_ids(labels, 2).tolist() == expected
    assert LabelMeaning().class_ids(labels, 3).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("meaning", "classes", "number"),
    [
        (LabelMeaning(), 2, -1),
        (LabelMeaning(), 3, 3),
        (LabelMeaning(background=1), 3, 0),
        (LabelMeaning(background=1), 3, 4),
        (LabelMeaning(background=1, ignore=(0,)), 2, 3),
        (LabelMeaning(ignore=(255,)), 3, 254),
    ],
)
def test_other_numbers_are_no_class(meaning, classes, number):
    assert not meaning.is_class(number, classes)


@given(
    st.lists(st.integers(0, 2), min_size=240, max_size=240),
    st.sampled_from([None, 0, 1, 2]),
    st.booleans(),
    st.tuples(*[st.tuples(st.integers(0, n), st.integers(0, n)) for n in SHAPE]),
)
def test_a_box_of_labels_reads_as_the_same_box_of_all(values, background, sections, ends):
    labels = np.array(values, np.uint8).reshape(SHAPE)
    labels[1] = background or 0
    meaning = LabelMeaning(background, labelled_sections=sections)
    meant = MeantLabels(labels, meaning, 3)
    box = tuple(slice(min(pair), max(pair)) for pair in ends)
    np.testing.assert_array_equal(meant[box], np.asarray(meant)[box])
    ids = meaning.class_ids(labels, 3)
    expected = np.where(sections & ~(ids > 0).any((1, 2), keepdims=True), 0, ids + 1)
    np.testing.assert_array_equal(meant, expected)


@pytest.mark.parametrize(
    ("meaning", "classes", "numbered", "expected"),
    [
        (LabelMeaning(), 2, True, [0, 1, 2, 255]),
        (LabelMeaning(), 2, False, [0, 1, 1, 1]),
        (LabelMeaning(background=1, ignore=(0,)), 2, True, [0, 0, 2, 255]),
        (LabelMeaning(ignore=(255,)), 2, True, [0, 1, 2, 0]),
        (LabelMeaning(background=1, ignore=(0, 255)), 3, False, [0, 0, 1, 0]),
    ],
)
def test_objects_keep_their_numbers(meaning, classes, numbered, expected):
    labels = np.array([[[0, 1, 2, 255]]], np.uint8)
    objects = ObjectNumbers(labels, meaning, classes, numbered=numbered)
    assert np.asarray(objects).ravel().tolist() == expected


def test_outside_the_box_that_labels_cover_nothing_is_labelled():
    labels = np.ones(SHAPE, np.uint8)
    meant = MeantLabels(labels, LabelMeaning(), 2, Box((1, 2, 3), (3, 6, 9)))
    expected = np.zeros(SHAPE)
    expected[1:3, 2:6, 3:9] = 2
    np.testing.assert_array_equal(meant, expected)
    np.testing.assert_array_equal(meant[2, 1:5, ::3], expected[2, 1:5, ::3])

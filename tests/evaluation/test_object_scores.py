"""Objects that are found, against true ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label
from sklearn.metrics import jaccard_score

from napari_emda.errors import DataError, SettingsError
from napari_emda.evaluation.object_scores import instance_f1, score_objects


def squares(*corners: tuple[int, int], side: int = 4) -> np.ndarray:
    image = np.zeros((1, 20, 20), np.uint32)
    for k, (y, x) in enumerate(corners, start=1):
        image[0, y : y + side, x : x + side] = k
    return image


def test_objects_match_above_half():
    truth = squares((0, 0), (0, 8), (8, 0))
    shifted = squares((0, 0), (0, 9), (8, 2), (14, 14))  # IoU 1, 12 / 20 and 8 / 24; one of nothing
    result = instance_f1(shifted * 1000, truth)
    assert (result["matched"], result["objects"], result["truth_objects"]) == (2, 4, 3)
    assert result["f1"] == pytest.approx(2 * 2 / 7)
    assert (result["precision"], result["recall"]) == pytest.approx((2 / 4, 2 / 3))
    assert result["matched_iou"] == pytest.approx((1 + 12 / 20) / 2)
    assert instance_f1(shifted, truth, iou=0.6)["matched"] == 1


def test_a_half_is_not_above_half():
    assert instance_f1(squares((0, 0)), squares((0, 0), (0, 8)) * 0)["f1"] == 0
    low, high = np.zeros((1, 1, 2), np.uint32), np.ones((1, 1, 2), np.uint32)
    low[..., 0] = 1
    assert instance_f1(low, high)["matched"] == 0


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.uint32, (2, 4, 4), elements=st.integers(0, 4)),
    arrays(np.uint32, (2, 4, 4), elements=st.integers(0, 4)),
)
def test_matches_are_those_of_a_brute_force_search(a, b):
    ious = [
        jaccard_score((a == i).ravel(), (b == j).ravel())
        for i in set(a.flat) - {0}
        for j in set(b.flat) - {0}
    ]
    result = instance_f1(a, b)
    assert result["matched"] == sum(iou > 0.5 for iou in ious)
    assert result["f1"] == instance_f1(b, a)["f1"]


def test_objects_over_block_faces(monkeypatch):
    truth, found = squares((0, 0), (0, 8), (8, 0), side=7), squares((0, 1), (0, 8), (9, 1), side=6)
    whole = instance_f1(found, truth)
    monkeypatch.setattr("napari_emda.evaluation.object_scores.block_shape", lambda array: (1, 3, 5))
    assert instance_f1(found, truth) == whole


def test_no_objects_at_all():
    nothing = np.zeros((1, 4, 4), np.uint32)
    assert instance_f1(nothing, nothing)["f1"] == 1
    assert instance_f1(nothing, nothing + 1)["f1"] == 0


def test_objects_that_cannot_be_compared():
    with pytest.raises(SettingsError, match=r"at least 0\.5 and less than 1"):
        instance_f1(squares(), squares(), iou=0.3)
    with pytest.raises(DataError, match="two images of one volume"):
        instance_f1(squares(), np.zeros((1, 2, 2), np.uint32))


# -- of a prediction -------------------------------------------------------------------------------


def scored(probabilities, truth, classes=("background", "mitochondria"), **kept):
    events = score_objects(probabilities, truth, classes, **kept)
    shares = []
    while True:
        try:
            event = next(events)
            shares.append(event.done / event.total)
        except StopIteration as end:
            assert shares == sorted(shares)
            assert shares[-1] <= 1
            return end.value


def matches(found, true):
    """Pairs of components with an IoU above a half, one by one."""
    a, b = label(found, connectivity=1), label(true, connectivity=1)
    ious = [
        jaccard_score((a == i).ravel(), (b == j).ravel())
        for i in range(1, a.max() + 1)
        for j in range(1, b.max() + 1)
    ]
    return sum(iou > 0.5 for iou in ious), int(a.max()), int(b.max())


@pytest.fixture
def ids():
    """Class ids 0 to 2 in patches, and the same a little elsewhere."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 3, (2, 4, 4)).astype(np.uint8)
    fine = coarse.repeat(2, 0).repeat(6, 1).repeat(6, 2)
    return fine, np.roll(fine, (1, 2), (1, 2))


def test_each_class_is_scored_as_skimage_finds_its_objects(ids):
    found, true = ids
    probabilities = np.stack([255 * (found == k) for k in (1, 2)]).astype(np.uint8)
    result = scored(probabilities, true, ("background", "mitochondria", "a/b"))
    for k, name in enumerate(("mitochondria", "a/b"), 1):
        numbers = result[name]
        assert (numbers["matched"], numbers["objects"], numbers["truth_objects"]) == matches(
            found == k, true == k
        )


def test_numbered_objects_are_taken_as_they_are():
    numbered = np.zeros((1, 8, 12), np.uint16)
    numbered[0, 2:6, 2:6], numbered[0, 2:6, 6:10] = 300, 7  # two that touch
    probabilities = np.where(numbered == 300, 255, 0).astype(np.uint8)[None]
    assert scored(probabilities, numbered)["mitochondria"] == {
        "f1": pytest.approx(2 / 3),
        "precision": 1,
        "recall": 0.5,
        "matched_iou": 1,
        "matched": 1,
        "objects": 1,
        "truth_objects": 2,
    }


def test_numbers_begin_anew_in_every_independent_image():
    numbered = np.zeros((3, 8, 12), np.uint8)
    numbered[:, 2:6, 2:6], numbered[1, 2:6, 8:10] = 1, 2
    probabilities = np.where(numbered > 0, 255, 0).astype(np.uint8)[None]
    result = scored(probabilities, numbered, sections_are_independent=True)["mitochondria"]
    assert (result["matched"], result["objects"], result["truth_objects"]) == (4, 4, 4)


def test_small_objects_are_not_counted_on_either_side(ids):
    found, true = (side == 1 for side in ids)
    found[0, 0, 0] = True
    probabilities = np.where(found, 255, 0).astype(np.uint8)[None]
    sizes = [np.bincount(label(side, connectivity=1).ravel())[1:] for side in (found, true)]
    result = scored(probabilities, true.astype(np.uint8), minimum_size=73)["mitochondria"]
    assert [result["objects"], result["truth_objects"]] == [
        int((size >= 73).sum()) for size in sizes
    ]


def test_a_negative_size_is_refused():
    nothing = np.zeros((1, 4, 4), np.uint8)
    with pytest.raises(SettingsError, match="minimum_size"):
        scored(nothing[None], nothing, minimum_size=-1)

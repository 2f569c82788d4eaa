"""Objects that are found, against true ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from skimage.measure import label
from skimage.metrics import adapted_rand_error, variation_of_information
from sklearn.metrics import jaccard_score

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.evaluation.object_scores import compare_objects, score_objects
from napari_emda.events import result_of
from napari_emda.settings.objects import SeparationSettings


def squares(*corners: tuple[int, int], side: int = 4) -> np.ndarray:
    image = np.zeros((1, 20, 20), np.uint32)
    for k, (y, x) in enumerate(corners, start=1):
        image[0, y : y + side, x : x + side] = k
    return image


def test_objects_match_above_half():
    truth = squares((0, 0), (0, 8), (8, 0))
    shifted = squares((0, 0), (0, 9), (8, 2), (14, 14))  # IoU 1, 12 / 20 and 8 / 24; one of nothing
    result = compare_objects(shifted * 1000, truth)
    assert (result["matched"], result["objects"], result["truth_objects"]) == (2, 4, 3)
    assert result["f1"] == pytest.approx(2 * 2 / 7)
    assert (result["precision"], result["recall"]) == pytest.approx((2 / 4, 2 / 3))
    assert result["matched_iou"] == pytest.approx((1 + 12 / 20) / 2)
    # Two matches above 0.5 and 0.55, one of them from 0.6 on.
    assert (result["ap_50"], result["ap_75"]) == pytest.approx((2 / 5, 1 / 6))
    assert result["ap_50_95"] == pytest.approx((2 * 2 / 5 + 8 * 1 / 6) / 10)
    assert result["panoptic_quality"] == pytest.approx((1 + 12 / 20) / (2 + 2 / 2 + 1 / 2))
    assert result["count_error"] == pytest.approx(1 / 3)


def test_a_half_is_not_above_half():
    assert compare_objects(squares((0, 0)), squares((0, 0), (0, 8)) * 0)["f1"] == 0
    low, high = np.zeros((1, 1, 2), np.uint32), np.ones((1, 1, 2), np.uint32)
    low[..., 0] = 1
    assert compare_objects(low, high)["matched"] == 0


IDS = arrays(np.uint32, (2, 4, 4), elements=st.integers(0, 4))


@settings(max_examples=50, deadline=None)
@given(IDS, IDS, st.sampled_from([0, 2, 5, 9]))
def test_matches_are_those_of_the_best_assignment(a, b, limit):
    """At any limit of the average precision; half of the examples have good overlaps."""
    if limit % 2:
        a = np.where(a == 4, a, b)
    ious = np.array(
        [
            [jaccard_score((a == i).ravel(), (b == j).ravel()) for j in set(b.flat) - {0}]
            for i in set(a.flat) - {0}
        ]
    ).reshape(len(set(a.flat) - {0}), len(set(b.flat) - {0}))
    result = compare_objects(a, b)
    precisions = []
    for threshold in np.linspace(0.5, 0.95, 10).round(2):
        good = ious > threshold
        matched = good[linear_sum_assignment(good, maximize=True)].sum()
        whole = sum(ious.shape) - matched
        precisions.append(matched / whole if whole else 1)
    assert result["ap_50"] == pytest.approx(precisions[0])
    assert result["ap_75"] == pytest.approx(precisions[5])
    assert result["ap_50_95"] == pytest.approx(np.mean(precisions))
    matches = ious[ious > 0.5]
    assert result["matched"] == len(matches)
    if sum(ious.shape):
        assert result["panoptic_quality"] == pytest.approx(2 * matches.sum() / sum(ious.shape))
    assert result["f1"] == compare_objects(b, a)["f1"]


@settings(max_examples=50, deadline=None)
@given(IDS, IDS)
def test_information_and_rand_error_are_those_of_skimage(found, true):
    result = compare_objects(found, true)
    split, merge = variation_of_information(true, found)
    assert result["vi_split"] == pytest.approx(split, abs=1e-9)
    assert result["vi_merge"] == pytest.approx(merge, abs=1e-9)
    if np.count_nonzero(true) > 1 and found[true > 0].size:
        with np.errstate(invalid="ignore", divide="ignore"):
            error, _, _ = adapted_rand_error(true, found)
        if np.isfinite(error):
            assert result["rand_error"] == pytest.approx(error)


def test_splits_and_merges_are_told_apart():
    truth = squares((0, 0), (0, 4), (8, 0))
    merged = np.where(truth == 2, 1, truth)
    result = compare_objects(merged, truth)
    assert result["vi_split"] == 0 < result["vi_merge"]
    result = compare_objects(truth, merged)
    assert result["vi_merge"] == 0 < result["vi_split"]


def test_objects_over_block_faces(monkeypatch):
    truth, found = squares((0, 0), (0, 8), (8, 0), side=7), squares((0, 1), (0, 8), (9, 1), side=6)
    whole = compare_objects(found, truth)
    monkeypatch.setattr("napari_emda.evaluation.contingency.block_shape", lambda array: (1, 3, 5))
    # However often the counts of blocks are merged.
    for pending in (1, 2**21):
        monkeypatch.setattr("napari_emda.evaluation.contingency._PENDING", pending)
        assert compare_objects(found, truth) == pytest.approx(whole)


def test_no_objects_at_all():
    nothing = np.zeros((1, 4, 4), np.uint32)
    same = compare_objects(nothing, nothing)
    shares = ("f1", "ap_50", "ap_75", "ap_50_95", "panoptic_quality")
    errors = ("vi_split", "vi_merge", "rand_error", "count_error")
    assert [same[name] for name in shares] == [1] * 5
    assert [same[name] for name in errors] == [0] * 4
    false = compare_objects(nothing + 1, nothing)
    assert [false[name] for name in shares] == [0] * 5
    assert (false["rand_error"], false["count_error"]) == (None, None)
    missed = compare_objects(nothing, nothing + 1)
    assert [missed[name] for name in shares] == [0] * 5
    assert missed["count_error"] == -1


@pytest.mark.parametrize("wrong", [-1, 2**32])
def test_ids_that_cannot_be_told_apart_are_refused(wrong):
    """They would run into the ids of the other side."""
    ids = np.full((1, 2, 2), wrong, np.int64)
    with pytest.raises(DataError, match=f"id {wrong} is not allowed: number the objects from 1"):
        compare_objects(squares()[:, :2, :2], ids)


def test_objects_that_cannot_be_compared():
    with pytest.raises(DataError, match="two images of one volume"):
        compare_objects(squares(), np.zeros((1, 2, 2), np.uint32))


# -- of a prediction -------------------------------------------------------------------------------


def scored(
    probabilities,
    truth,
    classes=("background", "mitochondria"),
    sections_are_independent=False,
    **values,
):
    grid = VoxelGrid((1, 1, 1), "pixel", sections_are_independent)
    settings = SeparationSettings.parse(values)
    events = score_objects(probabilities, truth, classes, grid, settings=settings)
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
    scores = scored(probabilities, numbered)["mitochondria"]
    expected = {
        "f1": pytest.approx(2 / 3),
        "precision": 1,
        "recall": 0.5,
        "matched_iou": 1,
        "matched": 1,
        "objects": 1,
        "truth_objects": 2,
    }
    assert {name: scores[name] for name in expected} == expected


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


def test_found_objects_do_not_count_where_nobody_looked(ids):
    found, true = (side == 1 for side in ids)
    labelled = np.ones(true.shape, np.uint8)
    labelled[:, :, 12:] = 0
    probabilities = np.where(found, 255, 0).astype(np.uint8)[None]
    truth = np.where(labelled, true, 0).astype(np.uint8)
    events = score_objects(
        probabilities,
        truth,
        ("background", "mitochondria"),
        VoxelGrid((1, 1, 1)),
        labelled=labelled,
    )
    # Objects keep their ids where they are cut.
    objects = label(found, connectivity=1)[:, :, :12]
    result = result_of(events)["mitochondria"]
    assert result["objects"] == len(np.unique(objects[objects > 0]))
    assert result["truth_objects"] == label(truth, connectivity=1).max()


def test_touching_objects_are_scored_apart_if_the_settings_say_so():
    y, x = np.mgrid[:40, :70]
    truth = np.zeros((1, 40, 70), np.uint8)
    truth[0][(y - 20) ** 2 + (x - 20) ** 2 < 225] = 1
    truth[0][(y - 20) ** 2 + (x - 46) ** 2 < 225] = 2
    probabilities = np.where(truth > 0, 255, 0).astype(np.uint8)[None]
    apart = scored(probabilities, truth, separate=0.8)["mitochondria"]
    assert (apart["matched"], apart["objects"]) == (2, 2)
    assert scored(probabilities, truth)["mitochondria"]["objects"] == 1

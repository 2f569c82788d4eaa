"""Which patches are suggested, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_emda.data.volume import Box, Volume
from napari_emda.errors import DataError
from napari_emda.events import Notice, Suggested
from napari_emda.query import Candidates, pick, strategies, suggest
from napari_emda.settings import QuerySettings


def every(candidates):
    """Indices of all candidates."""
    return itertools.product(*map(range, candidates.shape))


def picked(scores, candidates, count, *, within=None, excluded=(), distance=0):
    within = within or Box((0, 0, 0), (10**6,) * 3)
    return pick(scores, candidates, count, within=within, excluded=list(excluded), distance=distance)


# -- candidates --------------------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(16, 90), st.integers(16, 90), st.integers(1, 16))
def test_candidates_lie_inside_and_reach_every_corner(depth, height, width, patch):
    candidates = Candidates.of((depth, height, width), patch)
    boxes = [candidates.box(index) for index in every(candidates)]
    assert len(set(boxes)) == len(boxes)
    assert all(box.clip((depth, height, width)) == box and box.shape == (1, patch, patch) for box in boxes)
    starts = {box.start for box in boxes}
    for corner in itertools.product((0, depth - 1), (0, height - patch), (0, width - patch)):
        assert corner in starts
    for places in (candidates.rows, candidates.columns):
        assert np.diff(places).max(initial=0) <= max(1, patch // 4)


def test_a_patch_as_large_as_the_volume_is_the_one_candidate():
    assert Candidates.of((1, 64, 64), 64).shape == (1, 1, 1)


def test_a_target_smaller_than_a_patch_is_refused_with_the_size_that_fits():
    with pytest.raises(DataError, match="is 80 x 96 pixels, smaller than one 128-pixel patch: choose patch size 80"):
        Candidates.of((3, 80, 96), 128)


def test_means_are_those_of_the_patches(noise):
    values = noise.integers(0, 256, (3, 50, 61)).astype(np.uint8)
    candidates = Candidates.of(values.shape, 16)
    for z in range(3):
        means = candidates.means(values, z)
        expected = [values[candidates.box((z, *i)).slices].mean() for i in np.ndindex(*means.shape)]
        np.testing.assert_allclose(means.ravel(), expected)


def test_inside_and_near_are_those_of_the_boxes():
    candidates, box = Candidates.of((6, 40, 48), 16), Box((1, 6, 9), (4, 30, 37))
    inside, near = candidates.inside(box), np.zeros(candidates.shape, bool)
    zs, rows, columns = candidates.near(box, 1)
    near[zs] = rows[:, None] & columns[None]
    around = Box((0, 6, 9), (5, 30, 37))
    for index in every(candidates):
        one = candidates.box(index)
        assert inside[index] == contains(box, one)
        assert near[index] == one.overlaps(around)


def contains(outer, inner):
    return all(a <= b for a, b in zip(outer.start, inner.start, strict=True)) and all(
        a >= b for a, b in zip(outer.stop, inner.stop, strict=True)
    )


# -- picking -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(0, 3))
def test_picks_do_not_overlap_keep_their_distance_and_come_best_first(seed, count, distance):
    candidates = Candidates.of((8, 48, 48), 16)
    scores = np.random.default_rng(seed).random(candidates.shape)
    picks = picked(scores, candidates, count, distance=distance)
    assert len(picks) <= count
    values = [score for _, score in picks]
    assert values[0] == scores.max()
    assert values == sorted(values, reverse=True)
    for (one, _), (other, _) in itertools.combinations(picks, 2):
        in_plane = Box((0, *one.start[1:]), (1, *one.stop[1:])).overlaps(
            Box((0, *other.start[1:]), (1, *other.stop[1:]))
        )
        assert not in_plane or abs(one.start[0] - other.start[0]) > distance


@given(st.integers(0, 2**31), st.integers(0, 2))
def test_picks_are_those_of_a_greedy_search(seed, distance):
    """Brute force: walk through all candidates, best first, and take what is in nobody's way."""
    candidates = Candidates.of((5, 40, 44), 16)
    scores = np.random.default_rng(seed).random(candidates.shape)
    taken: list[Box] = []
    for index in sorted(every(candidates), key=lambda i: -scores[i]):
        box = candidates.box(index)
        (z, *low), (_, *high) = box.start, box.stop
        wide = Box((z - distance, *low), (z + 1 + distance, *high))
        if not any(wide.overlaps(other) for other in taken):
            taken.append(box)
    assert [box for box, _ in picked(scores, candidates, 10**6, distance=distance)] == taken


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_has_no_score_is_never_picked(share, noise):
    candidates = Candidates.of((4, 48, 48), 16)
    scores = noise.random(candidates.shape)
    unknown = noise.random(candidates.shape) < share
    scores[unknown] = np.nan
    picks = picked(scores, candidates, 1000)
    assert bool(picks) == (share < 1)
    for box, score in picks:
        index = (box.start[0], *(int(np.flatnonzero(p == v)[0]) for p, v in
                 zip((candidates.rows, candidates.columns), box.start[1:], strict=True)))  # fmt: skip
        assert not unknown[index]
        assert score == scores[index]


def test_what_is_excluded_stays_free_in_its_own_sections_alone():
    candidates = Candidates.of((3, 32, 32), 16)
    done = Box((1, 0, 0), (2, 32, 20))
    picks = [box for box, _ in picked(np.ones(candidates.shape), candidates, 1000, excluded=[done])]
    assert not any(box.overlaps(done) for box in picks)
    assert sorted({box.start[0] for box in picks}) == [0, 2]


def test_picks_lie_wholly_within_the_box():
    candidates, within = Candidates.of((4, 64, 64), 16), Box((1, 10, 20), (3, 45, 60))
    picks = picked(np.ones(candidates.shape), candidates, 1000, within=within)
    assert picks
    assert all(contains(within, box) for box, _ in picks)


def test_scores_are_not_changed_by_picking():
    candidates = Candidates.of((2, 32, 32), 16)
    scores = np.ones(candidates.shape)
    picked(scores, candidates, 3)
    assert (scores == 1).all()


# -- suggesting --------------------------------------------------------------------------------------------------


def suggested(tmp_path, shape=(4, 64, 64), *, excluded=(), **values):
    target = Volume("t", np.zeros(shape, np.uint8), "target", (50.0, 4.0, 4.0))
    strategy = strategies["random"](strategies["random"].Settings())
    settings = QuerySettings.parse({"strategy": "random", "patch": 16, **values})
    *notices, last = suggest(None, target, strategy, settings, tmp_path, list(excluded))
    assert isinstance(last, Suggested)
    assert all(isinstance(notice, Notice) for notice in notices)
    return [region["box"] for region in last.regions], [notice.text for notice in notices]


def test_random_patches_follow_the_seed(tmp_path):
    assert suggested(tmp_path, seed=1) == suggested(tmp_path, seed=1)
    assert suggested(tmp_path, seed=1) != suggested(tmp_path, seed=2)


def test_random_patches_come_from_everywhere(tmp_path):
    boxes = [Box.parse(box, (4, 64, 64)) for seed in range(100) for box in suggested(tmp_path, seed=seed, count=1)[0]]
    assert {box.start[0] for box in boxes} == {0, 1, 2, 3}
    assert len({box.start for box in boxes}) > 70


def test_sections_move_closer_when_there_are_too_few_patches(tmp_path):
    boxes, notices = suggested(tmp_path, (4, 32, 32), count=16, patch=32, section_distance=3)
    assert len(boxes) == 4
    assert "Only 4 patches of 32 pixels are left" in notices[0]
    assert "16 were asked for" in notices[0]


def test_all_annotated_leaves_nothing_and_says_so(tmp_path):
    boxes, notices = suggested(tmp_path, excluded=[Box.whole((4, 64, 64))])
    assert boxes == []
    assert len(notices) == 1


def test_a_box_outside_the_target_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not lie in the volume"):
        suggested(tmp_path, box="0:9,:,:")

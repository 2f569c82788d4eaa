"""Which patches are candidates, which are chosen, and what is told, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_emda.active_learning.candidates import Candidates, Pool, distances_to
from napari_emda.active_learning.strategy import strategies
from napari_emda.active_learning.suggest import choose, suggest
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, JobError
from napari_emda.events import Notice, Suggested
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.suggestion import QuerySettings


class Given:
    """Scores that the test gives, in place of a strategy."""

    def __init__(self, scores):
        self.scores = scores

    def begin(self, pool):
        pass

    def score(self, pool):
        return self.scores


def picked(scores, candidates, count, *, excluded=(), sections=0, seed=0, random_count=0):
    pool = Pool(candidates, count, sections=sections, seed=seed, excluded=list(excluded))
    return [(candidates.box(i), score) for i, score in choose(Given(scores), pool, random_count)]


def in_the_way(one, other, sections):
    """Whether two patches overlap in the plane and lie within so many sections."""
    (z, *low), (_, *high) = one.start, one.stop
    return Box((z - sections, *low), (z + 1 + sections, *high)).overlaps(other)


# -- candidates --------------------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(16, 90), st.integers(16, 90), st.integers(1, 16))
def test_candidates_lie_inside_and_reach_every_corner(depth, height, width, patch):
    candidates = Candidates.of((depth, height, width), patch)
    boxes = [candidates.box(i) for i in range(len(candidates))]
    assert len(set(boxes)) == len(boxes) == candidates.total
    assert all(
        box.clip((depth, height, width)) == box and box.shape == (1, patch, patch) for box in boxes
    )
    starts = {box.start for box in boxes}
    for corner in itertools.product((0, depth - 1), (0, height - patch), (0, width - patch)):
        assert corner in starts
    for axis in (1, 2):
        assert np.diff(np.unique(candidates.starts[:, axis])).max(initial=0) <= max(1, patch // 4)


def test_a_patch_as_large_as_the_volume_is_the_one_candidate():
    assert len(Candidates.of((1, 64, 64), 64)) == 1


def test_candidates_of_a_box_lie_wholly_within_it():
    candidates = Candidates.of((4, 64, 64), 16, box="1:3,10:45,20:60")
    boxes = [candidates.box(i) for i in range(len(candidates))]
    starts, stops = np.array([box.start for box in boxes]), np.array([box.stop for box in boxes])
    assert starts.min(0).tolist() == [1, 10, 20]
    assert stops.max(0).tolist() == [3, 45, 60]


def test_a_target_or_box_smaller_than_a_patch_is_refused_with_the_size_that_fits():
    with pytest.raises(
        DataError,
        match="target is 80 x 96 pixels, smaller than one 128-pixel patch: choose patch size 80",
    ):
        Candidates.of((3, 80, 96), 128)
    with pytest.raises(
        DataError,
        match="box is 30 x 50 pixels, smaller than one 32-pixel patch: choose patch size 30",
    ):
        Candidates.of((3, 80, 96), 32, box=":,0:30,0:50")


@given(st.integers(1, 200), st.integers(0, 99))
def test_of_too_many_candidates_evenly_spaced_sections_are_kept(limit, seed):
    whole, part = (
        Candidates.of((7, 40, 40), 16),
        Candidates.of((7, 40, 40), 16, limit=limit, seed=seed),
    )
    assert 1 <= len(part) <= limit
    assert part.total == len(whole)
    assert {tuple(row) for row in part.starts.tolist()} <= {
        tuple(row) for row in whole.starts.tolist()
    }
    assert len({*np.diff(np.unique(part.starts[:, 0])).tolist()}) <= 1


def test_other_seeds_look_at_other_sections():
    seen = {
        z
        for seed in range(20)
        for z in Candidates.of((9, 32, 32), 32, limit=3, seed=seed).starts[:, 0].tolist()
    }
    assert seen == set(range(9))


def test_near_is_what_overlaps():
    candidates, box = Candidates.of((6, 40, 48), 16), Box((1, 6, 9), (4, 30, 37))
    around = Box((0, 6, 9), (5, 30, 37))
    assert candidates.near(box, 1).tolist() == [
        candidates.box(i).overlaps(around) for i in range(len(candidates))
    ]


# -- choosing ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(0, 2))
def test_picks_are_those_of_a_greedy_search(seed, sections):
    """Brute force: walk through all candidates, best first, and take what is in nobody's way."""
    candidates = Candidates.of((5, 40, 44), 16)
    scores = np.random.default_rng(seed).random(len(candidates))
    taken: list[Box] = []
    for index in np.argsort(-scores).tolist():
        box = candidates.box(index)
        if not any(in_the_way(box, other, sections) for other in taken):
            taken.append(box)
    assert [box for box, _ in picked(scores, candidates, 10**6, sections=sections)] == taken


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("random_count", [0, 1000])
def test_what_has_no_score_is_never_picked(share, random_count, noise):
    candidates = Candidates.of((4, 48, 48), 16)
    scores = noise.random(len(candidates))
    scores[noise.random(len(candidates)) < share] = np.nan
    picks = picked(scores, candidates, 1000, random_count=random_count)
    assert bool(picks) == (share < 1)
    assert not np.isnan([score for _, score in picks]).any()


@pytest.mark.parametrize("random_count", [0, 2])
def test_what_is_infinite_is_never_picked(random_count):
    candidates = Candidates.of((4, 16, 16), 16)
    picks = picked(np.array([np.inf, 1, -np.inf, 2]), candidates, 4, random_count=random_count)
    assert sorted(score for _, score in picks) == [1, 2]


def test_a_strategy_is_not_asked_where_nothing_is_left():
    class Needy(Given):
        def begin(self, pool):
            raise AssertionError

    candidates = Candidates.of((1, 32, 32), 16)
    assert choose(Needy(None), Pool(candidates, 3, excluded=[Box.whole((1, 32, 32))])) == []


def test_a_share_by_lot_is_one_patch_at_least():
    asked = [
        QuerySettings(count=count, random_share=share).random_count
        for count, share in ((5, 0.1), (5, 0), (10, 0.3), (4, 1))
    ]
    assert asked == [1, 0, 3, 4]


def test_what_is_excluded_stays_free_in_its_own_sections_alone():
    candidates = Candidates.of((3, 32, 32), 16)
    done = Box((1, 0, 0), (2, 32, 20))
    picks = [box for box, _ in picked(np.ones(len(candidates)), candidates, 1000, excluded=[done])]
    assert not any(box.overlaps(done) for box in picks)
    assert sorted({box.start[0] for box in picks}) == [0, 2]


def test_among_equals_the_lot_decides():
    """Else the upper left corner of the first section would be asked for first."""
    candidates = Candidates.of((2, 20, 20), 16)
    first = [
        picked(np.ones(len(candidates)), candidates, 1, seed=seed)[0][0] for seed in range(400)
    ]
    counts = [first.count(candidates.box(i)) for i in range(len(candidates))]
    expected = 400 / len(candidates)
    assert (
        sum((count - expected) ** 2 / expected for count in counts) < 26
    )  # chi-square, 7 degrees: p = 0.0005
    assert picked(np.ones(len(candidates)), candidates, 1, seed=3)[0][0] == first[3]


def test_the_random_share_is_drawn_whatever_the_scores_and_comes_last(noise):
    candidates = Candidates.of((6, 64, 64), 16)
    one, other = (noise.random(len(candidates)) for _ in range(2))
    a, b = (picked(scores, candidates, 10, random_count=4, seed=1) for scores in (one, other))
    assert [box for box, _ in a[6:]] == [box for box, _ in b[6:]]
    assert [score for _, score in a[:6]] == sorted((score for _, score in a[:6]), reverse=True)
    for pair in itertools.combinations([box for box, _ in a], 2):
        assert not in_the_way(*pair, 0)


def test_picks_may_overlap_where_that_is_asked_for_but_none_is_picked_twice(noise):
    candidates = Candidates.of((1, 24, 24), 16)
    scores = noise.random(len(candidates))
    picks = [candidates.box(i).start for i in np.argsort(-scores)]
    assert [box.start for box, _ in picked(scores, candidates, 100, sections=-1)] == picks


def test_scores_are_not_changed_by_picking():
    candidates = Candidates.of((2, 32, 32), 16)
    scores = np.ones(len(candidates))
    picked(scores, candidates, 3)
    assert (scores == 1).all()


def test_distances_are_those_to_the_nearest_annotated_or_picked(noise):
    candidates = Candidates.of((2, 48, 48), 16)
    points, known = (noise.normal(size=(n, 5)).astype(np.float32) for n in (len(candidates), 3))
    pool = Pool(candidates, 2, embeddings=points, annotated=known)
    before = pool.distances.copy()
    pool.take(7)
    for there, measured in ((known, before), (np.vstack([known, points[7]]), pool.distances)):
        expected = np.linalg.norm(points[:, None] - there[None], axis=2).min(1)
        np.testing.assert_allclose(measured, expected, rtol=1e-4, atol=1e-3)
    assert pool.distances[7] == 0
    np.testing.assert_allclose(
        distances_to(points, points[0]), np.linalg.norm(points - points[0], axis=1), rtol=1e-6
    )


def test_the_short_list_holds_the_best_that_do_not_overlap(noise):
    candidates = Candidates.of((3, 48, 48), 16)
    scores = noise.random(len(candidates))
    pool = Pool(candidates, 3, excluded=[Box((0, 0, 0), (1, 48, 48))])
    listed = pool.shortlist(scores, 6)
    assert [candidates.box(i) for i in listed] == [
        box for box, _ in picked(scores, candidates, 6, excluded=[Box((0, 0, 0), (1, 48, 48))])
    ]
    assert pool.picks == []


# -- suggesting --------------------------------------------------------------------------------------------------


def suggested(tmp_path, shape=(4, 64, 64), *, excluded=(), **values):
    target = Volume("t", np.zeros(shape, np.uint8), "target", VoxelGrid((50.0, 4.0, 4.0)))
    strategy = strategies["random"](strategies["random"].Settings())
    settings = QuerySettings.parse({"strategy": "random", "patch": 16, **values})
    *notices, last = suggest(None, target, strategy, settings, RunFolder(tmp_path), list(excluded))
    assert isinstance(last, Suggested)
    assert all(isinstance(notice, Notice) for notice in notices)
    return [region["box"] for region in last.regions], [notice.text for notice in notices]


def test_random_patches_follow_the_seed(tmp_path):
    assert suggested(tmp_path, seed=1) == suggested(tmp_path, seed=1)
    assert suggested(tmp_path, seed=1) != suggested(tmp_path, seed=2)


def test_random_patches_come_from_everywhere(tmp_path):
    boxes = [
        Box.parse(box, (4, 64, 64))
        for seed in range(100)
        for box in suggested(tmp_path, seed=seed, count=1)[0]
    ]
    assert {box.start[0] for box in boxes} == {0, 1, 2, 3}
    assert len({box.start for box in boxes}) > 70


def test_sections_move_closer_when_there_are_too_few_patches(tmp_path):
    boxes, notices = suggested(tmp_path, (4, 32, 32), count=16, patch=32, section_distance=3)
    assert len(boxes) == 4
    assert "Only 4 patches of 32 pixels are left" in notices[0]
    assert "16 were asked for" in notices[0]


def test_sections_move_no_closer_than_they_must(tmp_path):
    """Of eight sections with one position each, three that have four sections between do not exist."""
    for seed in range(20):
        boxes, notices = suggested(tmp_path, (8, 16, 16), count=3, section_distance=4, seed=seed)
        sections = sorted(Box.parse(box, (8, 16, 16)).start[0] for box in boxes)
        assert len(boxes) == 3
        assert not notices
        assert np.diff(sections).min() >= 2


def test_all_annotated_leaves_nothing_and_says_so(tmp_path):
    boxes, notices = suggested(tmp_path, excluded=[Box.whole((4, 64, 64))])
    assert boxes == []
    assert len(notices) == 1


def test_a_box_outside_the_target_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not lie in the volume"):
        suggested(tmp_path, box="0:9,:,:")


def test_a_sample_of_the_positions_is_never_taken_in_silence(tmp_path):
    _, notices = suggested(tmp_path, (8, 96, 96), positions=1000)
    assert (
        "The volume has 3528 patch positions; 882 of them, in evenly spaced sections, are looked at"
        in notices[0]
    )
    assert suggested(tmp_path, (8, 96, 96), positions=3528)[1] == []


def test_the_random_share_is_named_so(tmp_path):
    class Upper(strategies["random"]):
        name = "upper"

        def score(self, pool):
            return -pool.candidates.starts[:, 1].astype(float)

    target = Volume("t", np.zeros((4, 64, 64), np.uint8), "target", VoxelGrid((50.0, 4.0, 4.0)))
    settings = QuerySettings(patch=16, count=10, random_share=0.3)
    (last,) = suggest(None, target, Upper(None), settings, RunFolder(tmp_path), [])
    assert [region["strategy"] for region in last.regions] == ["upper"] * 7 + ["random"] * 3
    scores = [region["score"] for region in last.regions]
    assert scores[:7] == sorted(scores[:7], reverse=True)


def test_a_strategy_that_asks_a_model_needs_one(tmp_path):
    target = Volume("t", np.zeros((2, 64, 64), np.uint8), "target", VoxelGrid((50.0, 4.0, 4.0)))
    strategy = strategies["entropy"](strategies["entropy"].Settings())
    with pytest.raises(
        JobError, match="asks a model and there is none: train one first, or choose random"
    ):
        list(suggest(None, target, strategy, QuerySettings(patch=16), RunFolder(tmp_path), []))

"""Which patches are candidates, and which of them are suggested, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_emda.active_learning.candidates import Candidates, Places, Pool, distances_to
from napari_emda.active_learning.random_audit import draw
from napari_emda.active_learning.strategy import strategies
from napari_emda.active_learning.suggest import choose, suggest
from napari_emda.data.box import Box
from napari_emda.data.padding import PatchPadding
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, JobError
from napari_emda.events import Notice, Suggested
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.suggestion import QuerySettings


class FixedScores:
    """A strategy with the scores of a test."""

    def __init__(self, scores):
        self.scores = scores

    def begin(self, pool):
        pass

    def score(self, pool):
        return self.scores


def picked(scores, candidates, count, *, excluded=(), sections=0, seed=0, random_count=0):
    pool = Pool(candidates, count, sections=sections, seed=seed, excluded=list(excluded))
    return [
        (candidates.box(i), score) for i, score in choose(FixedScores(scores), pool, random_count)
    ]


def too_near(box, other, sections):
    """Whether two patches overlap in the plane and lie at most ``sections`` apart."""
    z, y0, x0 = box.start
    _, y1, x1 = box.stop
    return Box((z - sections, y0, x0), (z + 1 + sections, y1, x1)).overlaps(other)


# -- candidates ------------------------------------------------------------------------------------


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


def test_a_patch_as_large_as_the_volume_is_the_only_candidate():
    assert len(Candidates.of((1, 64, 64), 64)) == 1


def test_candidates_of_a_box_lie_inside_it():
    candidates = Candidates.of((4, 64, 64), 16, box="1:3,10:45,20:60")
    boxes = [candidates.box(i) for i in range(len(candidates))]
    starts = np.array([box.start for box in boxes])
    stops = np.array([box.stop for box in boxes])
    assert starts.min(0).tolist() == [1, 10, 20]
    assert stops.max(0).tolist() == [3, 45, 60]


def test_a_target_or_box_smaller_than_a_patch_is_refused_with_a_size_that_fits():
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


@given(st.integers(1, 400), st.integers(0, 99))
def test_of_candidates_beyond_the_limit_as_many_are_drawn(limit, seed):
    whole = Candidates.of((7, 40, 40), 16, box="1:6,:,:")
    sample = Candidates.of((7, 40, 40), 16, box="1:6,:,:", limit=limit, seed=seed)
    drawn = set(map(tuple, sample.starts.tolist()))
    assert len(drawn) == len(sample) == min(limit, len(whole))
    assert sample.total == len(whole)
    assert drawn <= set(map(tuple, whole.starts.tolist()))


def test_all_positions_are_drawn_equally_often():
    drawn = [
        tuple(start)
        for seed in range(300)
        for start in Candidates.of((4, 32, 48), 32, limit=4, seed=seed).starts.tolist()
    ]
    counts = [drawn.count(start) for start in set(drawn)]
    # Each of 12 positions is one of 4 that are drawn, 300 times.
    assert len(counts) == 4 * 3
    assert max(abs(count - 100) for count in counts) < 4 * (300 / 3 * 2 / 3) ** 0.5


@pytest.mark.parametrize("count", [1, 40, 300])
@pytest.mark.parametrize(
    ("box", "sections"),
    [(Box((0, 0, 0), (50, 2048, 2048)), 1), (Box((7, 300, 900), (40, 1900, 1500)), 3)],
)
def test_places_are_spread_over_all_sections_and_their_planes(box, sections, count):
    rng = np.random.default_rng(count)
    places = Places(count, 512, sections).spread_over(box, rng)
    assert all(place.clip_to(box) == place for place in places)
    starts = np.array([place.start for place in places])
    assert {place.shape[1:] for place in places} == {tuple(min(512, n) for n in box.shape[1:])}
    layers = np.unique((starts[:, 0] - box.start[0]) // sections)
    number = -(-box.shape[0] // sections)
    assert np.diff(layers).max(initial=0) <= -(-number // count)
    assert len(layers) == min(number, count)
    # All rows and columns of squares get their share.
    for axis in (1, 2):
        counts = np.unique(starts[:, axis], return_counts=True)[1]
        assert count < 40 or (len(counts) > 1 and counts.max() < 2 * counts.min())


def test_the_seed_chooses_the_places():
    box = Box.whole((60, 2048, 2048))
    first, again, other = (
        Places(20, 512).spread_over(box, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert len({*first, *other}) > 30


@pytest.mark.parametrize("limit", [10**6, 200, 5])
def test_candidates_of_places_lie_in_them_and_within_the_limit(limit):
    places = Places(30, 512)
    candidates = Candidates.of((90, 1024, 1536), 256, limit=limit, seed=3, places=places)
    whole = Candidates.of((90, 1024, 1536), 256)
    assert candidates.total == len(whole)
    squares = {(z, y // 512, x // 512) for z, y, x in candidates.starts.tolist()}
    # Each square has 5 x 5 patches.
    number = min(30, max(1, limit // 25))
    assert len(squares) == number
    assert len(candidates) == min(limit, 25 * number)
    assert ((candidates.starts[:, 1:] % 512) <= 256).all()


def test_near_candidates_overlap_the_box_or_the_sections_beside_it():
    candidates = Candidates.of((6, 40, 48), 16)
    box = Box((1, 6, 9), (4, 30, 37))
    around = Box((0, 6, 9), (5, 30, 37))
    assert candidates.near(box, 1).tolist() == [
        candidates.box(i).overlaps(around) for i in range(len(candidates))
    ]


# -- choosing --------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(0, 2))
def test_picks_are_those_of_a_greedy_search(seed, sections):
    """Brute force: go through all candidates, best first, and take those that are not too near."""
    candidates = Candidates.of((5, 40, 44), 16)
    scores = np.random.default_rng(seed).random(len(candidates))
    taken: list[Box] = []
    for index in np.argsort(-scores).tolist():
        box = candidates.box(index)
        if not any(too_near(box, other, sections) for other in taken):
            taken.append(box)
    assert [box for box, _ in picked(scores, candidates, 10**6, sections=sections)] == taken


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("random_count", [0, 1000])
def test_a_patch_without_a_score_is_never_picked(share, random_count, noise):
    candidates = Candidates.of((4, 48, 48), 16)
    scores = noise.random(len(candidates))
    scores[noise.random(len(candidates)) < share] = np.nan
    picks = picked(scores, candidates, 1000, random_count=random_count)
    assert bool(picks) == (share < 1)
    assert not np.isnan([score for _, score in picks]).any()


@pytest.mark.parametrize("random_count", [0, 2])
def test_a_patch_with_an_infinite_score_is_never_picked(random_count):
    candidates = Candidates.of((4, 16, 16), 16)
    picks = picked(np.array([np.inf, 1, -np.inf, 2]), candidates, 4, random_count=random_count)
    assert sorted(score for _, score in picks) == [1, 2]


def test_a_strategy_does_not_begin_if_no_candidate_is_left():
    class Failing(FixedScores):
        def begin(self, pool):
            raise AssertionError

    candidates = Candidates.of((1, 32, 32), 16)
    assert choose(Failing(None), Pool(candidates, 3, excluded=[Box.whole((1, 32, 32))])) == []


def test_a_random_share_is_at_least_one_patch():
    counts = [
        QuerySettings(count=count, random_share=share).random_count
        for count, share in ((5, 0.1), (5, 0), (10, 0.3), (4, 1))
    ]
    assert counts == [1, 0, 3, 4]


def test_an_excluded_box_excludes_its_own_sections_only():
    candidates = Candidates.of((3, 32, 32), 16)
    annotated = Box((1, 0, 0), (2, 32, 20))
    picks = picked(np.ones(len(candidates)), candidates, 1000, excluded=[annotated])
    assert not any(box.overlaps(annotated) for box, _ in picks)
    assert sorted({box.start[0] for box, _ in picks}) == [0, 2]


def test_a_random_patch_among_equals_is_picked_first():
    """Otherwise the upper left corner of the first section would always come first."""
    candidates = Candidates.of((2, 20, 20), 16)
    scores = np.ones(len(candidates))
    first = [picked(scores, candidates, 1, seed=seed)[0][0] for seed in range(400)]
    counts = [first.count(candidates.box(i)) for i in range(len(candidates))]
    expected = 400 / len(candidates)
    chi_square = sum((count - expected) ** 2 / expected for count in counts)
    assert chi_square < 26  # 7 degrees of freedom: p = 0.0005
    assert picked(scores, candidates, 1, seed=3)[0][0] == first[3]


def test_random_picks_do_not_depend_on_the_scores_and_come_last(noise):
    candidates = Candidates.of((6, 64, 64), 16)
    scores = noise.random(len(candidates))
    picks = picked(scores, candidates, 10, random_count=4, seed=1)
    other_scores = noise.random(len(candidates))
    other_picks = picked(other_scores, candidates, 10, random_count=4, seed=1)
    assert [box for box, _ in picks[6:]] == [box for box, _ in other_picks[6:]]
    ranked = [score for _, score in picks[:6]]
    assert ranked == sorted(ranked, reverse=True)
    for box, other in itertools.combinations([box for box, _ in picks], 2):
        assert not too_near(box, other, 0)


def test_picks_may_overlap_on_request_but_none_is_picked_twice(noise):
    candidates = Candidates.of((1, 24, 24), 16)
    scores = noise.random(len(candidates))
    expected = [candidates.box(i).start for i in np.argsort(-scores)]
    picks = picked(scores, candidates, 100, sections=-1)
    assert [box.start for box, _ in picks] == expected


def test_picking_does_not_change_the_scores():
    candidates = Candidates.of((2, 32, 32), 16)
    scores = np.ones(len(candidates))
    picked(scores, candidates, 3)
    assert (scores == 1).all()


def test_distances_are_to_the_nearest_annotated_or_picked_patch(noise):
    candidates = Candidates.of((2, 48, 48), 16)
    points = noise.normal(size=(len(candidates), 5)).astype(np.float32)
    annotated = noise.normal(size=(3, 5)).astype(np.float32)
    pool = Pool(candidates, 2, embeddings=points, annotated=annotated)
    before = pool.distances.copy()
    pool.take(7)
    with_pick = np.vstack([annotated, points[7]])
    for references, distances in ((annotated, before), (with_pick, pool.distances)):
        expected = np.linalg.norm(points[:, None] - references[None], axis=2).min(1)
        np.testing.assert_allclose(distances, expected, rtol=1e-4, atol=1e-3)
    assert pool.distances[7] == 0
    np.testing.assert_allclose(
        distances_to(points, points[0]), np.linalg.norm(points - points[0], axis=1), rtol=1e-6
    )


def test_the_short_list_holds_the_best_patches_that_do_not_overlap(noise):
    candidates = Candidates.of((3, 48, 48), 16)
    scores = noise.random(len(candidates))
    section = Box((0, 0, 0), (1, 48, 48))
    pool = Pool(candidates, 3, excluded=[section])
    listed = [candidates.box(i) for i in pool.shortlist(scores, 6)]
    assert listed == [box for box, _ in picked(scores, candidates, 6, excluded=[section])]
    assert pool.picks == []


# -- suggesting ------------------------------------------------------------------------------------


def suggested(tmp_path, shape=(4, 64, 64), *, excluded=(), **values):
    """Boxes and notices of a suggestion at random."""
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


def test_random_patches_come_from_the_whole_volume(tmp_path):
    boxes = [
        Box.parse(box, (4, 64, 64))
        for seed in range(100)
        for box in suggested(tmp_path, seed=seed, count=1)[0]
    ]
    assert {box.start[0] for box in boxes} == {0, 1, 2, 3}
    assert len({box.start for box in boxes}) > 70


def test_the_distance_of_sections_shrinks_if_too_few_patches_are_found(tmp_path):
    boxes, notices = suggested(tmp_path, (4, 32, 32), count=16, patch=32, section_distance=3)
    assert len(boxes) == 4
    assert "Only 4 of the 16 patches were found: no other patch of 32 pixels" in notices[0]


def test_the_distance_of_sections_shrinks_no_further_than_needed(tmp_path):
    """In eight sections with one position each, no three have four sections between them."""
    for seed in range(20):
        boxes, notices = suggested(tmp_path, (8, 16, 16), count=3, section_distance=4, seed=seed)
        sections = sorted(Box.parse(box, (8, 16, 16)).start[0] for box in boxes)
        assert len(boxes) == 3
        assert not notices
        assert np.diff(sections).min() >= 2


def test_a_fully_annotated_volume_leaves_nothing_to_suggest(tmp_path):
    boxes, notices = suggested(tmp_path, excluded=[Box.whole((4, 64, 64))])
    assert boxes == []
    assert len(notices) == 1


@pytest.fixture
def bordered(noise):
    """A target of which the left 48 columns and the last 32 rows are padding."""
    image = noise.normal(120, 25, (4, 160, 160)).clip(1, 254).astype(np.uint8)
    image[:, :, :48] = 0
    image[:, -32:] = 0
    return Volume("t", image, "target", VoxelGrid((50.0, 4.0, 4.0)))


def test_no_random_patch_lies_in_padding(bordered, tmp_path):
    strategy = strategies["random"](strategies["random"].Settings())
    settings = QuerySettings.parse({"strategy": "random", "patch": 64, "count": 100})
    *notices, last = suggest(None, bordered, strategy, settings, RunFolder(tmp_path), [])
    boxes = [Box.parse(region["box"], bordered.shape) for region in last.regions]
    assert 4 <= len(boxes) < 16
    assert max((bordered.image[box.slices] == 0).mean() for box in boxes) <= 0.1
    assert "free of annotated or skipped regions and of padding" in notices[-1].text


@pytest.mark.parametrize("at_once", [True, False])
def test_the_best_patch_outside_padding_is_picked_first(at_once, bordered):
    candidates = Candidates.of(bordered.shape, 32)
    pool = Pool(candidates, 5, padding=PatchPadding(bordered))
    if at_once:
        pool.close_padding()
    # Most of all a strategy wants padding here.
    share = np.array(
        [(bordered.image[candidates.box(i).slices] == 0).mean() for i in range(len(candidates))]
    )
    picks = choose(FixedScores(share), pool)
    assert len(picks) == 5
    assert all(share[index] <= 0.1 for index, _ in picks)
    assert picks[0][1] == share[share <= 0.1].max()


def test_a_model_is_audited_on_tissue_only(bordered):
    padding = PatchPadding(bordered)
    asked = []

    def in_padding(name, box):
        asked.append(box)
        return padding.too_much(box)

    drawn = draw({"t": bordered.shape}, {}, patch=32, count=10, seed=0, padding=in_padding)
    assert len(drawn) == 10
    assert all((bordered.image[box.slices] == 0).mean() <= 0.1 for _, box in drawn)
    # A draw reads only what it draws.
    assert 10 < len(asked) < 40
    everything = draw({"t": bordered.shape}, {}, patch=32, count=1000, seed=0, padding=in_padding)
    # Of 5 x 5 tiles, 3 columns and 4 rows hold tissue; the second column is half padding.
    assert len(everything) == 4 * 4 * 3
    with pytest.raises(DataError, match="lies in the padding"):
        draw({"t": bordered.shape}, {}, patch=32, count=3, seed=0, padding=lambda *_: True)


def test_a_box_outside_the_target_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not lie in the volume"):
        suggested(tmp_path, box="0:9,:,:")


def test_a_notice_tells_that_candidates_are_sampled(tmp_path):
    _, notices = suggested(tmp_path, (8, 96, 96), positions=1000)
    assert notices[0] == (
        "The volume has 3528 patch positions. Only 1000 of them are ranked, drawn at random from "
        "all sections: raise 'positions' to rank more, or choose a box."
    )
    assert suggested(tmp_path, (8, 96, 96), positions=3528)[1] == []


def test_regions_name_the_strategy_or_random(tmp_path):
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
        JobError, match="needs a model and there is none: train one first, or choose random"
    ):
        list(suggest(None, target, strategy, QuerySettings(patch=16), RunFolder(tmp_path), []))

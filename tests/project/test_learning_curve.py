"""Agreement of the model with the user: scikit-learn's scores, intervals that cover the truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import bootstrap, norm
from scipy.stats import t as student
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from napari_emda.active_learning.random_audit import draw
from napari_emda.data.box import Box
from napari_emda.errors import DataError
from napari_emda.project.learning_curve import (
    Estimate,
    Round,
    advice,
    confusion,
    dice,
    estimate,
    iou,
    rounds,
    summary,
)
from napari_emda.project.region import Region


def pair(noise, classes, size=400):
    """Annotated classes (flat), and a prediction that is right in three of four voxels."""
    truth = noise.integers(0, classes, size)
    predicted = np.where(noise.random(size) < 0.75, truth, noise.integers(0, classes, size))
    return truth, predicted


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_are_those_of_scikit_learn(classes, noise):
    truth, predicted = pair(noise, classes)
    counts = confusion(predicted.astype(np.uint8), (truth + 1).astype(np.uint8), classes)
    np.testing.assert_array_equal(counts, confusion_matrix(truth, predicted))
    foreground = list(range(1, classes))
    expected = jaccard_score(truth, predicted, labels=foreground, average="macro")
    assert iou(np.array(counts)) == pytest.approx(expected)
    assert dice(np.array(counts)) == pytest.approx(
        f1_score(truth, predicted, labels=foreground, average="macro")
    )


def test_voxels_without_annotation_are_not_counted(noise):
    truth, predicted = pair(noise, 2)
    chosen = noise.random(truth.size) < 0.3
    annotated = np.where(chosen, truth + 1, 0).astype(np.uint8)
    counts = confusion(predicted.astype(np.uint8), annotated, 2)
    np.testing.assert_array_equal(counts, confusion_matrix(truth[chosen], predicted[chosen]))


def test_a_class_that_does_not_occur_is_left_out_of_the_mean():
    counts = np.array([[50, 0, 0], [0, 10, 0], [0, 0, 0]])
    assert iou(counts) == dice(counts) == 1
    assert iou(np.array([[50, 0], [0, 0]])) == 1
    assert iou(np.array([[50, 5], [0, 0]])) == 0


def patches(noise, count, share=1.0):
    """Confusions of patches that differ in their shares of foreground and of errors.

    Only a ``share`` of the patches contains any foreground.
    """
    for _ in range(count):
        if share < 1 and noise.random() >= share:
            yield (1000, 0), (0, 0)
            continue
        foreground = noise.integers(20, 300)
        missed = noise.binomial(foreground, noise.beta(2, 8))
        invented = noise.binomial(foreground, noise.beta(2, 8))
        yield (1000 - foreground - invented, invented), (missed, foreground - missed)


@pytest.mark.parametrize(("size", "least"), [(5, 0.75), (20, 0.88)])
def test_the_interval_covers_the_score_of_the_population(size, least, noise):
    population = np.array(list(patches(noise, 500)))
    whole = jaccard_from(population.sum(0))
    draws = [estimate(population[noise.choice(500, size, replace=False)], iou) for _ in range(60)]
    coverage = np.mean([drawn.low <= whole <= drawn.high for drawn in draws])
    assert coverage >= least
    assert np.mean([drawn.value for drawn in draws]) == pytest.approx(whole, abs=0.02)
    assert np.mean([drawn.high - drawn.low for drawn in draws]) < 0.3


@pytest.mark.parametrize(("share", "size"), [(0.1, 10), (0.3, 10), (0.3, 20)])
def test_the_interval_covers_the_score_if_few_patches_contain_foreground(share, size, noise):
    population = np.array(list(patches(noise, 500, share)))
    whole = jaccard_from(population.sum(0))
    draws = [estimate(population[noise.choice(500, size, replace=False)], iou) for _ in range(300)]
    assert np.mean([drawn.low <= whole <= drawn.high for drawn in draws]) >= 0.88


@pytest.mark.parametrize("foreground", [0, 1, 2])
def test_patches_without_foreground_are_no_evidence_that_the_model_is_good(foreground):
    confusions = [((990, 0), (0, 10))] * foreground + [((1000, 0), (0, 0))] * 8
    assert estimate(confusions, iou) == Estimate(1, 0, 1)
    audit = [
        region(k, strategy="audit", round=1, counts=counts) for k, counts in enumerate(confusions)
    ]
    assert not advice(rounds(audit))


def jaccard_from(counts):
    (_, invented), (missed, hits) = counts
    return hits / (hits + missed + invented)


@pytest.mark.parametrize(("size", "close"), [(5, 0.03), (40, 0.01)])
@pytest.mark.parametrize("score", [iou, dice])
def test_the_interval_equals_that_of_scipy(size, close, score, noise):
    counts = np.array(list(patches(noise, size)))
    level = 1 - 2 * norm.sf(student.ppf(0.975, size - 1) * (size / (size - 1)) ** 0.5)
    expected = bootstrap(
        (np.arange(size),),
        lambda index, axis: score(counts[index].sum(axis=-3)),
        n_resamples=20_000,
        batch=500,
        confidence_level=level,
        method="percentile",
        rng=1,
    ).confidence_interval
    result = estimate(counts, score)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=close)


def test_the_interval_of_five_patches_is_as_wide_as_in_hesterberg(noise):
    """In the mean of 100 samples, against the exact bootstrap: all 5^5 ways to draw five."""
    tail = norm.sf(student.ppf(0.975, 4) * (5 / 4) ** 0.5)
    ways = np.array(list(itertools.product(range(5), repeat=5)))
    widths = []
    expected = []
    for _ in range(100):
        counts = np.array(list(patches(noise, 5)))
        interval = estimate(counts, iou)
        widths.append(interval.high - interval.low)
        scores = [jaccard_from(total) for total in counts[ways].sum(1)]
        expected.append(np.diff(np.quantile(scores, (tail, 1 - tail))))
    assert np.mean(widths) == pytest.approx(np.mean(expected), rel=0.04)


def test_one_patch_gives_no_interval(noise):
    (counts,) = patches(noise, 1)
    assert estimate([counts], iou) == Estimate(jaccard_from(counts), 0, 1)


def region(
    number,
    *,
    strategy="entropy",
    run="001-a",
    state="accepted",
    counts=((80, 5), (5, 10)),
    **values,
):
    return Region(
        id=f"{number}",
        volume="t",
        box="0:1,0:10,0:10",
        strategy=strategy,
        run=run,
        state=state,
        **{"changed": 10, "seconds": 30.0, "confusion": counts, **values},
    )


def test_rounds_separate_audits_and_models():
    regions = [
        region(1, round=1),
        region(2, round=1),
        region(3, round=2, run="002-b", strategy="audit"),
        region(4, round=2, run="002-b", strategy="own"),
        region(5, round=2, run="002-b", state="skipped"),
        region(6, round=2, counts=(), run=""),
    ]
    result = rounds(regions)
    assert [(r.number, r.audit, r.run, r.patches) for r in result] == [
        (1, False, "001-a", 2),
        (2, False, "002-b", 1),
        (2, True, "002-b", 1),
    ]
    assert result[0].iou.value == pytest.approx(0.5)
    assert result[0].dice.value == pytest.approx(2 / 3)
    assert result[0].changed == pytest.approx(0.1)


def test_the_random_share_of_a_round_counts_as_an_audit():
    regions = [region(1, round=1), region(2, round=1), region(3, round=1, strategy="random")]
    assert [(r.audit, r.patches) for r in rounds(regions)] == [(False, 2), (True, 1)]


def a_round(number, value, *, half=0.1, audit=False, patches=5):
    score = Estimate(value, value - half, min(1.0, value + half))
    return Round(number, audit, f"{number:03d}", patches, score, score, 0.01)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], ""),
        ([(0.5, {})], ""),
        ([(0.5, {}), (0.6, {}), (0.7, {})], ""),
        ([(0.5, {}), (0.95, {"half": 0.02})], "even on the hardest patches"),
        ([(0.95, {"half": 0.02, "patches": 2})], ""),
        ([(0.5, {}), (0.93, {"half": 0.02, "audit": True})], "on randomly drawn patches"),
        ([(0.7, {}), (0.71, {}), (0.70, {})], "0.70, 0.71, 0.70"),
        ([(0.7, {}), (0.71, {}), (0.78, {})], ""),
    ],
)
def test_advice_to_stop_follows_from_the_scores(values, words):
    text = advice([a_round(k + 1, value, **options) for k, (value, options) in enumerate(values)])
    assert (words in text) if words else not text
    assert not text or "unlikely to pay" in text


def test_the_summary_counts_patches_minutes_and_changes():
    assert summary([]) == ""
    assert summary([region(1)]) == "1 patch done in 30 seconds."
    assert summary([region(1, seconds=0), region(1, seconds=0)]) == "2 patches done."
    assert summary([region(1, seconds=1.2)]) == "1 patch done in 1 second."
    regions = [region(k) for k in range(12)] + [region(99, state="skipped", seconds=180.0)]
    assert summary(regions) == "12 patches done in 9 minutes."


# -- random patches of an audit ------------------------------------------------------------------


def test_all_tiles_without_annotations_are_equally_likely():
    shapes = {"a": (2, 40, 50), "b": (1, 32, 16)}
    annotated = {"a": [Box((0, 10, 10), (1, 20, 20))]}
    counts = {name: np.zeros(shape, int) for name, shape in shapes.items()}
    draws = 600
    for seed in range(draws):
        drawn = draw(shapes, annotated, patch=16, count=4, seed=seed)
        assert len(set(drawn)) == 4
        for name, box in drawn:
            counts[name][box.slices] += 1
    assert counts["a"][0, :32, :32].sum() == 0
    free = np.concatenate(
        [counts["a"][1].ravel(), counts["b"].ravel(), counts["a"][0, :, 32:].ravel()]
    )
    tiles = 12 + 2 + 8 - 2
    assert free.min() > 0
    np.testing.assert_allclose(free, draws * 4 / tiles, rtol=0.35)


def test_drawing_is_seeded_and_ends_when_no_tile_is_left():
    shapes = {"a": (1, 32, 32)}
    options = {"patch": 16, "count": 9}
    assert draw(shapes, {}, seed=3, **options) == draw(shapes, {}, seed=3, **options)
    assert len(draw(shapes, {}, seed=0, **options)) == 4
    with pytest.raises(DataError, match="choose a smaller patch"):
        draw(shapes, {"a": [Box.whole((1, 32, 32))]}, seed=0, **options)

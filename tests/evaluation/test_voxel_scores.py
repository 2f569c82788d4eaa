"""Scores against scikit-learn and torchmetrics, and by examples whose answer is known."""

from __future__ import annotations

import json
import math

import dask.array as da
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
)
from torchmetrics.functional.classification import binary_average_precision, binary_jaccard_index

from napari_emda.data.box import Box
from napari_emda.data.probabilities import class_ids
from napari_emda.data.volume import IGNORE
from napari_emda.errors import DataError
from napari_emda.evaluation.voxel_scores import Histograms, ScoreBoard, score_volume

TWO = ("background", "mitochondrion")
THREE = ("background", "mitochondrion", "membrane")


def example(seed: int = 0, shape: tuple[int, ...] = (5, 40, 30), channels: int = 1):
    """Probabilities that say something about the truth, a fifth of which is not annotated."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, channels + 1, shape).astype(np.uint8)
    right = np.arange(channels + 1)[:, None, None, None] == truth
    scores = random.random((channels + 1, *shape)) + 0.4 * right
    scores[1:] *= 1.2  # more is found than there is, so that precision and recall differ
    probabilities = np.floor(255 * scores[1:] / scores.sum(0)).astype(np.uint8)
    truth[random.random(shape) < 0.2] = IGNORE
    return probabilities, truth


def test_binary_scores_are_those_of_scikit_learn():
    probabilities, truth = example()
    result = score_volume(probabilities, truth, TWO)
    y, p = truth[truth != IGNORE], probabilities[0][truth != IGNORE]
    assert result["voxels"] == len(y)
    assert result["iou"] == pytest.approx(jaccard_score(y, p >= 128))
    assert result["dice"] == pytest.approx(f1_score(y, p >= 128))
    assert result["precision"] == pytest.approx(precision_score(y, p >= 128))
    assert result["recall"] == pytest.approx(recall_score(y, p >= 128))
    assert result["average_precision"] == pytest.approx(average_precision_score(y, p))
    assert result["foreground_fraction"] == pytest.approx(y.mean())
    assert result["predicted_fraction"] == pytest.approx((p >= 128).mean())


def test_binary_scores_are_those_of_torchmetrics():
    probabilities, truth = example(1)
    result = score_volume(probabilities, truth, TWO)
    p, y = torch.as_tensor(probabilities[0] / 255).float(), torch.as_tensor(truth).long()
    assert result["iou"] == pytest.approx(
        binary_jaccard_index(p, y, ignore_index=IGNORE).item(), abs=1e-6
    )
    expected = binary_average_precision(p, y, ignore_index=IGNORE).item()
    assert result["average_precision"] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, (3, 4, 5)), arrays(np.bool_, (3, 4, 5)), arrays(np.bool_, (3, 4, 5)))
def test_histograms_hold_everything(probability, truth, valid):
    histograms = Histograms()
    for z in range(3):
        histograms.add(probability[z], truth[z], valid[z])
    y, p = truth[valid], probability[valid]
    counts = histograms.counts()
    assert counts.voxels == valid.sum()
    if y.any():
        assert histograms.average_precision == pytest.approx(average_precision_score(y, p))
        assert counts.iou == pytest.approx(jaccard_score(y, p >= 128, zero_division=0))
    else:
        assert math.isnan(histograms.average_precision)
    if counts.iou:
        assert counts.dice == pytest.approx(2 * counts.iou / (1 + counts.iou))


def test_a_section_without_annotations_has_no_score():
    probabilities, truth = example()
    scored = score_volume(probabilities, truth, TWO)
    blank = np.full_like(truth[:1], IGNORE)
    more = score_volume(
        np.concatenate([probabilities, probabilities[:, :1]], axis=1),
        np.concatenate([truth, blank]),
        TWO,
    )
    assert more == scored
    ious = [
        jaccard_score(y[y != IGNORE], p[y != IGNORE] >= 128)
        for y, p in zip(truth, probabilities[0], strict=True)
    ]
    assert scored["section_iou"] == pytest.approx(np.mean(ious))


def test_several_classes_compete():
    probabilities, truth = example(2, channels=2)
    result = score_volume(probabilities, truth, THREE)
    y = truth[truth != IGNORE]
    everything = np.concatenate(
        [probabilities, 255 - probabilities.sum(0, keepdims=True, dtype=int)]
    )
    most = everything.argmax(0)  # of equal ones the first: a structure before background
    predicted = np.where(most == 2, 0, most + 1)[truth != IGNORE]
    ious = jaccard_score(y, predicted, average=None)
    assert [result["classes"][name]["iou"] for name in THREE[1:]] == pytest.approx(ious[1:])
    dices = f1_score(y, predicted, average=None)
    assert [result["classes"][name]["dice"] for name in THREE[1:]] == pytest.approx(dices[1:])
    assert result["iou"] == pytest.approx(ious[1:].mean())
    assert result["classes"]["membrane"]["average_precision"] == pytest.approx(
        average_precision_score(y == 2, probabilities[1][truth != IGNORE])
    )


def test_the_confusion_matrix_is_that_of_scikit_learn():
    probabilities, truth = example(3, channels=2)
    board = ScoreBoard(3)
    board.add(probabilities, truth)
    valid = truth != IGNORE
    expected = confusion_matrix(truth[valid], class_ids(probabilities)[valid])
    np.testing.assert_array_equal(board.confusion, expected)


def test_volume_and_mean_section_iou_differ():
    """A missed section of 1 voxel weighs as much as one of 1000, or a thousandth of it."""
    truth = np.zeros((2, 40, 40), np.uint8)
    truth[0].flat[0], truth[1].flat[:1000] = 1, 1
    probabilities = np.zeros((1, 2, 40, 40), np.uint8)
    probabilities[0, 1] = 255 * truth[1]
    result = score_volume(probabilities, truth, TWO)
    assert result["iou"] == pytest.approx(1000 / 1001)
    assert result["section_iou"] == pytest.approx(0.5)
    sections = [
        binary_jaccard_index(torch.as_tensor(probabilities[0, z] / 255), torch.as_tensor(truth[z]))
        for z in range(2)
    ]
    assert result["section_iou"] == pytest.approx(float(np.mean(sections)))


def test_sections_nobody_looked_at_do_not_count():
    probabilities, truth = example(4)
    truth[2] = IGNORE
    seen = [0, 1, 3, 4]
    result = score_volume(probabilities, truth, TWO)
    without = score_volume(probabilities[:, seen], truth[seen], TWO)
    assert result == without


@pytest.mark.parametrize(
    ("truth", "probability", "expected"),
    [(0, 0, (1, 1, 1, 1, None)), (1, 0, (0, 0, 0, 0, 1.0)), (0, 255, (0, 0, 0, 0, None))],
    ids=["neither", "only truth", "only prediction"],
)
def test_empty_rules(truth, probability, expected):
    full = np.full((2, 3, 3), truth, np.uint8)
    result = score_volume(np.full((1, 2, 3, 3), probability, np.uint8), full, TWO)
    assert (
        tuple(result[k] for k in ("iou", "dice", "precision", "recall", "average_precision"))
        == expected
    )
    json.dumps(result, allow_nan=False)


def test_blocks_do_not_matter(monkeypatch):
    probabilities, truth = example(5, (7, 50, 60), channels=2)
    whole = score_volume(probabilities, truth, THREE)
    lazy = da.from_array(probabilities, chunks=(1, 2, 16, 16))
    monkeypatch.setattr(
        "napari_emda.evaluation.voxel_scores.block_shape", lambda array: (2, 16, 16)
    )
    assert score_volume(lazy, da.from_array(truth), THREE) == whole


def test_only_the_box_counts():
    probabilities, truth = example(6)
    box = Box((1, 5, 7), (4, 33, 20))
    inside = score_volume(probabilities[(slice(None), *box.slices)], truth[box.slices], TWO)
    assert score_volume(probabilities, truth, TWO, box) == inside


@pytest.mark.parametrize(
    ("shape", "value", "classes", "message"),
    [
        ((2, 3, 4), 0, TWO, r"is 2 × 3 × 3 voxels and the labels are 2 × 3 × 4"),
        ((2, 3, 3), 0, THREE, "has 2 classes and 3 are named"),
        ((2, 3, 3), 2, TWO, "hold class 2, but the prediction has classes 0 to 1"),
        ((2, 3, 3), IGNORE, TWO, "No voxel of the box 0:2,0:3,0:3 is annotated"),
    ],
)
def test_what_cannot_be_compared(shape, value, classes, message):
    with pytest.raises(DataError, match=message):
        score_volume(np.zeros((1, 2, 3, 3), np.uint8), np.full(shape, value, np.uint8), classes)

"""Losses against scikit-learn's scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import f1_score, log_loss

from napari_emda.data.volume import IGNORE
from napari_emda.nn.losses import cross_entropy, deep_supervision, dice, segmentation

CLASSES = 3


@pytest.fixture
def case(noise):
    """Logits, and labels of which a third is IGNORE."""
    labels = torch.as_tensor(noise.integers(0, CLASSES, (2, 10, 12)))
    labels[torch.as_tensor(noise.random((2, 10, 12)) < 1 / 3)] = IGNORE
    return torch.as_tensor(noise.normal(size=(2, CLASSES, 10, 12)), dtype=torch.float32), labels


def hard(labels):
    """Logits that are as certain as float32 allows of these class ids."""
    return (torch.nn.functional.one_hot(labels, CLASSES).movedim(-1, 1) * 2 - 1) * 100.0


def test_dice_of_hard_masks_is_one_minus_f1(noise):
    truth, guess = (torch.as_tensor(noise.integers(0, CLASSES, (2, 20, 20))) for _ in range(2))
    f1 = f1_score(truth.ravel(), guess.ravel(), labels=[1, 2], average="macro")
    assert float(dice(hard(guess), truth, smooth=1e-9)) == pytest.approx(1 - f1, abs=1e-6)
    assert float(dice(hard(guess), truth)) == pytest.approx(1 - f1, abs=0.01)


def test_dice_of_unsure_answers_is_that_of_the_sums_as_they_are_written(case):
    logits, labels = case
    p, ids = softmax(logits.double().numpy(), axis=1), labels.numpy()
    known = ids != IGNORE
    losses = []
    for k in range(1, CLASSES):
        answer, truth = p[:, k][known], (ids == k)[known].astype(float)
        losses.append(
            1 - (2 * np.sum(answer * truth) + 1) / (np.sum(answer**2) + np.sum(truth**2) + 1)
        )
    assert float(dice(logits, labels)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_dice_of_a_perfect_and_of_an_empty_mask():
    some, none = torch.ones(1, 4, 4, dtype=torch.long), torch.zeros(1, 4, 4, dtype=torch.long)
    two = [hard(labels)[:, :2] for labels in (some, none)]
    assert float(dice(two[0], some)) == pytest.approx(0, abs=1e-6)
    assert float(dice(two[1], none)) == pytest.approx(0, abs=1e-6)
    assert float(dice(two[1], some, smooth=1e-9)) == pytest.approx(1, abs=1e-6)


def test_dice_falls_as_the_foreground_grows_surer():
    labels = torch.zeros(1, 6, 6, dtype=torch.long)
    labels[:, :3] = 1
    direction = hard(labels)[:, :2] / 100
    losses = [float(dice(direction * sure, labels)) for sure in (0, 0.5, 1, 2, 4)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] + 0.2


def test_cross_entropy_is_log_loss_over_annotated_pixels(case):
    logits, labels = case
    known = labels != IGNORE
    probabilities = torch.exp(logits.double()) / torch.exp(logits.double()).sum(1, keepdim=True)
    expected = log_loss(labels[known], probabilities.movedim(1, -1)[known], labels=range(CLASSES))
    assert float(cross_entropy(logits, labels)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [cross_entropy, dice, segmentation])
def test_what_nobody_annotated_changes_nothing(loss, case):
    logits, labels = case
    logits.requires_grad_()
    value = loss(logits, labels)
    value.backward()
    ignored = (labels == IGNORE).unsqueeze(1).expand_as(logits)
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).any()
    other = torch.where(ignored, torch.full_like(logits, 37.0), logits)
    assert torch.equal(loss(other, labels), value)


@pytest.mark.parametrize("loss", [cross_entropy, dice, segmentation])
def test_nothing_annotated_costs_nothing(loss, case):
    logits = case[0].requires_grad_()
    value = loss(logits, torch.full((2, 10, 12), IGNORE))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert (logits.grad == 0).all()


def test_segmentation_is_the_sum_of_both(case):
    assert float(segmentation(*case)) == pytest.approx(
        float(cross_entropy(*case)) + float(dice(*case)), rel=1e-6
    )


def test_half_precision_logits_are_summed_in_single_precision():
    labels = torch.ones(
        1, 300, 300, dtype=torch.long
    )  # 90 000 pixels: beyond what bfloat16 can count
    logits = torch.stack([torch.zeros(1, 300, 300), torch.ones(1, 300, 300)], dim=1)
    exact = float(segmentation(logits, labels))
    assert float(segmentation(logits.bfloat16(), labels)) == pytest.approx(exact, rel=1e-3)
    assert np.isfinite(exact)


def test_coarser_resolutions_count_half_as_much_and_all_count_one():
    """Against labels picked by hand, with a criterion of which the mean is known."""
    labels = torch.arange(64).view(1, 8, 8) % 3
    seen = []

    def criterion(logits, ids):
        seen.append(ids.numpy())
        return logits.mean()

    logits = [
        torch.full((1, 3, side, side), value) for side, value in ((8, 4.0), (4, 2.0), (2, 8.0))
    ]
    loss = deep_supervision(criterion, logits, labels)
    assert float(loss) == pytest.approx((4 * 4 + 2 * 2 + 1 * 8) / 7)
    numbers = np.arange(64).reshape(8, 8) % 3
    for ids, pick in zip(seen, (range(8), (1, 3, 5, 7), (2, 6)), strict=True):
        np.testing.assert_array_equal(ids[0], numbers[np.ix_(list(pick), list(pick))])


def test_one_resolution_is_the_loss_itself():
    logits, labels = torch.randn(2, 2, 8, 8), torch.randint(0, 2, (2, 8, 8))
    assert torch.equal(
        deep_supervision(segmentation, [logits], labels), segmentation(logits, labels)
    )

"""Losses against scikit-learn and NumPy."""

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
    """Logits, and labels, a third of which is IGNORE."""
    labels = torch.as_tensor(noise.integers(0, CLASSES, (2, 10, 12)))
    labels[torch.as_tensor(noise.random((2, 10, 12)) < 1 / 3)] = IGNORE
    logits = torch.as_tensor(noise.normal(size=(2, CLASSES, 10, 12)), dtype=torch.float32)
    return logits, labels


def hard(labels):
    """Logits whose softmax is 1 for these class ids."""
    return (torch.nn.functional.one_hot(labels, CLASSES).movedim(-1, 1) * 2 - 1) * 100.0


def test_dice_of_hard_masks_is_one_minus_f1(noise):
    truth, prediction = (torch.as_tensor(noise.integers(0, CLASSES, (2, 20, 20))) for _ in range(2))
    f1 = f1_score(truth.ravel(), prediction.ravel(), labels=[1, 2], average="macro")
    assert float(dice(hard(prediction), truth, smooth=1e-9)) == pytest.approx(1 - f1, abs=1e-6)
    assert float(dice(hard(prediction), truth)) == pytest.approx(1 - f1, abs=0.01)


def test_dice_of_soft_predictions_is_that_of_the_definition(case):
    logits, labels = case
    probabilities = softmax(logits.double().numpy(), axis=1)
    ids = labels.numpy()
    valid = ids != IGNORE
    losses = []
    for k in range(1, CLASSES):
        p = probabilities[:, k][valid]
        y = (ids == k)[valid].astype(float)
        losses.append(1 - (2 * np.sum(p * y) + 1) / (np.sum(p**2) + np.sum(y**2) + 1))
    assert float(dice(logits, labels)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_dice_of_a_perfect_and_of_an_empty_mask():
    full = torch.ones(1, 4, 4, dtype=torch.long)
    empty = torch.zeros(1, 4, 4, dtype=torch.long)
    full_logits = hard(full)[:, :2]
    empty_logits = hard(empty)[:, :2]
    assert float(dice(full_logits, full)) == pytest.approx(0, abs=1e-6)
    assert float(dice(empty_logits, empty)) == pytest.approx(0, abs=1e-6)
    assert float(dice(empty_logits, full, smooth=1e-9)) == pytest.approx(1, abs=1e-6)


def test_dice_falls_with_the_confidence_of_correct_predictions():
    labels = torch.zeros(1, 6, 6, dtype=torch.long)
    labels[:, :3] = 1
    logits = hard(labels)[:, :2] / 100
    losses = [float(dice(logits * confidence, labels)) for confidence in (0, 0.5, 1, 2, 4)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] + 0.2


def test_cross_entropy_is_log_loss_over_labelled_pixels(case):
    logits, labels = case
    valid = labels != IGNORE
    probabilities = softmax(logits.double().numpy(), axis=1)
    rows = np.moveaxis(probabilities, 1, -1)[valid.numpy()]
    expected = log_loss(labels[valid], rows, labels=range(CLASSES))
    assert float(cross_entropy(logits, labels)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [cross_entropy, dice, segmentation])
def test_unlabelled_pixels_change_nothing(loss, case):
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
def test_the_loss_without_labels_is_0(loss, case):
    logits = case[0].requires_grad_()
    value = loss(logits, torch.full((2, 10, 12), IGNORE))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert (logits.grad == 0).all()


def test_segmentation_is_the_sum_of_both(case):
    expected = float(cross_entropy(*case)) + float(dice(*case))
    assert float(segmentation(*case)) == pytest.approx(expected, rel=1e-6)


def test_half_precision_logits_are_summed_in_single_precision():
    # 90 000 pixels are more than bfloat16 can count.
    labels = torch.ones(1, 300, 300, dtype=torch.long)
    logits = torch.stack([torch.zeros(1, 300, 300), torch.ones(1, 300, 300)], dim=1)
    exact = float(segmentation(logits, labels))
    assert float(segmentation(logits.bfloat16(), labels)) == pytest.approx(exact, rel=1e-3)
    assert np.isfinite(exact)


def test_coarser_resolutions_have_half_the_weight_and_all_weights_add_up_to_1():
    """With the mean of the logits as the loss, and labels picked by hand."""
    labels = torch.arange(64).view(1, 8, 8) % 3
    labels_used = []

    def criterion(logits, labels):
        labels_used.append(labels[0].numpy())
        return logits.mean()

    logits = [
        torch.full((1, 3, side, side), value) for side, value in ((8, 4.0), (4, 2.0), (2, 8.0))
    ]
    loss = deep_supervision(criterion, logits, labels)
    assert float(loss) == pytest.approx((4 * 4 + 2 * 2 + 1 * 8) / 7)
    rows = ([0, 1, 2, 3, 4, 5, 6, 7], [1, 3, 5, 7], [2, 6])
    for coarse, picked in zip(labels_used, rows, strict=True):
        np.testing.assert_array_equal(coarse, labels[0].numpy()[np.ix_(picked, picked)])


def test_deep_supervision_of_one_resolution_is_the_loss_itself():
    logits = torch.randn(2, 2, 8, 8)
    labels = torch.randint(0, 2, (2, 8, 8))
    result = deep_supervision(segmentation, [logits], labels)
    assert torch.equal(result, segmentation(logits, labels))

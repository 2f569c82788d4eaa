"""The mean teacher: the moving average, pseudo-labels, class proportions and views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from scipy.stats import spearmanr

from napari_emda.data.volume import IGNORE
from napari_emda.methods.base import DataSummary, methods
from napari_emda.nn.networks.unet import UNet
from napari_emda.nn.normalisation import norms
from napari_emda.nn.teacher import PriorAlignment, predict_as_teacher, update_average
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Patches


def build(summary=None, **settings):
    torch.manual_seed(0)
    cls = methods["mean_teacher"]
    network = UNet(2, UNet.Settings(base_channels=8, dropout=0.25))
    return cls(cls.Settings.parse(settings), network, summary or DataSummary(prior=(0.9, 0.1)))


def batch(n=2, side=32):
    generator = torch.Generator().manual_seed(0)
    image, other = torch.randn(2, n, 1, side, side, generator=generator)
    labels = (image[:, 0] > 0.5).long()
    return {
        "source": Patches(image, labels, image),
        "target": Patches(other, torch.full_like(labels, IGNORE), other),
    }


def losses_with_teacher(method, probabilities):
    """The method's losses if its teacher predicts these probabilities, B x 2 x H x W."""
    method.teacher.forward = lambda x: probabilities.log()
    return method.losses(batch(), 1.0)


def labels_of_losses(method, monkeypatch):
    """A list to which the labels of every supervised loss are appended."""
    recorded = []
    monkeypatch.setattr(
        method, "criterion", lambda logits, labels: recorded.append(labels) or logits.sum()
    )
    return recorded


def stripes(foreground):
    """Probabilities 2 x 2 x 32 x 32 with equally high stripes of these foreground values."""
    p = torch.as_tensor(foreground, dtype=torch.float32).repeat_interleave(32 // len(foreground))
    p = p.view(1, 1, 32, 1).expand(2, 1, 32, 32)
    return torch.cat([1 - p, p], dim=1)


# -- the average -----------------------------------------------------------------------------------


def test_parameters_are_averaged_and_statistics_copied():
    average = UNet(2, UNet.Settings(base_channels=8))
    network = UNet(2, UNet.Settings(base_channels=8))
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.zero_()
        for parameter in network.parameters():
            parameter.fill_(1)
    for layer in norms(network):
        layer.running_mean.normal_()
    for _ in range(10):
        update_average(average, network, 0.9)
    for parameter in average.parameters():
        # 1 - 0.9^10
        np.testing.assert_allclose(parameter.detach(), 0.6513216, rtol=1e-5)
    for layer, expected in zip(norms(average), norms(network), strict=True):
        assert torch.equal(layer.running_mean, expected.running_mean)


def test_the_momentum_of_the_teacher_grows_to_the_given_one():
    method = build(momentum=0.9)
    weights = []
    for step in (0, 1, 1000):
        with torch.no_grad():
            for parameter in method.teacher.parameters():
                parameter.zero_()
            for parameter in method.network.parameters():
                parameter.fill_(1)
        method.after_step(step)
        weights.append(float(next(method.teacher.parameters()).detach().flatten()[0]))
    assert weights == pytest.approx([1 / 2, 1 / 3, 0.1])


def test_the_teacher_gets_no_gradient():
    method = build()
    sum(method.losses(batch(), 1.0).values()).backward()
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    assert any(p.grad.abs().sum() > 0 for p in method.network.parameters())
    assert method.predictor is method.teacher


def test_the_teacher_predicts_probabilities_without_dropout():
    method = build()
    image = batch()["target"].image
    method.train()
    first, second = (predict_as_teacher(method.teacher, image) for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad
    torch.testing.assert_close(first.sum(1), torch.ones(2, 32, 32))
    assert method.teacher.training


# -- pseudo-labels ---------------------------------------------------------------------------------


def test_only_confident_predictions_become_labels(monkeypatch):
    method = build(confidence=0.9, alignment=0)
    recorded = labels_of_losses(method, monkeypatch)
    losses_with_teacher(method, stripes([0.95, 0.901, 0.6, 0.05]))
    by_stripe = [recorded[-1][0, 8 * i].unique().tolist() for i in range(4)]
    assert by_stripe == [[1], [1], [IGNORE], [0]]
    assert float(method.reported["pseudo_labelled"]) == 0.75
    assert float(method.reported["pseudo_foreground"]) == 0.5


def test_without_confident_predictions_the_loss_is_0():
    method = build(confidence=0.9, alignment=0)
    loss = losses_with_teacher(method, stripes([0.5]))["consistency"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is None or not p.grad.any() for p in method.network.parameters())


def test_annotations_take_precedence_over_pseudo_labels(monkeypatch):
    method = build(alignment=0)
    recorded = labels_of_losses(method, monkeypatch)
    patches = batch()
    patches["target"].labels[:, :4] = 1
    method.teacher.forward = lambda x: stripes([0.01]).log()
    method.losses(patches, 1.0)
    assert (recorded[-1][:, :4] == 1).all()
    assert (recorded[-1][:, 4:] == 0).all()


def test_pseudo_labels_are_ramped_up_between_a_quarter_and_half():
    def weight(progress):
        method = build(weight=0.5)
        return float(method.losses(batch(), progress)["consistency"].detach())

    assert weight(0.0) == weight(0.25) == 0
    assert weight(0.375) == pytest.approx(weight(1.0) / 2, rel=1e-5)
    assert weight(0.5) == pytest.approx(weight(1.0), rel=1e-5)


# -- class proportions -----------------------------------------------------------------------------


def test_alignment_moves_predictions_towards_the_known_proportions():
    prior = np.array([0.7, 0.2, 0.1])
    align = PriorAlignment(prior, strength=0.5, momentum=0.0)
    p = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).softmax(1)
    mean = p.mean((0, 2, 3)).numpy()
    expected = p.numpy() * np.sqrt(prior / mean).clip(0.5, 2)[None, :, None, None]
    aligned = align(p)
    np.testing.assert_allclose(aligned, expected / expected.sum(1, keepdims=True), rtol=1e-5)
    before, after = (rel_entr(prior, x.mean((0, 2, 3)).numpy()).sum() for x in (p, aligned))
    assert after < 0.5 * before


def test_alignment_is_limited_and_can_be_turned_off():
    p = torch.tensor([0.999, 0.001]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    assert torch.equal(PriorAlignment((0.5, 0.5), strength=0)(p), p)
    ratio = PriorAlignment((0.2, 0.8), strength=1, momentum=0)(p)[0, :, 0, 0]
    # One class at most doubled, the other at most halved.
    assert float(ratio[1] / ratio[0]) == pytest.approx(0.001 / 0.999 * 4, rel=1e-4)


def test_the_running_mean_moves_slowly():
    align = PriorAlignment((0.5, 0.5), strength=1, momentum=0.9)
    align(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
    np.testing.assert_allclose(align.running, [0.55, 0.45], rtol=1e-6)


# -- views -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", ["none", "weak", "strong"])
def test_the_student_sees_augmented_target_patches_and_the_teacher_clean_ones(strength):
    patches = batch(16)
    prepared = build().prepare(patches, Augmentation(strength, 3), 0.5)["target"]
    for image, clean in zip(prepared.image, prepared.clean, strict=True):
        assert not torch.equal(image, clean)
        assert spearmanr(image.flatten(), clean.flatten()).statistic > 0  # polarity stays
    if strength == "none":
        assert torch.equal(prepared.clean, patches["target"].image)


def test_without_a_prior_all_classes_have_equal_proportions():
    method = build(DataSummary(prior=()))
    torch.testing.assert_close(method.prior.prior, torch.tensor([0.5, 0.5]))

"""Feature distances and domain classifiers against closed forms, scikit-learn and NumPy."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from geomloss import SamplesLoss
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel

from napari_emda.methods import coral as coral_method
from napari_emda.methods import dann as dann_method
from napari_emda.methods import mmd as mmd_method
from napari_emda.methods.base import DataSummary, methods
from napari_emda.nn import alignment
from napari_emda.nn.alignment import (
    MMD,
    adversarial_ramp,
    coral,
    covariance,
    level_weights,
    mean_distance,
    mmd,
    normalised_rows,
    reverse_gradient,
    sample_positions,
)
from napari_emda.nn.networks.unet import UNet

LEVELS = 3


@pytest.fixture
def samples():
    """Rows of two different distributions: 40 x 5 and 30 x 5, float64."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5))
    y = 0.5 + 2 * rng.normal(size=(30, 5))
    return torch.from_numpy(x), torch.from_numpy(y)


def off_diagonal_mean(kernel):
    return kernel[~np.eye(len(kernel), dtype=bool)].mean()


def expected_mmd(x, y, variance):
    """Biased and unbiased estimate from the kernel matrices of scikit-learn."""
    gamma = 1 / (2 * variance)
    xx = rbf_kernel(x, gamma=gamma)
    yy = rbf_kernel(y, gamma=gamma)
    cross = 2 * rbf_kernel(x, y, gamma=gamma).mean()
    biased = xx.mean() + yy.mean() - cross
    unbiased = off_diagonal_mean(xx) + off_diagonal_mean(yy) - cross
    return biased, unbiased


# -- MMD -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [0.3, 2.0, 50.0])
def test_mmd_is_that_of_scikit_learns_kernels(samples, variance):
    biased, unbiased = expected_mmd(*samples, variance)
    result = mmd(*samples, variance=variance, kernels=1)
    assert float(result.biased) == pytest.approx(biased, abs=1e-12)
    assert float(result.unbiased) == pytest.approx(unbiased, abs=1e-12)


def test_mmd_is_twice_the_loss_of_geomloss(samples):
    expected = 2 * float(SamplesLoss("gaussian", blur=1.7)(*samples))
    result = mmd(*samples, variance=1.7**2, kernels=1)
    assert float(result.biased) == pytest.approx(expected, rel=1e-12)


def bandwidths_are_around_the_median_distance(samples):
    pooled = np.concatenate(samples)
    median = np.median(euclidean_distances(pooled, squared=True))
    scales = (4, 2, 1, 0.5, 0.25)
    expected = np.mean([expected_mmd(*samples, median * scale) for scale in scales], axis=0)
    result = alignment.mmd(*samples)
    # Not exactly equal, because torch takes the lower of two middle values as the median.
    assert float(result.biased) == pytest.approx(expected[0], rel=1e-2)
    assert float(result.unbiased) == pytest.approx(expected[1], rel=1e-2)


def test_five_kernels_lie_around_the_median_distance(samples):
    bandwidths_are_around_the_median_distance(samples)


def test_the_median_of_long_samples_is_estimated_well():
    x, y = torch.randn(2, 512, 16, generator=torch.Generator().manual_seed(0))
    exact = np.median(euclidean_distances(torch.cat([x, y]), squared=True))
    assert float(alignment.median_distance(x, y)) == pytest.approx(exact, rel=0.05)


def test_equal_samples_have_distance_0_and_order_does_not_matter(samples):
    x, y = samples
    assert abs(float(mmd(x, x.flip(0)).biased)) < 1e-12
    assert float(mmd(x, y).biased) > 0.01
    for other in (mmd(y, x), mmd(x.flip(0), y.roll(7, 0))):
        assert float(other.biased) == pytest.approx(float(mmd(x, y).biased), rel=1e-12)


def the_biased_estimate_counts_the_diagonals(samples):
    """b - u = (1 - k_xx) / n + (1 - k_yy) / m, k the mean of the kernel between different rows."""
    kernels = [rbf_kernel(rows, gamma=1 / 8) for rows in samples]
    expected = sum((1 - off_diagonal_mean(kernel)) / len(kernel) for kernel in kernels)
    result = alignment.mmd(*samples, variance=4.0, kernels=1)
    assert float(result.biased - result.unbiased) == pytest.approx(expected, abs=1e-12)


def test_the_biased_estimate_counts_the_diagonals(samples):
    the_biased_estimate_counts_the_diagonals(samples)


def test_two_points_have_the_distance_of_the_closed_form():
    """2 - 2 exp(-d^2 / (2 variance)) for d = 3 and a standard deviation of 1.7."""
    x = torch.zeros(1, 1, dtype=torch.float64)
    y = torch.full((1, 1), 3.0, dtype=torch.float64)
    result = mmd(x, y, variance=1.7**2, kernels=1)
    assert float(result.biased) == pytest.approx(1.57850, abs=1e-5)


def test_two_normal_distributions_have_the_distance_of_the_closed_form():
    """2 s / sqrt(s^2 + 2) (1 - exp(-1 / (2 (s^2 + 2)))) for N(0, 1), N(1, 1) and s = 1.7."""
    x, y = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3000, 1))).float()
    result = mmd(x, y + 1, variance=1.7**2, kernels=1)
    assert float(result.unbiased) == pytest.approx(0.14944, abs=0.02)


def test_the_gradient_is_that_of_finite_differences(samples):
    x, y = (rows[:6].clone().requires_grad_() for rows in samples)
    assert torch.autograd.gradcheck(lambda a, b: mmd(a, b, variance=3.0), (x, y))


def test_no_gradient_passes_through_the_median(samples):
    x, y = (rows.clone().requires_grad_() for rows in samples)
    constant = 4 * alignment.median_distance(x, y)
    assert not constant.requires_grad
    with_median = torch.autograd.grad(mmd(x, y).unbiased, x)[0]
    with_constant = torch.autograd.grad(mmd(x, y, variance=constant).unbiased, x)[0]
    assert torch.equal(with_median, with_constant)


def test_the_unbiased_estimate_is_0_on_average_for_equal_distributions():
    rng = np.random.default_rng(0)
    pairs = torch.from_numpy(rng.normal(size=(200, 2, 20, 3)))
    estimates = [float(mmd(x, y).unbiased) for x, y in pairs]
    assert abs(np.mean(estimates)) < 3 * np.std(estimates) / np.sqrt(len(estimates))
    assert min(estimates) < 0


# -- CORAL -----------------------------------------------------------------------------------------


def coral_is_that_of_numpy(samples):
    x, y = samples
    difference = np.cov(x, rowvar=False) - np.cov(y, rowvar=False)
    assert float(coral(x, y)) == pytest.approx((difference**2).sum() / (4 * 5**2), rel=1e-12)


def test_coral_is_that_of_numpy(samples):
    coral_is_that_of_numpy(samples)


def test_coral_depends_on_scale_and_not_on_the_mean(samples):
    x, y = samples
    assert float(coral(x, x)) == 0
    assert float(coral(x, y + 7)) == pytest.approx(float(coral(x, y)), rel=1e-9)
    expected = (3**2 - 1) ** 2 * (np.cov(x, rowvar=False) ** 2).sum() / (4 * 5**2)
    assert float(coral(x, 3 * x)) == pytest.approx(expected, rel=1e-12)


def test_rotating_both_samples_changes_nothing(samples):
    x, y = samples
    generator = torch.Generator().manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=generator))
    for distance in (coral, mean_distance, lambda a, b: mmd(a, b).unbiased):
        rotated = distance(x @ rotation, y @ rotation)
        assert float(rotated) == pytest.approx(float(distance(x, y)), rel=1e-9)


def test_the_distance_of_means_measures_what_coral_ignores(samples):
    x, _ = samples
    assert float(coral(x, x + 2)) < 1e-20
    assert float(mean_distance(x, x + 2)) == pytest.approx(4)


def test_normalised_rows_have_mean_0_and_standard_deviation_1(samples):
    rows = normalised_rows(samples[1].float())
    np.testing.assert_allclose(rows.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(1, correction=0), 1, atol=1e-3)


# -- sampled positions -----------------------------------------------------------------------------


def test_every_sampled_row_is_a_pixel_and_none_occurs_twice():
    index = torch.arange(2 * 32 * 32).view(2, 1, 32, 32)
    maps = torch.cat([index, -index, 3 * index], dim=1).float()
    maps = maps.to(memory_format=torch.channels_last)
    torch.manual_seed(3)
    rows = sample_positions(maps, 500)
    assert rows.shape == (500, 3)
    assert len(rows[:, 0].unique()) == 500
    assert torch.equal(rows, rows[:, :1] * torch.tensor([1.0, -1.0, 3.0]))
    torch.manual_seed(3)
    assert torch.equal(rows, sample_positions(maps, 500))
    assert rows.max() > 5000  # indices above 1667 belong to the second patch


def test_small_maps_are_used_completely_and_in_single_precision():
    rows = sample_positions(torch.ones(2, 4, 8, 8, dtype=torch.bfloat16))
    assert rows.shape == (128, 4)
    assert rows.dtype == torch.float32


# -- gradient reversal -----------------------------------------------------------------------------


def the_gradient_is_reversed():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    result = reverse_gradient(x, 0.3)
    assert torch.equal(result, x)
    result.backward(torch.tensor([1.0, 10.0]))
    np.testing.assert_allclose(x.grad, [-0.3, -3.0], rtol=1e-6)


def test_the_gradient_is_reversed():
    the_gradient_is_reversed()


def test_a_factor_of_0_blocks_the_gradient():
    x = torch.ones(3, requires_grad=True)
    reverse_gradient(x, 0.0).sum().backward()
    assert not x.grad.any()


def test_the_adversarial_ramp_is_that_of_ganin():
    ramp = [adversarial_ramp(progress) for progress in (0, 0.1, 0.25, 0.5, 1)]
    assert ramp == pytest.approx([0, 0.46212, 0.84828, 0.98661, 0.99991], abs=1e-5)


# -- the methods -----------------------------------------------------------------------------------


def build(name, **settings):
    torch.manual_seed(0)
    cls = methods[name]
    network = UNet(2, UNet.Settings(base_channels=8, depth=LEVELS, dropout=0.0))
    return cls(cls.Settings.parse(settings), network, DataSummary())


def maps_of_both(n=3):
    """Encoder maps of two domains, which require gradients."""
    generator = torch.Generator().manual_seed(1)

    def encoder_maps(scale, shift):
        maps = []
        for level in range(LEVELS + 1):
            side = 32 // 2**level
            noise = torch.randn(n, 8 * 2**level, side, side, generator=generator)
            level_maps = (noise * scale + shift).to(memory_format=torch.channels_last)
            maps.append(level_maps.requires_grad_())
        return maps

    return encoder_maps(1.0, 0.0), encoder_maps(1.5, 0.5)


def gradients(method, progress=1.0):
    """Norm of the gradient of each encoder level."""
    source, target = maps_of_both()
    torch.manual_seed(2)
    loss = sum(method.eval().align(source, target, progress).values())
    by_map = torch.autograd.grad(loss, [*source, *target], allow_unused=True)
    norms = [0.0 if gradient is None else float(gradient.norm()) for gradient in by_map]
    return np.array(norms).reshape(2, -1).sum(0)


def weights_increase_with_depth():
    for levels in (3, 4, 5):
        weights = alignment.level_weights(levels)
        assert len(weights) == levels + 1
        assert weights == sorted(weights)
        assert weights[-1] == 1
        assert weights[0] == 0 < weights[1]


def test_weights_increase_with_depth():
    weights_increase_with_depth()


@pytest.mark.parametrize(
    ("name", "module"), [("mmd", mmd_method), ("coral", coral_method), ("dann", dann_method)]
)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_weight_acts_only_on_its_level(name, module, level, monkeypatch):
    before = gradients(build(name))
    assert (before[1:] > 0).all()
    changed = [w * (2 if index == level else 1) for index, w in enumerate(level_weights(LEVELS))]
    monkeypatch.setattr(module, "level_weights", lambda levels: changed)
    expected = before * np.where(np.arange(LEVELS + 1) == level, 2, 1)
    np.testing.assert_allclose(gradients(build(name)), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "module"), [("mmd", mmd_method), ("coral", coral_method), ("dann", dann_method)]
)
def test_gradients_of_the_levels_are_weighted(name, module, monkeypatch):
    """1 at the deepest level, 0.3 and 0.1 above it, 0 at full resolution."""
    weighted = gradients(build(name))
    monkeypatch.setattr(module, "level_weights", lambda levels: [0.0] + [1.0] * levels)
    unweighted = gradients(build(name))
    assert weighted[0] == 0
    np.testing.assert_allclose(weighted[1:] / unweighted[1:], [0.1, 0.3, 1], rtol=1e-3)


def test_deeper_encoders_have_more_small_weights():
    assert level_weights(4) == [0, 0.05, 0.1, 0.3, 1]
    assert level_weights(5) == [0, 0.02, 0.05, 0.1, 0.3, 1]


@pytest.mark.parametrize("name", ["mmd", "coral"])
def test_distances_are_ramped_up_over_the_first_fifth(name):
    method = build(name)
    full = gradients(method, 0.2)
    assert not gradients(method, 0.0).any()
    np.testing.assert_allclose(gradients(method, 0.05), full / 4, rtol=1e-4)
    np.testing.assert_allclose(gradients(method, 1.0), full, rtol=1e-4)


@pytest.mark.parametrize("name", ["mmd", "coral"])
def test_the_weight_is_that_of_the_deepest_level(name):
    full = gradients(build(name, weight=1.0))
    half = gradients(build(name, weight=0.5))
    np.testing.assert_allclose(full, 2 * half, rtol=1e-4)


@pytest.mark.parametrize("name", ["mmd", "coral"])
def test_equal_domains_have_a_small_distance(name):
    method = build(name)
    source, target = maps_of_both()
    copy = [maps.detach().clone() for maps in source]
    equal, different = (
        float(sum(method.align(source, other, 1.0).values()).detach()) for other in (copy, target)
    )
    # Not 0, because different positions are sampled.
    assert equal < 0.1 * different


def test_classifiers_are_right_half_of_the_time_on_equal_domains():
    method = build("dann").eval()
    source, _ = maps_of_both()
    method.align(source, source, 1.0)
    assert float(method.reported["domain_accuracy"]) == 0.5


def every_classifier_learns():
    method = build("dann")
    registered = {id(parameter) for parameter in method.parameters()}
    assert len(method.classifiers) == LEVELS
    source, target = maps_of_both()
    method.align(source, target, 0.5)["domain"].backward()
    for classifier in method.classifiers:
        for parameter in classifier.parameters():
            assert id(parameter) in registered
            assert parameter.grad.abs().sum() > 0


def test_every_classifier_learns():
    every_classifier_learns()


def test_the_encoder_gets_the_reversed_and_weighted_gradient(monkeypatch):
    method = build("dann", weight=0.5).eval()
    source, target = maps_of_both()

    def encoder_gradients():
        loss = method.align(source, target, 1.0)["domain"]
        return torch.autograd.grad(loss, [*source[1:], *target[1:]])

    with_reversal = encoder_gradients()
    monkeypatch.setattr(dann_method, "reverse_gradient", lambda x, factor: x)
    without = encoder_gradients()
    weights = level_weights(LEVELS)[1:] * 2
    for gradient, plain, weight in zip(with_reversal, without, weights, strict=True):
        torch.testing.assert_close(gradient, -0.5 * adversarial_ramp(1.0) * weight * plain)


def test_classifiers_work_with_a_single_patch():
    method = build("dann")
    source, target = maps_of_both(n=1)
    loss = method.align(source, target, 1.0)["domain"]
    loss.backward()
    assert loss.isfinite()
    assert 0 <= float(method.reported["domain_accuracy"]) <= 1


def test_classifiers_learn_to_distinguish_domains():
    method = build("dann")
    source, target = maps_of_both()
    optimiser = torch.optim.AdamW(method.classifiers.parameters(), 3e-3)
    for _ in range(30):
        optimiser.zero_grad()
        method.align(source, target, 0.0)["domain"].backward()
        optimiser.step()
    method.eval().align(source, target, 0.0)
    assert float(method.reported["domain_accuracy"]) == 1


# -- mistakes that the tests must notice -----------------------------------------------------------


class WithoutSign(alignment._Reverse):
    """A gradient reversal without the minus sign."""

    @staticmethod
    def backward(ctx, *gradients):
        return ctx.factor * gradients[0], None


MISTAKES = {
    "the gradient is not reversed": (alignment, "_Reverse", WithoutSign, the_gradient_is_reversed),
    "the levels are in the wrong order": (
        alignment,
        "level_weights",
        lambda levels: level_weights(levels)[::-1],
        weights_increase_with_depth,
    ),
    "10 ^ 3 instead of 10 ** 3": (
        alignment,
        "median_distance",
        lambda x, y: torch.tensor(10 ^ 3),
        bandwidths_are_around_the_median_distance,
    ),
    "the unbiased estimate counts the diagonals": (
        alignment,
        "mmd",
        lambda *a, **k: MMD(*[mmd(*a, **k).biased] * 2),
        the_biased_estimate_counts_the_diagonals,
    ),
    "a covariance by n": (
        alignment,
        "covariance",
        lambda x: covariance(x) * (len(x) - 1) / len(x),
        coral_is_that_of_numpy,
    ),
    "classifiers in a plain list": (
        dann_method,
        "nn",
        SimpleNamespace(ModuleList=list),
        every_classifier_learns,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(mistake, monkeypatch, samples):
    module, name, broken, check = MISTAKES[mistake]
    arguments = [samples] * check.__code__.co_argcount
    check(*arguments)
    monkeypatch.setattr(module, name, broken)
    with pytest.raises(AssertionError):
        check(*arguments)

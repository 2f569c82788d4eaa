"""Distances between features and the adversary: closed forms, scikit-learn and NumPy, and what each method weighs."""

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
    return tuple(
        map(torch.from_numpy, (rng.normal(size=(40, 5)), 0.5 + 2 * rng.normal(size=(30, 5))))
    )


def means(x, y, variance):
    """Means of the kernel matrices xx, yy and xy by scikit-learn, with and without the diagonals."""
    gamma = 1 / (2 * variance)
    xx, yy, xy = (
        rbf_kernel(x, gamma=gamma),
        rbf_kernel(y, gamma=gamma),
        rbf_kernel(x, y, gamma=gamma),
    )
    off = [k[~np.eye(len(k), dtype=bool)].mean() for k in (xx, yy)]
    return xx.mean() + yy.mean() - 2 * xy.mean(), sum(off) - 2 * xy.mean()


# -- MMD ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [0.3, 2.0, 50.0])
def test_mmd_is_that_of_scikit_learns_kernels(samples, variance):
    biased, unbiased = means(*samples, variance)
    found = mmd(*samples, variance=variance, kernels=1)
    assert float(found.biased) == pytest.approx(biased, abs=1e-12)
    assert float(found.unbiased) == pytest.approx(unbiased, abs=1e-12)


def test_mmd_is_twice_the_loss_of_geomloss(samples):
    theirs = SamplesLoss("gaussian", blur=1.7)(*samples)
    assert float(mmd(*samples, variance=1.7**2, kernels=1).biased) == pytest.approx(
        2 * float(theirs), rel=1e-12
    )


def bandwidths_are_around_the_median_distance(samples):
    pooled = np.concatenate(samples)
    median = np.median(euclidean_distances(pooled, squared=True))
    expected = np.mean([means(*samples, median * scale) for scale in (4, 2, 1, 0.5, 0.25)], axis=0)
    found = alignment.mmd(*samples)
    assert float(found.biased) == pytest.approx(
        expected[0], rel=1e-2
    )  # torch takes the lower of two middle values
    assert float(found.unbiased) == pytest.approx(expected[1], rel=1e-2)


def test_five_kernels_lie_around_the_median_distance(samples):
    bandwidths_are_around_the_median_distance(samples)


def test_the_median_of_long_samples_is_that_of_a_part_of_them():
    x, y = torch.randn(2, 512, 16, generator=torch.Generator().manual_seed(0))
    exact = np.median(euclidean_distances(torch.cat([x, y]), squared=True))
    assert float(alignment.median_distance(x, y)) == pytest.approx(exact, rel=0.05)


def test_equal_samples_have_no_distance_and_order_does_not_matter(samples):
    x, y = samples
    assert abs(float(mmd(x, x.flip(0)).biased)) < 1e-12
    assert float(mmd(x, y).biased) > 0.01
    for other in (mmd(y, x), mmd(x.flip(0), y.roll(7, 0))):
        assert float(other.biased) == pytest.approx(float(mmd(x, y).biased), rel=1e-12)


def the_biased_estimate_counts_the_diagonals(samples):
    """b - u = (1 - k_xx) / n + (1 - k_yy) / m, k the mean of the kernel between different rows."""
    gamma = 1 / 8
    off = [
        k[~np.eye(len(k), dtype=bool)].mean()
        for k in (rbf_kernel(rows, gamma=gamma) for rows in samples)
    ]
    found = alignment.mmd(*samples, variance=4.0, kernels=1)
    expected = sum((1 - k) / len(rows) for k, rows in zip(off, samples, strict=True))
    assert float(found.biased - found.unbiased) == pytest.approx(expected, abs=1e-12)


def test_the_biased_estimate_counts_the_diagonals(samples):
    the_biased_estimate_counts_the_diagonals(samples)


def test_two_points_and_two_normal_distributions_have_the_distance_of_the_closed_form():
    x, y = torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), 3.0, dtype=torch.float64)
    assert float(mmd(x, y, variance=1.7**2, kernels=1).biased) == pytest.approx(1.57850, abs=1e-5)
    normal = np.random.default_rng(0).normal(size=(2, 3000, 1)).astype(np.float32)
    found = mmd(
        torch.from_numpy(normal[0]), torch.from_numpy(normal[1] + 1), variance=1.7**2, kernels=1
    )
    assert float(found.unbiased) == pytest.approx(0.14944, abs=0.02)


def test_the_gradient_is_that_of_finite_differences(samples):
    x, y = (rows[:6].clone().requires_grad_() for rows in samples)
    assert torch.autograd.gradcheck(lambda a, b: mmd(a, b, variance=3.0), (x, y))


def test_no_gradient_passes_through_the_median(samples):
    x, y = (rows.clone().requires_grad_() for rows in samples)
    fixed = 4 * alignment.median_distance(x, y)
    assert not fixed.requires_grad
    ours, theirs = (
        torch.autograd.grad(mmd(x, y, variance=v).unbiased, x)[0] for v in (None, fixed)
    )
    assert torch.equal(ours, theirs)


def test_the_unbiased_estimate_is_zero_on_average_where_nothing_differs():
    rng = np.random.default_rng(0)
    found = [
        float(mmd(*torch.from_numpy(rng.normal(size=(2, 20, 3)))).unbiased) for _ in range(200)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert min(found) < 0


# -- CORAL -------------------------------------------------------------------------------------------------------


def coral_is_that_of_numpy(samples):
    x, y = samples
    difference = np.cov(x, rowvar=False) - np.cov(y, rowvar=False)
    assert float(coral(x, y)) == pytest.approx((difference**2).sum() / (4 * 5**2), rel=1e-12)


def test_coral_is_that_of_numpy(samples):
    coral_is_that_of_numpy(samples)


def test_coral_sees_scale_and_not_place(samples):
    x, y = samples
    assert float(coral(x, x)) == 0
    assert float(coral(x, y + 7)) == pytest.approx(float(coral(x, y)), rel=1e-9)
    expected = (3**2 - 1) ** 2 * (np.cov(x, rowvar=False) ** 2).sum() / (4 * 5**2)
    assert float(coral(x, 3 * x)) == pytest.approx(expected, rel=1e-12)


def test_turning_both_samples_alike_changes_nothing(samples):
    x, y = samples
    turn = torch.linalg.qr(
        torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )[0]
    for distance in (coral, mean_distance, lambda a, b: mmd(a, b).unbiased):
        assert float(distance(x @ turn, y @ turn)) == pytest.approx(float(distance(x, y)), rel=1e-9)


def test_the_distance_of_means_sees_what_coral_does_not(samples):
    x, _ = samples
    assert float(coral(x, x + 2)) < 1e-20
    assert float(mean_distance(x, x + 2)) == pytest.approx(4)


def test_normalised_rows_forget_gain_and_offset(samples):
    rows = normalised_rows(samples[1].float())
    np.testing.assert_allclose(rows.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(1, correction=0), 1, atol=1e-3)


# -- sampled positions -------------------------------------------------------------------------------------------


def test_every_sampled_row_is_a_pixel_and_none_comes_twice():
    number = torch.arange(2 * 32 * 32).view(2, 1, 32, 32)
    maps = (
        torch.cat([number, -number, 3 * number], dim=1)
        .float()
        .to(memory_format=torch.channels_last)
    )
    torch.manual_seed(3)
    rows = sample_positions(maps, 500)
    assert rows.shape == (500, 3)
    assert len(rows[:, 0].unique()) == 500
    assert torch.equal(rows, rows[:, :1] * torch.tensor([1.0, -1.0, 3.0]))
    torch.manual_seed(3)
    assert torch.equal(rows, sample_positions(maps, 500))
    assert rows.min() < -5000 or rows.max() > 5000  # from all of the batch


def test_small_maps_are_taken_whole_in_single_precision():
    rows = sample_positions(torch.ones(2, 4, 8, 8, dtype=torch.bfloat16))
    assert rows.shape == (128, 4)
    assert rows.dtype == torch.float32


# -- gradient reversal -------------------------------------------------------------------------------------------


def the_gradient_is_reversed():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    out = reverse_gradient(x, 0.3)
    assert torch.equal(out, x)
    out.backward(torch.tensor([1.0, 10.0]))
    np.testing.assert_allclose(x.grad, [-0.3, -3.0], rtol=1e-6)


def test_the_gradient_is_reversed():
    the_gradient_is_reversed()


def test_a_factor_of_zero_blocks_the_gradient():
    x = torch.ones(3, requires_grad=True)
    reverse_gradient(x, 0.0).sum().backward()
    assert not x.grad.any()


def test_the_adversarys_strength_follows_ganin():
    found = [adversarial_ramp(p) for p in (0, 0.1, 0.25, 0.5, 1)]
    assert found == pytest.approx([0, 0.46212, 0.84828, 0.98661, 0.99991], abs=1e-5)


# -- the methods -------------------------------------------------------------------------------------------------


def build(name, **settings):
    torch.manual_seed(0)
    cls = methods[name]
    return cls(
        cls.Settings.parse(settings),
        UNet(2, UNet.Settings(base_channels=8, depth=LEVELS, dropout=0.0)),
        DataSummary(),
    )


def maps_of_both(n=3):
    """Encoder maps of two domains, as leaves that collect gradients."""
    generator = torch.Generator().manual_seed(1)

    def domain(scale, shift):
        return [
            (
                torch.randn(n, 8 * 2**level, 32 // 2**level, 32 // 2**level, generator=generator)
                * scale
                + shift
            )
            .to(memory_format=torch.channels_last)
            .requires_grad_()
            for level in range(LEVELS + 1)
        ]

    return domain(1.0, 0.0), domain(1.5, 0.5)


def gradients(method, progress=1.0):
    """Size of the gradient that reaches each encoder level."""
    source, target = maps_of_both()
    torch.manual_seed(2)
    loss = sum(method.eval().align(source, target, progress).values())
    found = torch.autograd.grad(loss, [*source, *target], allow_unused=True)
    sizes = [0.0 if g is None else float(g.norm()) for g in found]
    return np.array(sizes).reshape(2, -1).sum(0)


def weights_grow_with_depth():
    for levels in (3, 4, 5):
        weights = alignment.level_weights(levels)
        assert len(weights) == levels + 1
        assert weights == sorted(weights)
        assert weights[-1] == 1
        assert weights[0] == 0 < weights[1]


def test_weights_grow_with_depth():
    weights_grow_with_depth()


@pytest.mark.parametrize(
    ("name", "module"), [("mmd", mmd_method), ("coral", coral_method), ("dann", dann_method)]
)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_levels_weight_acts_on_that_level_alone(name, module, level, monkeypatch):
    before = gradients(build(name))
    assert (before[1:] > 0).all()
    changed = [w * (2 if index == level else 1) for index, w in enumerate(level_weights(LEVELS))]
    monkeypatch.setattr(module, "level_weights", lambda levels: changed)
    expected = before * np.where(np.arange(LEVELS + 1) == level, 2, 1)
    np.testing.assert_allclose(gradients(build(name)), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "module"), [("mmd", mmd_method), ("coral", coral_method), ("dann", dann_method)]
)
def test_levels_teach_the_encoder_with_the_weights_of_the_paper(name, module, monkeypatch):
    """Roels et al. 2019, section 3: 1 at the deepest level, 0.3 and 0.1 above it, the first is left alone."""
    weighted = gradients(build(name))
    monkeypatch.setattr(module, "level_weights", lambda levels: [0.0] + [1.0] * levels)
    alike = gradients(build(name))
    assert weighted[0] == 0
    np.testing.assert_allclose(weighted[1:] / alike[1:], [0.1, 0.3, 1], rtol=1e-3)


def test_deeper_encoders_have_smaller_weights_above():
    assert level_weights(4) == [0, 0.05, 0.1, 0.3, 1]
    assert level_weights(5) == [0, 0.02, 0.05, 0.1, 0.3, 1]


@pytest.mark.parametrize("name", ["mmd", "coral"])
def test_distances_fade_in_over_the_first_fifth(name):
    method = build(name)
    full = gradients(method, 0.2)
    assert not gradients(method, 0.0).any()
    np.testing.assert_allclose(gradients(method, 0.05), full / 4, rtol=1e-4)
    np.testing.assert_allclose(gradients(method, 1.0), full, rtol=1e-4)


@pytest.mark.parametrize("name", ["mmd", "coral"])
def test_the_weight_is_that_of_the_deepest_level(name):
    np.testing.assert_allclose(
        gradients(build(name, weight=1.0)), 2 * gradients(build(name, weight=0.5)), rtol=1e-4
    )


@pytest.mark.parametrize("name", ["mmd", "coral"])
def test_equal_domains_are_aligned_already(name):
    method, (source, target) = build(name), maps_of_both()
    again = [maps.detach().clone() for maps in source]
    equal, different = (
        float(sum(method.align(source, other, 1.0).values()).detach()) for other in (again, target)
    )
    assert (
        equal < 0.1 * different
    )  # not 0: other positions are drawn, and MMD is the unbiased estimate


def test_the_accuracy_of_the_classifiers_is_that_of_a_coin_on_equal_domains():
    method, (source, _) = build("dann").eval(), maps_of_both()
    method.align(source, source, 1.0)
    assert float(method.reported["domain_accuracy"]) == 0.5


def every_classifier_learns():
    method = build("dann")
    known = {id(p) for p in method.parameters()}
    assert len(method.classifiers) == LEVELS
    source, target = maps_of_both()
    method.align(source, target, 0.5)["domain"].backward()
    for classifier in method.classifiers:
        for parameter in classifier.parameters():
            assert id(parameter) in known
            assert parameter.grad.abs().sum() > 0


def test_every_classifier_learns():
    every_classifier_learns()


def test_the_encoder_goes_where_the_classifiers_do_not(monkeypatch):
    method, (source, target) = build("dann", weight=0.5).eval(), maps_of_both()

    def to_encoder():
        return torch.autograd.grad(
            method.align(source, target, 1.0)["domain"], [*source[1:], *target[1:]]
        )

    reversed_ = to_encoder()
    monkeypatch.setattr(dann_method, "reverse_gradient", lambda x, factor: x)
    weights = level_weights(LEVELS)[1:] * 2
    for ours, plain, weight in zip(reversed_, to_encoder(), weights, strict=True):
        torch.testing.assert_close(ours, -0.5 * adversarial_ramp(1.0) * weight * plain)


def test_classifiers_work_with_a_single_patch():
    method, (source, target) = build("dann"), maps_of_both(n=1)
    loss = method.align(source, target, 1.0)["domain"]
    loss.backward()
    assert loss.isfinite()
    assert 0 <= float(method.reported["domain_accuracy"]) <= 1


def test_the_adversary_can_tell_domains_that_differ():
    method, (source, target) = build("dann"), maps_of_both()
    optimiser = torch.optim.AdamW(method.classifiers.parameters(), 3e-3)
    for _ in range(30):
        optimiser.zero_grad()
        method.align(source, target, 0.0)["domain"].backward()
        optimiser.step()
    method.eval().align(source, target, 0.0)
    assert float(method.reported["domain_accuracy"]) == 1


# -- a test that cannot fail is none -----------------------------------------------------------------------------


class Kept(alignment._Reverse):
    """A gradient reversal that forgot the sign."""

    @staticmethod
    def backward(ctx, *gradients):
        return ctx.factor * gradients[0], None


MISTAKES = {
    "the gradient is not reversed": (alignment, "_Reverse", Kept, the_gradient_is_reversed),
    "the levels are in the wrong order": (
        alignment,
        "level_weights",
        lambda levels: level_weights(levels)[::-1],
        weights_grow_with_depth,
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

"""Mutual information of two views against scikit-learn, SciPy and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from napari_emda.nn.information import joint, mutual_information


def one_hot(ids, k):
    return torch.nn.functional.one_hot(torch.as_tensor(ids), k).movedim(-1, 1).float()


def soft(rng, k, shape=(2, 9, 11)):
    return torch.as_tensor(rng.dirichlet(np.ones(k), shape)).movedim(-1, 1).float()


def everywhere(p):
    return torch.ones(p.shape[0], *p.shape[2:], dtype=torch.bool)


def information(p, q, displacement=0):
    return mutual_information(joint(p, q, everywhere(p), displacement))


def brute_force(p, q, valid, d):
    """The sum of the definition, pixel by pixel."""
    n, k, height, width = p.shape
    counts = np.zeros((2 * d + 1, 2 * d + 1, k, k))
    for i, y, x, dy, dx in np.ndindex(n, height, width, 2 * d + 1, 2 * d + 1):
        y2 = y + dy - d
        x2 = x + dx - d
        if 0 <= y2 < height and 0 <= x2 < width and valid[i, y, x] and valid[i, y2, x2]:
            counts[dy, dx] += np.outer(p[i, :, y, x], q[i, :, y2, x2])
    counts = (counts + counts.swapaxes(-1, -2)) / 2
    return counts / counts.sum((-1, -2), keepdims=True)


@pytest.mark.parametrize(("k", "expected"), [(2, 0.693147), (4, 1.386294)])
def test_balanced_identical_maps_have_log_k(k, expected):
    p = one_hot(np.arange(64).reshape(1, 8, 8) % k, k)
    assert float(information(p, p)) == pytest.approx(expected, abs=1e-5)


def test_constant_maps_have_no_information():
    constant = one_hot(np.zeros((1, 8, 8), int), 3)
    assert float(information(constant, constant)) == pytest.approx(0, abs=1e-6)


def test_independent_maps_have_almost_no_information(noise):
    p, q = (one_hot(noise.integers(0, 2, (1, 400, 400)), 2) for _ in range(2))
    assert 0 <= float(information(p, q)) < 1e-3


def test_the_information_of_hard_maps_is_that_of_scikit_learn(noise):
    first = noise.integers(0, 3, (2, 20, 20))
    second = np.where(noise.random(first.shape) < 0.7, first, noise.integers(0, 3, first.shape))
    # In both orders, because the joint distribution is made symmetric.
    expected = mutual_info_score(
        np.concatenate([first.ravel(), second.ravel()]),
        np.concatenate([second.ravel(), first.ravel()]),
    )
    result = information(one_hot(first, 3), one_hot(second, 3))
    assert float(result) == pytest.approx(expected, abs=1e-5)


def test_a_rare_class_has_little_information():
    """Why two clusters cannot find a rare structure: at 5.4 % the bound is 0.211 nats."""
    p = one_hot((np.arange(1000).reshape(1, 20, 50) < 54).astype(int), 2)
    assert float(information(p, p)) == pytest.approx(0.2099, abs=2e-3)


def test_the_order_of_views_and_clusters_does_not_matter(noise):
    p = soft(noise, 4)
    q = soft(noise, 4)
    order = [2, 0, 3, 1]
    expected = float(information(p, q))
    assert float(information(q, p)) == pytest.approx(expected, abs=1e-6)
    assert float(information(p[:, order], q[:, order])) == pytest.approx(expected, abs=1e-6)
    assert 0 <= expected <= np.log(4)


@pytest.mark.parametrize("d", [0, 1, 2])
def test_joints_are_those_of_a_loop_over_pixels(d, noise):
    p = soft(noise, 3)
    q = soft(noise, 3)
    valid = noise.random((2, 9, 11)) < 0.8
    joints = joint(p, q, torch.as_tensor(valid), d)
    np.testing.assert_allclose(joints, brute_force(p.numpy(), q.numpy(), valid, d), atol=1e-6)


def test_a_displaced_copy_is_found_at_its_displacement(noise):
    p = one_hot(noise.integers(0, 3, (1, 30, 30)), 3)
    by_displacement = information(p, p.roll(1, dims=2), 2)
    # Displacement (1, 0); the centre, (0, 0), is at (2, 2).
    assert np.unravel_index(int(by_displacement.argmax()), by_displacement.shape) == (3, 2)


def test_invalid_pixels_change_nothing(noise):
    p = soft(noise, 3)
    q = soft(noise, 3)
    valid = torch.as_tensor(noise.random((2, 9, 11)) < 0.7)
    other = torch.where(valid.unsqueeze(1), q, soft(noise, 3))
    assert torch.equal(joint(p, q, valid, 1), joint(p, other, valid, 1))
    without_pixels = mutual_information(joint(p, q, torch.zeros_like(valid)))
    assert float(without_pixels) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5])
def test_with_a_balance_of_half_class_proportions_do_not_matter(share, noise):
    """Minus the mean conditional entropy, -(H(p|q) + H(q|p)) / 2: 0 for views that agree."""
    table = noise.random((4, 4))
    table = (table + table.T) / (table + table.T).sum()
    conditional = entropy(table.ravel()) - (entropy(table.sum(0)) + entropy(table.sum(1))) / 2
    assert float(mutual_information(torch.as_tensor(table), 0.5)) == pytest.approx(-conditional)
    agreeing = torch.diag(torch.tensor([1 - share, share]))
    assert float(mutual_information(agreeing, 0.5)) == pytest.approx(0, abs=1e-6)
    expected = entropy([share, 1 - share])
    assert float(mutual_information(agreeing)) == pytest.approx(expected, abs=1e-6)

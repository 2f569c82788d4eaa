"""Mutual information of two views, against scikit-learn and brute force."""

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
    """Pixel by pixel, as the sum is written."""
    b, k, height, width = p.shape
    counts = np.zeros((2 * d + 1, 2 * d + 1, k, k))
    for n, y, x, dy, dx in np.ndindex(b, height, width, 2 * d + 1, 2 * d + 1):
        v, u = y + dy - d, x + dx - d
        if 0 <= v < height and 0 <= u < width and valid[n, y, x] and valid[n, v, u]:
            counts[dy, dx] += np.outer(p[n, :, y, x], q[n, :, v, u])
    counts = (counts + counts.swapaxes(-1, -2)) / 2
    return counts / counts.sum((-1, -2), keepdims=True)


@pytest.mark.parametrize(("k", "expected"), [(2, 0.693147), (4, 1.386294)])
def test_balanced_identical_maps_hold_log_k(k, expected):
    p = one_hot(np.arange(64).reshape(1, 8, 8) % k, k)
    assert float(information(p, p)) == pytest.approx(expected, abs=1e-5)


def test_constant_maps_hold_nothing_and_independent_ones_next_to_nothing(noise):
    constant = one_hot(np.zeros((1, 8, 8), int), 3)
    assert float(information(constant, constant)) == pytest.approx(0, abs=1e-6)
    p, q = (one_hot(noise.integers(0, 2, (1, 400, 400)), 2) for _ in range(2))
    assert 0 <= float(information(p, q)) < 1e-3


def test_hard_maps_hold_what_scikit_learn_says(noise):
    first = noise.integers(0, 3, (2, 20, 20))
    second = np.where(noise.random(first.shape) < 0.7, first, noise.integers(0, 3, first.shape))
    ours = information(one_hot(first, 3), one_hot(second, 3))
    both = (
        np.concatenate([first.ravel(), second.ravel()]),
        np.concatenate([second.ravel(), first.ravel()]),
    )
    assert float(ours) == pytest.approx(mutual_info_score(*both), abs=1e-5)


def test_a_rare_class_holds_little():
    """Why two clusters cannot find a rare structure: at 5.4 % the bound is 0.211 nats."""
    p = one_hot((np.arange(1000).reshape(1, 20, 50) < 54).astype(int), 2)
    assert float(information(p, p)) == pytest.approx(0.2099, abs=2e-3)


def test_views_and_clusters_may_be_exchanged(noise):
    p, q = soft(noise, 4), soft(noise, 4)
    order = [2, 0, 3, 1]
    assert float(information(p, q)) == pytest.approx(float(information(q, p)), abs=1e-6)
    assert float(information(p[:, order], q[:, order])) == pytest.approx(
        float(information(p, q)), abs=1e-6
    )
    assert 0 <= float(information(p, q)) <= np.log(4)


@pytest.mark.parametrize("d", [0, 1, 2])
def test_joints_are_those_of_a_loop_over_pixels(d, noise):
    p, q = soft(noise, 3), soft(noise, 3)
    valid = noise.random((2, 9, 11)) < 0.8
    ours = joint(p, q, torch.as_tensor(valid), d)
    np.testing.assert_allclose(ours, brute_force(p.numpy(), q.numpy(), valid, d), atol=1e-6)


def test_a_displaced_copy_is_found_at_its_displacement(noise):
    p = one_hot(noise.integers(0, 3, (1, 30, 30)), 3)
    found = information(p, p.roll(1, dims=2), 2)
    assert np.unravel_index(int(found.argmax()), found.shape) == (3, 2)


def test_what_is_masked_changes_nothing(noise):
    p, q = soft(noise, 3), soft(noise, 3)
    valid = torch.as_tensor(noise.random((2, 9, 11)) < 0.7)
    other = torch.where(valid.unsqueeze(1), q, soft(noise, 3))
    assert torch.equal(joint(p, q, valid, 1), joint(p, other, valid, 1))
    nothing = mutual_information(joint(p, q, torch.zeros_like(valid)))
    assert float(nothing) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5])
def test_with_half_the_balance_a_rare_class_is_worth_as_much_as_any(share, noise):
    """Minus the mean of what either view leaves open about the other; none where they agree, whatever the shares."""
    table = noise.random((4, 4))
    table = (table + table.T) / (table + table.T).sum()
    left_open = entropy(table.ravel()) - (entropy(table.sum(0)) + entropy(table.sum(1))) / 2
    assert float(mutual_information(torch.as_tensor(table), 0.5)) == pytest.approx(-left_open)
    agreeing = torch.diag(torch.tensor([1 - share, share]))
    assert float(mutual_information(agreeing, 0.5)) == pytest.approx(0, abs=1e-6)
    assert float(mutual_information(agreeing)) == pytest.approx(
        entropy([share, 1 - share]), abs=1e-6
    )

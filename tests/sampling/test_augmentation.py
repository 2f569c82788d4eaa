"""Augmentation: seeded, the same for image and labels, never turning dark into bright."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest, spearmanr

from napari_emda.data.volume import IGNORE
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.sampler import Patches

SIDE = 48
STRENGTHS = ("none", "weak", "strong")


def patches(image, labels=None):
    """A batch of one channel from B x H x W."""
    image = torch.as_tensor(np.asarray(image), dtype=torch.float32).unsqueeze(1)
    labels = (
        torch.zeros(image.shape[:1] + image.shape[2:], dtype=torch.long)
        if labels is None
        else labels
    )
    return Patches(image, labels, image)


def random_patches(n=16):
    image = gaussian_filter(np.random.default_rng(0).normal(size=(n, SIDE, SIDE)), (0, 1, 1))
    image = image / image.std()
    return patches(image, torch.as_tensor(image > 0.5).long())


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_seed_decides(strength):
    def draw(seed):
        return Augmentation(strength, seed)(random_patches())

    assert torch.equal(draw(1).image, draw(1).image)
    assert torch.equal(draw(1).labels, draw(1).labels)
    assert torch.equal(draw(1).image, draw(2).image) == (strength == "none")


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_global_random_numbers_are_left_alone(strength):
    before = torch.get_rng_state()
    Augmentation(strength, 1)(random_patches())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_shapes_and_types_stay_and_the_input_too(strength):
    given = random_patches()
    kept = given.image.clone()
    drawn = Augmentation(strength, 1)(given)
    assert torch.equal(given.image, kept)
    for before, after in (
        (given.image, drawn.image),
        (given.labels, drawn.labels),
        (given.clean, drawn.clean),
    ):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
    assert torch.isfinite(drawn.image).all()


def test_weak_is_exactly_the_eight_symmetries_of_the_square():
    square = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    symmetries = [
        np.rot90(flipped, turns) for flipped in (square, square[:, ::-1]) for turns in range(4)
    ]
    drawn = Augmentation("weak", 0)(patches(np.stack([square] * 64)))
    seen = [
        [i for i, s in enumerate(symmetries) if np.array_equal(s, image)]
        for image in drawn.image[:, 0].numpy()
    ]
    assert all(len(found) == 1 for found in seen)
    assert {found[0] for found in seen} == set(range(8))


def test_weak_moves_labels_as_the_image_and_leaves_the_greys():
    given = random_patches()
    drawn = Augmentation("weak", 3)(
        Patches(given.labels.unsqueeze(1).float(), given.labels, given.clean)
    )
    assert torch.equal(drawn.image[:, 0].long(), drawn.labels)
    assert torch.equal(drawn.image, drawn.clean)


@pytest.fixture(scope="module")
def warped():
    """Source row and column of every pixel of 64 warped patches, and their labels (the source column)."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    y, x = (
        Augmentation("strong", 5).geometric(
            patches([ramp] * 64, torch.as_tensor(columns).long().repeat(64, 1, 1))
        )
        for ramp in (rows, columns)
    )
    assert torch.equal(y.labels, x.labels)
    return y.image[:, 0].numpy(), x.image[:, 0].numpy(), x.labels.numpy()


def test_strong_moves_labels_as_the_image(warped):
    _, x, labels = warped
    valid = labels != IGNORE
    assert 0.5 < valid.mean() < 1
    assert np.abs(x - labels)[valid].max() <= 0.5 + 1e-3


def test_labels_are_ignore_exactly_where_the_image_was_mirrored_in(warped):
    """Where it was not, source positions are affine in the pixel's position: fit that and extend it."""
    design = np.stack([*np.mgrid[:SIDE, :SIDE].reshape(2, -1), np.ones(SIDE**2)], axis=1)
    inside = np.hypot(*(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2)).ravel() < SIDE / 4
    mirrored = 0
    for y, x, labels in zip(*warped, strict=True):
        where = []
        for positions in (y, x):
            affine, *_ = np.linalg.lstsq(design[inside], positions.ravel()[inside], rcond=None)
            assert np.abs(design[inside] @ affine - positions.ravel()[inside]).max() < 1e-3
            where.append(design @ affine)
        beyond = np.max([np.maximum(-p, p - (SIDE - 1)) for p in where], axis=0)
        ignored = labels.ravel() == IGNORE
        assert ignored[beyond > 0.51].all()
        assert not ignored[beyond < 0.49].any()
        mirrored += ignored.any()
    assert mirrored > 10


def test_scale_and_rotation_stay_within_limits(warped):
    determinants = []
    for y, x, _ in zip(*warped, strict=True):
        middle = slice(SIDE // 2 - 2, SIDE // 2 + 2)
        jacobian = [
            [np.diff(p[middle, middle], axis=axis).mean() for axis in (0, 1)] for p in (y, x)
        ]
        determinants.append(abs(np.linalg.det(jacobian)))
    assert 0.75**2 - 1e-2 < min(determinants) < 0.9
    assert 1.1 < max(determinants) < (4 / 3) ** 2 + 1e-2
    assert (
        0.3 < np.mean(np.abs(np.array(determinants) - 1) < 1e-3) < 0.7
    )  # the other half is left as it is


def test_greys_keep_their_order():
    given = random_patches(64).image
    changed = Augmentation("strong", 2).photometric(given)
    different = 0
    for before, after in zip(given.numpy(), changed.numpy(), strict=True):
        assert spearmanr(before.ravel(), after.ravel()).statistic > 0.3
        different += not np.array_equal(before, after)
    assert 16 < different < 48


def test_gain_and_offset_are_evenly_spread():
    """Of two greys beyond the reach of gamma, the mean tells the offset and the difference the gain."""
    far = torch.tensor([[-1000.0, 1000.0]]).repeat(400, 1)[:, None, None]
    low, high = Augmentation("strong", 0).contrast(far, share=1)[:, 0, 0].double().numpy().T
    assert kstest((low + high) / 2, "uniform", args=(-0.5, 1)).pvalue > 0.01
    gain = np.log((high - low) / 2000)
    assert kstest(gain, "uniform", args=(np.log(0.6), np.log(1.6 / 0.6))).pvalue > 0.01


def test_gamma_bends_the_range_of_eight_deviations():
    """f(v) = 8 ((v + 4) / 8)^gamma - 4 of v = gain x + offset; far greys tell gain and offset, x = 0 gamma."""
    greys = torch.tensor([[-1000.0, 1000.0, 0.0, 1.0, -1.0]]).repeat(200, 1)[:, None, None]
    made = Augmentation("strong", 1).contrast(greys, share=1)[:, 0, 0].double().numpy().T
    offset, gain = (made[0] + made[1]) / 2, (made[1] - made[0]) / 2000
    gamma = np.log((made[2] + 4) / 8) / np.log((offset + 4) / 8)
    assert 0.59 < gamma.min() < 0.7
    assert 1.5 < gamma.max() < 1.71
    assert np.mean(np.abs(gamma - 1) < 1e-2) > 0.3  # of half of the patches it is left alone
    for grey, found in ((1, made[3]), (-1, made[4])):
        expected = 8 * ((gain * grey + offset + 4) / 8) ** gamma - 4
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_strong_changes_the_greys_of_the_image_but_not_of_the_clean_one():
    drawn = Augmentation("strong", 4)(random_patches())
    moved = Augmentation("strong", 4).geometric(random_patches())
    assert torch.equal(drawn.clean, moved.image)
    assert torch.equal(drawn.labels, moved.labels)
    assert not torch.equal(drawn.image, drawn.clean)


def test_a_coin_falls_as_often_as_asked():
    augment = Augmentation("none", 0)
    assert augment.coin(10_000, 0.3).float().mean() == pytest.approx(0.3, abs=0.02)
    assert not augment.coin(100, 0.0).any()
    assert augment.coin(100, 1.0).all()

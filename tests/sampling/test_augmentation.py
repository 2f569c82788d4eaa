"""Augmentation: seeded, the same for image and labels, never turning dark into bright."""

from __future__ import annotations

from dataclasses import replace

import edt
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest, spearmanr

from napari_emda.data.volume import IGNORE
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Patches

SIDE = 48
STRENGTHS = ("none", "weak", "strong")


def patches(image, labels=None):
    """A batch of one channel from B x H x W."""
    image = torch.as_tensor(np.asarray(image), dtype=torch.float32).unsqueeze(1)
    if labels is None:
        labels = torch.zeros(image.shape[:1] + image.shape[2:], dtype=torch.long)
    return Patches(image, labels, image)


def random_patches(n=16):
    image = gaussian_filter(np.random.default_rng(0).normal(size=(n, SIDE, SIDE)), (0, 1, 1))
    image = image / image.std()
    return patches(image, torch.as_tensor(image > 0.5).long())


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_seed_determines_the_batch(strength):
    def draw(seed):
        return Augmentation(strength, seed)(random_patches())

    assert torch.equal(draw(1).image, draw(1).image)
    assert torch.equal(draw(1).labels, draw(1).labels)
    assert torch.equal(draw(1).image, draw(2).image) == (strength == "none")


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_global_random_state_does_not_change(strength):
    before = torch.get_rng_state()
    Augmentation(strength, 1)(random_patches())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_shapes_and_types_stay_and_the_input_is_not_modified(strength):
    batch = random_patches()
    copy = batch.image.clone()
    augmented = Augmentation(strength, 1)(batch)
    assert torch.equal(batch.image, copy)
    for before, after in (
        (batch.image, augmented.image),
        (batch.labels, augmented.labels),
        (batch.clean, augmented.clean),
    ):
        assert before.shape == after.shape
        assert before.dtype == after.dtype
    assert torch.isfinite(augmented.image).all()


def test_weak_is_exactly_the_eight_symmetries_of_the_square():
    square = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    symmetries = [
        np.rot90(flipped, turns) for flipped in (square, square[:, ::-1]) for turns in range(4)
    ]
    augmented = Augmentation("weak", 0)(patches(np.stack([square] * 64)))
    matches = [
        [i for i, symmetry in enumerate(symmetries) if np.array_equal(symmetry, image)]
        for image in augmented.image[:, 0].numpy()
    ]
    assert all(len(indices) == 1 for indices in matches)
    assert {indices[0] for indices in matches} == set(range(8))


def test_weak_transforms_labels_as_the_image_and_keeps_grey_values():
    batch = random_patches()
    augmented = Augmentation("weak", 3)(
        Patches(batch.labels.unsqueeze(1).float(), batch.labels, batch.clean)
    )
    assert torch.equal(augmented.image[:, 0].long(), augmented.labels)
    assert torch.equal(augmented.image, augmented.clean)


@pytest.fixture(scope="module")
def warped():
    """Source row and column of every pixel of 64 warped patches, and labels (source columns)."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    y, x = (
        Augmentation("strong", 5).geometric(
            patches([ramp] * 64, torch.as_tensor(columns).long().repeat(64, 1, 1))
        )
        for ramp in (rows, columns)
    )
    assert torch.equal(y.labels, x.labels)
    return y.image[:, 0].numpy(), x.image[:, 0].numpy(), x.labels.numpy()


def test_strong_transforms_labels_as_the_image(warped):
    _, x, labels = warped
    valid = labels != IGNORE
    assert 0.5 < valid.mean() < 1
    assert np.abs(x - labels)[valid].max() <= 0.5 + 1e-3


def test_labels_are_ignore_exactly_where_the_image_is_a_mirror_image(warped):
    """Elsewhere source positions are affine in the pixel's position: fit that and extrapolate."""
    design = np.stack([*np.mgrid[:SIDE, :SIDE].reshape(2, -1), np.ones(SIDE**2)], axis=1)
    inside = np.hypot(*(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2)).ravel() < SIDE / 4
    mirrored_patches = 0
    for y, x, labels in zip(*warped, strict=True):
        extrapolated = []
        for positions in (y, x):
            affine, *_ = np.linalg.lstsq(design[inside], positions.ravel()[inside], rcond=None)
            assert np.abs(design[inside] @ affine - positions.ravel()[inside]).max() < 1e-3
            extrapolated.append(design @ affine)
        beyond = np.max([np.maximum(-p, p - (SIDE - 1)) for p in extrapolated], axis=0)
        ignored = labels.ravel() == IGNORE
        assert ignored[beyond > 0.51].all()
        assert not ignored[beyond < 0.49].any()
        mirrored_patches += ignored.any()
    assert mirrored_patches > 10


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
    # Every second patch is not warped.
    assert 0.3 < np.mean(np.abs(np.array(determinants) - 1) < 1e-3) < 0.7


def test_grey_values_keep_their_order():
    image = random_patches(64).image
    augmented = Augmentation("strong", 2).photometric(image)
    changed_patches = 0
    for before, after in zip(image.numpy(), augmented.numpy(), strict=True):
        assert spearmanr(before.ravel(), after.ravel()).statistic > 0.3
        changed_patches += not np.array_equal(before, after)
    assert 16 < changed_patches < 48


def test_gain_and_offset_follow_their_distributions():
    """Gamma leaves grey values far outside alone: offset and gain follow from a pair of them."""
    far = torch.tensor([[-1000.0, 1000.0]]).repeat(400, 1)[:, None, None]
    low, high = Augmentation("strong", 0).contrast(far, share=1)[:, 0, 0].double().numpy().T
    assert kstest((low + high) / 2, "uniform", args=(-0.5, 1)).pvalue > 0.01
    gain = np.log((high - low) / 2000)
    assert kstest(gain, "uniform", args=(np.log(0.6), np.log(1.6 / 0.6))).pvalue > 0.01


def test_gamma_bends_the_range_of_eight_standard_deviations():
    """8 ((v + 4) / 8)^gamma - 4 with v = gain x + offset.

    Grey values far outside determine gain and offset, x = 0 determines gamma.
    """
    greys = torch.tensor([[-1000.0, 1000.0, 0.0, 1.0, -1.0]]).repeat(200, 1)[:, None, None]
    changed = Augmentation("strong", 1).contrast(greys, share=1)[:, 0, 0].double().numpy().T
    offset = (changed[0] + changed[1]) / 2
    gain = (changed[1] - changed[0]) / 2000
    gamma = np.log((changed[2] + 4) / 8) / np.log((offset + 4) / 8)
    assert 0.59 < gamma.min() < 0.7
    assert 1.5 < gamma.max() < 1.71
    # Every second patch has a gamma of 1.
    assert np.mean(np.abs(gamma - 1) < 1e-2) > 0.3
    for grey, result in ((1, changed[3]), (-1, changed[4])):
        expected = 8 * ((gain * grey + offset + 4) / 8) ** gamma - 4
        np.testing.assert_allclose(result, expected, atol=2e-3)


def test_strong_changes_grey_values_of_the_image_but_not_of_the_clean_image():
    augmented = Augmentation("strong", 4)(random_patches())
    transformed = Augmentation("strong", 4).geometric(random_patches())
    assert torch.equal(augmented.clean, transformed.image)
    assert torch.equal(augmented.labels, transformed.labels)
    assert not torch.equal(augmented.image, augmented.clean)


def test_a_coin_has_the_given_probability():
    augment = Augmentation("none", 0)
    assert augment.coin(10_000, 0.3).float().mean() == pytest.approx(0.3, abs=0.02)
    assert not augment.coin(100, 0.0).any()
    assert augment.coin(100, 1.0).all()


# -- neighbouring sections -------------------------------------------------------------------------


def stacks(n=40, channels=5):
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(n, channels, SIDE, SIDE)).astype(np.float32))
    return Patches(image, torch.zeros(n, SIDE, SIDE, dtype=torch.long), image)


def what_happened(section, before, middle):
    """What turned a section into another: ("dropped",), or its shift, gain and offset."""
    if np.array_equal(section, middle):
        return ("dropped",)
    padded = np.pad(before, 3, mode="reflect")
    for dy in range(-3, 4):
        for dx in range(-3, 4):
            shifted = padded[3 + dy : 3 + dy + SIDE, 3 + dx : 3 + dx + SIDE]
            gain, offset = np.polyfit(shifted.ravel(), section.ravel(), 1)
            if np.allclose(gain * shifted + offset, section, atol=1e-4):
                return dy, dx, gain, offset
    raise AssertionError("no shift and no brightness explains this section")


@pytest.mark.parametrize("strength", ["weak", "strong"])
def test_neighbours_alone_are_shifted_brightened_or_dropped(strength):
    batch = stacks()
    image = batch.image.numpy()
    augmented = Augmentation(strength, 3).neighbours(batch)
    assert augmented.labels is batch.labels
    assert augmented.clean is augmented.image
    np.testing.assert_array_equal(augmented.image[:, 2], image[:, 2])
    changes = [
        what_happened(section, image[i, channel], image[i, 2])
        for i, sections in enumerate(augmented.image.numpy())
        for channel, section in enumerate(sections)
        if channel != 2
    ]
    shifted = [change for change in changes if len(change) == 4 and change[:2] != (0, 0)]
    brightened = [change for change in changes if len(change) == 4 and abs(change[2] - 1) > 1e-3]
    # Of 160 sections; each bound is four standard deviations away or more.
    assert 4 <= changes.count(("dropped",)) <= 32
    assert 45 <= len(shifted) <= 100
    assert 45 <= len(brightened) <= 100
    assert {change[0] for change in shifted} == set(range(-3, 4))
    assert all(0.66 < change[2] < 1.51 and abs(change[3]) < 0.51 for change in brightened)


def test_single_sections_are_left_alone_and_take_no_random_numbers():
    for strength, batch in (("strong", random_patches()), ("none", stacks(2))):
        augment = Augmentation(strength, 1)
        before = augment.generator.get_state()
        assert augment.neighbours(batch) is batch
        assert torch.equal(augment.generator.get_state(), before)


@pytest.mark.parametrize("move", ["geometric", "jittered"])
def test_all_sections_move_alike(move):
    image = random_patches().image.expand(-1, 3, -1, -1).contiguous()
    batch = Patches(image, torch.zeros(len(image), SIDE, SIDE, dtype=torch.long), image)
    moved = getattr(Augmentation("strong", 1), move)(batch).image
    assert not torch.equal(moved, image)
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert torch.equal(moved[:, 2], moved[:, 1])


def test_contrast_of_all_sections_changes_alike():
    image = random_patches().image.expand(-1, 3, -1, -1).contiguous()
    changed = Augmentation("strong", 1).contrast(image, share=1)
    assert not torch.allclose(changed, image)
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert torch.equal(changed[:, 2], changed[:, 1])


# -- borders of objects ----------------------------------------------------------------------------


def with_objects(n=16):
    """Patches of numbered squares, and their borders."""
    ids = np.zeros((n, SIDE, SIDE), np.int64)
    ids[:, 4:30, 5:20] = 1
    ids[:, 4:40, 20:45] = 2
    ids[:, 42:47, 3:12] = 3
    return replace(patches(ids, torch.as_tensor(ids)), borders=torch.as_tensor(distances(ids)))


def distances(ids):
    return np.stack([edt.edt(section.astype(np.uint32)) for section in ids])


def test_borders_are_mirrored_with_the_objects():
    moved = Augmentation("weak", 3)(with_objects())
    np.testing.assert_allclose(moved.borders, distances(moved.labels.numpy()), rtol=1e-6)


@pytest.mark.parametrize("kind", ["geometric", "jittered"])
def test_borders_grow_with_the_objects(kind):
    """Up to the pixel by which a rotated border is off."""
    moved = getattr(Augmentation("strong", 3), kind)(with_objects())
    ids = moved.labels.numpy()
    is_seen = np.pad(ids != IGNORE, ((0, 0), (1, 1), (1, 1)))
    to_unseen = distances(is_seen)[:, 1:-1, 1:-1]
    expected = distances(np.where(ids == IGNORE, 0, ids))
    # Elsewhere, the nearest border may be one that the patch no longer shows.
    known = expected < to_unseen - 1
    found = moved.borders.numpy()
    assert (known & (expected > 8)).any()
    assert np.abs(found - expected)[known].max() < 1.7
    assert ((found > 0) == (expected > 0))[known].all()
    assert not torch.equal(moved.borders, with_objects().borders)


@pytest.mark.parametrize("strength", ["weak", "strong"])
def test_the_sections_of_a_stack_are_moved_and_changed_alike(strength):
    """But for noise, which every section of a microscope has of its own."""
    one = torch.randn(4, 1, 32, 32)
    labels = torch.randint(0, 2, (4, 32, 32))
    sections = Patches(
        one.repeat_interleave(3, 0), labels.repeat_interleave(3, 0), one.repeat_interleave(3, 0)
    )
    augment = Augmentation(strength, 1, stack=3)
    moved = augment.geometric(sections)
    stacks = moved.image.reshape(4, 3, 32, 32)
    assert torch.equal(stacks, stacks[:, :1].expand_as(stacks))
    ids = moved.labels.reshape(4, 3, 32, 32)
    assert torch.equal(ids, ids[:, :1].expand_as(ids))
    contrasted = augment.contrast(moved.image, share=1).reshape(4, 3, -1)
    assert torch.equal(contrasted, contrasted[:, :1].expand_as(contrasted))
    # Stacks differ from each other.
    changed = (stacks[:, 0] != one[:, 0]).flatten(1).any(1)
    assert changed.any()
    assert len({tuple(values) for values in contrasted[:, 0, :5].tolist()}) == 4

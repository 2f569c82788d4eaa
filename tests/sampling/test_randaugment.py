"""Strong augmentation against Pillow, SciPy and its settings; rotating back; the weak set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.stats import kstest, rankdata, spearmanr

from napari_emda.data.volume import IGNORE
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Patches
from napari_emda.sampling.randaugment import INVERTING, KEEPING, RandAugment, turn, turn_back


def smooth(n=4, side=65, sigma=2):
    image = gaussian_filter(
        np.random.default_rng(0).normal(size=(n, 1, side, side)), (0, 0, sigma, sigma)
    )
    return torch.as_tensor(image / image.std()).float()


def degrees(angle, n=4):
    return torch.full((n,), float(np.deg2rad(angle)))


# -- rotation and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_come_back_exactly(quarters):
    image = smooth()
    turned = turn(image, degrees(90 * quarters))
    assert any(
        np.allclose(turned, np.rot90(image, k, (2, 3)), atol=1e-4) for k in (quarters, -quarters)
    )
    back, inside = turn_back(turned, degrees(90 * quarters))
    assert inside.float().mean() > 0.9
    mask = inside.unsqueeze(1)
    torch.testing.assert_close(back[mask], image[mask], atol=1e-3, rtol=0)


def test_other_angles_come_back_where_pixels_stayed_in_the_frame():
    image = smooth(sigma=5)
    image = (image - image.min()) / (image.max() - image.min())  # as probabilities are
    back, inside = turn_back(turn(image, degrees(33)), degrees(33))
    assert float(inside.float().mean()) == pytest.approx(0.798, abs=0.005)
    error = (back - image).abs().squeeze(1)
    assert error[inside].max() < 0.01
    assert error[~inside].max() > 0.3


def test_a_rotation_is_that_of_scipy():
    image = smooth(1)
    angle = np.deg2rad(33)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = np.array([32, 32])
    # SciPy's axes are rows and columns: either direction of rotation is right.
    both_directions = [
        affine_transform(image[0, 0], m, centre - m @ centre, order=1) for m in (matrix, matrix.T)
    ]
    turned = turn(image, degrees(33, 1))[0, 0].numpy()
    disc = np.hypot(*(np.mgrid[:65, :65] - 32)) < 31
    assert min(np.abs(turned - expected)[disc].max() for expected in both_directions) < 1e-3


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("magnitude", [-1.0, 1.0])
def test_dark_stays_dark_in_the_default_set(name, magnitude):
    image = smooth()
    changed = KEEPING[name](image, torch.full((4, 1, 1, 1), magnitude))
    for before, after in zip(image, changed, strict=True):
        assert spearmanr(before.flatten(), after.flatten()).statistic > 0.7


def test_the_inverting_set_turns_dark_into_bright():
    image = smooth()
    magnitude = torch.ones(4, 1, 1, 1)
    for change in INVERTING.values():
        assert spearmanr(image.flatten(), change(image, magnitude).flatten()).statistic < 0


def grey(image):
    """Standardised values from -2.5 to 2.5 as grey values of Pillow, 0 to 255."""
    return np.rint((np.asarray(image) + 2.5) * 51).clip(0, 255).astype(np.uint8)


PILLOW = {
    "autocontrast": lambda image, m: ImageOps.autocontrast(image),
    "invert": lambda image, m: ImageOps.invert(image),
    "solarize": lambda image, m: ImageOps.solarize(image, round(256 * (1 - abs(m)))),
    "contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(2**m),
    "gain": lambda image, m: ImageEnhance.Brightness(image).enhance(2 ** (m / 2)),
    "brightness": lambda image, m: image.point(lambda value: value + 51 * m),
}


@pytest.mark.parametrize("m", [-1.0, -0.4, 0.3, 1.0])
@pytest.mark.parametrize("name", PILLOW)
def test_changes_are_those_of_pillow(name, m):
    image = smooth(2).clamp(-2.5, 2.5)
    image[1] *= 0.4  # patches have different ranges
    changed = (KEEPING | INVERTING)[name](image, torch.full((2, 1, 1, 1), m))
    for before, after in zip(image[:, 0], changed[:, 0], strict=True):
        expected = np.asarray(PILLOW[name](Image.fromarray(grey(before)), m)).astype(int)
        # Pixels at the threshold of solarize may differ.
        assert np.quantile(np.abs(grey(after) - expected), 0.97) <= 2


def test_equalize_and_sharpness_are_those_of_scipy():
    image = smooth(2)
    image[1] = image[1].round(decimals=1)  # many pixels share a grey value
    magnitude = torch.full((2, 1, 1, 1), 0.5)
    ranks = np.stack([rankdata(patch).reshape(65, 65) - 1 for patch in image[:, 0]])
    equalized = KEEPING["equalize"](image, magnitude)[:, 0]
    np.testing.assert_allclose(equalized, 5 / (65**2 - 1) * ranks - 2.5, atol=1e-5)
    blurred = gaussian_filter(image.numpy(), (0, 0, 1, 1), truncate=2, mode="mirror")
    sharpened = image.numpy() + 0.45 * (image.numpy() - blurred)
    np.testing.assert_allclose(KEEPING["sharpness"](image, magnitude), sharpened, atol=1e-5)


@pytest.mark.parametrize("inverting", [False, True])
def test_changes_and_their_strengths_follow_the_settings(inverting, monkeypatch):
    """A patch gets N changes, rotation among them, with strengths between -M/10 and M/10.

    The i-th change adds 10^i to a patch: the digits of the sum count how often each was applied.
    """
    count = 9 if inverting else 7
    magnitudes = []
    for index, name in enumerate([*KEEPING, *INVERTING]):
        table = KEEPING if name in KEEPING else INVERTING
        monkeypatch.setitem(
            table, name, lambda x, m, digit=10.0**index: magnitudes.append(m) or x + digit
        )
    zeros = torch.zeros(2000, 1, 4, 4, dtype=torch.double)
    changed, angle = RandAugment(3, 7, inverting)(zeros, Augmentation("none", 0))
    digits = [np.round(changed[:, 0, 0, 0].numpy()) // 10**k % 10 for k in range(count - 1)]
    assert np.mean(digits, axis=1) == pytest.approx(3 / count, abs=0.05)
    turned = (angle != 0).numpy()
    assert turned.mean() == pytest.approx(1 - (1 - 1 / count) ** 3, abs=0.04)
    assert (np.sum(digits, axis=0)[~turned] == 3).all()
    quadrants = np.histogram(angle[turned], 4, (0, 2 * np.pi))[0]
    assert quadrants / turned.sum() == pytest.approx(0.25, abs=0.05)
    # In a round every change gets the same magnitudes.
    strengths = torch.cat([m.flatten() for m in magnitudes[:: count - 1]])
    assert kstest(strengths, "uniform", (-0.7, 1.4)).pvalue > 1e-3


def test_random_changes_keep_polarity_and_follow_the_seed():
    image = smooth(64, 33)
    changed, angle = RandAugment(2, 10)(image, Augmentation("none", 1))
    again, _ = RandAugment(2, 10)(image, Augmentation("none", 1))
    assert torch.equal(changed, again)
    for i in range(64):
        back, inside = turn_back(changed[i : i + 1], angle[i : i + 1])
        before = image[i, 0][inside[0]]
        after = back[0, 0][inside[0]]
        assert spearmanr(before, after).statistic > 0.7
    assert 5 < (angle != 0).sum() < 40


def test_the_weak_set_transforms_labels_as_the_image_and_only_a_little():
    columns = torch.arange(48.0).expand(64, 1, 48, 48).contiguous()
    jittered = Augmentation("none", 0).jittered(Patches(columns, columns[:, 0].long(), columns))
    valid = jittered.labels != IGNORE
    assert (jittered.image[:, 0] - jittered.labels).abs()[valid].max() <= 0.51
    slopes = (jittered.image[:, 0, 24, 26] - jittered.image[:, 0, 24, 22]) / 4
    assert 0.3 < (slopes < 0).float().mean() < 0.7  # flipped
    assert slopes.abs().min() > np.cos(np.pi / 12) / 1.05 - 1e-3
    assert slopes.abs().max() < 1 / 0.95 + 1e-3


def test_patches_that_are_not_rotated_keep_their_pixels():
    image = smooth(64, 33)
    batch = Patches(image, (100 * image[:, 0]).long(), image)
    jittered = Augmentation("none", 0).jittered(batch, 0.5)
    unchanged = [
        torch.equal(after, before) or torch.equal(after, before.flip(-1))
        for after, before in zip(jittered.image, image, strict=True)
    ]
    assert 20 < sum(unchanged) < 44
    for expected, patch, labels in zip(unchanged, jittered.image, jittered.labels, strict=True):
        assert torch.equal(labels, (100 * patch[0]).long()) == expected

"""Amplitudes or moments come from the other image; phases stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_emda.data.volume import IGNORE
from napari_emda.methods.base import DataSummary, methods
from napari_emda.nn.fourier import swap_amplitudes, swap_moments
from napari_emda.nn.networks.unet import UNet
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Patches


@pytest.fixture
def pair():
    image, other = torch.randn(2, 3, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    return image, 2 * other + 1


def low(beta):
    """Which frequencies of a 32 x 48 image count as low."""
    rows = np.abs(np.fft.fftfreq(32)) < beta
    columns = np.abs(np.fft.fftfreq(48)) < beta
    return rows[:, None] & columns[None, :]


@pytest.mark.parametrize("beta", [0.02, 0.1, 0.5])
def test_low_amplitudes_come_from_the_other_image_and_phases_stay(pair, beta):
    image, other, result = (
        np.fft.fft2(x[:, 0].double().numpy()) for x in (*pair, swap_amplitudes(*pair, beta))
    )
    swapped = low(beta)
    amplitudes = np.abs(result)[:, swapped]
    np.testing.assert_allclose(amplitudes, np.abs(other)[:, swapped], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(result[:, ~swapped], image[:, ~swapped], atol=1e-3)
    # Small amplitudes have no reliable phase.
    difference = np.angle(result * image.conj())[np.abs(result) > 1]
    assert np.abs(difference).max() < 1e-2


def test_beta_0_is_the_identity(pair):
    torch.testing.assert_close(swap_amplitudes(*pair, 0.0), pair[0])


def test_moments_come_from_the_other_image(pair):
    for result, other in zip(swap_moments(*pair).numpy(), pair[1].numpy(), strict=True):
        assert result.mean() == pytest.approx(other.mean(), abs=1e-5)
        assert result.std() == pytest.approx(other.std(), rel=1e-5)


def test_moments_of_a_constant_image_are_finite(pair):
    assert swap_moments(torch.zeros(3, 1, 32, 48), pair[1]).isfinite().all()


@pytest.mark.parametrize("look", ["amplitudes", "moments"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_given_share_of_source_patches_changes(look, share):
    cls = methods["fourier"]
    settings = cls.Settings(look=look, share=share, beta=0.1)
    method = cls(settings, UNet(2, UNet.Settings(base_channels=8)), DataSummary())
    image, other = torch.randn(2, 200, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.full((200, 16, 16), IGNORE)
    batch = {"source": Patches(image, labels, image), "target": Patches(other, labels, other)}
    prepared = method.prepare(batch, Augmentation("none", 0), 0.0)
    changed = (prepared["source"].image - image).abs().amax((1, 2, 3)) > 1e-3
    assert float(changed.float().mean()) == pytest.approx(share, abs=0.1)
    assert torch.equal(prepared["source"].image, prepared["source"].clean)
    assert torch.equal(prepared["target"].image, other)

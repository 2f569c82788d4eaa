"""Looks without learning: amplitudes are the other's, phases stay; moments are the other's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_emda.data.volume import IGNORE
from napari_emda.methods.base import DataSummary, methods
from napari_emda.nn.fourier import swap_amplitudes, swap_moments
from napari_emda.nn.networks.unet import UNet
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.sampler import Patches


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 1, 32, 48, generator=generator), 2 * torch.randn(
        3, 1, 32, 48, generator=generator
    ) + 1


def low(beta):
    """Which frequencies of a 32 x 48 image count as low."""
    rows, columns = np.fft.fftfreq(32), np.fft.fftfreq(48)
    return (np.abs(rows) < beta)[:, None] & (np.abs(columns) < beta)[None, :]


@pytest.mark.parametrize("beta", [0.02, 0.1, 0.5])
def test_low_amplitudes_are_the_others_and_phases_stay(pair, beta):
    image, other = pair
    ours, theirs, out = (
        np.fft.fft2(x[:, 0].double().numpy()) for x in (image, other, swap_amplitudes(*pair, beta))
    )
    chosen = low(beta)
    np.testing.assert_allclose(
        np.abs(out)[:, chosen], np.abs(theirs)[:, chosen], rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(out[:, ~chosen], ours[:, ~chosen], atol=1e-3)
    sure = np.abs(out) > 1
    turned = np.angle(out * ours.conj())[sure]
    assert np.abs(turned).max() < 1e-2


def test_no_frequency_swapped_is_the_identity(pair):
    torch.testing.assert_close(swap_amplitudes(*pair, 0.0), pair[0])


def test_moments_are_the_others(pair):
    out = swap_moments(*pair)
    for mine, other in zip(out.numpy(), pair[1].numpy(), strict=True):
        assert mine.mean() == pytest.approx(other.mean(), abs=1e-5)
        assert mine.std() == pytest.approx(other.std(), rel=1e-5)
    assert swap_moments(torch.zeros(1, 1, 8, 8), pair[1][:1, :, :8, :8]).isfinite().all()


@pytest.mark.parametrize("look", ["amplitudes", "moments"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_asked_share_of_source_patches_changes_its_look(look, share):
    cls = methods["fourier"]
    method = cls(
        cls.Settings(look=look, share=share, beta=0.1),
        UNet(2, UNet.Settings(base_channels=8)),
        DataSummary(),
    )
    image, other = torch.randn(2, 200, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.full((200, 16, 16), IGNORE)
    batch = {"source": Patches(image, labels, image), "target": Patches(other, labels, other)}
    prepared = method.prepare(batch, Augmentation("none", 0), 0.0)
    changed = (prepared["source"].image - image).abs().amax((1, 2, 3)) > 1e-3
    assert float(changed.float().mean()) == pytest.approx(share, abs=0.1)
    assert torch.equal(prepared["source"].image, prepared["source"].clean)
    assert torch.equal(prepared["target"].image, other)

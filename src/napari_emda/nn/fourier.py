"""Cheap changes of look without learning: amplitudes of low frequencies, or mean and spread, from another image."""

from __future__ import annotations

import torch
from torch import Tensor


def swap_amplitudes(image: Tensor, other: Tensor, beta: float) -> Tensor:
    """The image with the amplitudes of another one's low frequencies; every phase stays.

    FDA (Yang & Soatto 2020, eq. 3).

    Args:
        image: B x 1 x H x W; above 0 as a rule, so that the phase of the mean is the same in both.
        other: of the same shape.
        beta: half the width of the square of frequencies that is swapped, as a share of the image's side: those with
            |f| < beta along both axes, in cycles a pixel. 0 is the identity; from 0.5 on all below Nyquist are swapped.
    """
    spectrum, look = torch.fft.rfft2(image.float()), torch.fft.rfft2(other.float())
    rows = torch.fft.fftfreq(image.shape[-2], device=image.device).abs() < beta
    columns = torch.fft.rfftfreq(image.shape[-1], device=image.device) < beta
    low = rows[:, None] & columns[None, :]
    swapped = torch.polar(torch.where(low, look.abs(), spectrum.abs()), spectrum.angle())
    return torch.fft.irfft2(torch.where(low, swapped, spectrum), s=image.shape[-2:])


def swap_moments(image: Tensor, other: Tensor) -> Tensor:
    """The image with another one's mean and standard deviation, patch by patch (AdaIN, Huang & Belongie 2017, eq. 8).

    Args:
        image: B x 1 x H x W.
        other: of the same shape.
    """
    over = (-2, -1)
    spread, mean = torch.std_mean(image, over, keepdim=True)
    their_spread, their_mean = torch.std_mean(other, over, keepdim=True)
    return (image - mean) / spread.clamp(min=1e-6) * their_spread + their_mean

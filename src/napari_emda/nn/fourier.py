"""Changes of appearance that need no training.

Amplitudes of low frequencies, or mean and standard deviation, come from another image.
"""

from __future__ import annotations

import torch
from torch import Tensor


def swap_amplitudes(image: Tensor, other: Tensor, beta: float) -> Tensor:
    """The image with the amplitudes of another image's low frequencies; all phases stay.

    FDA (Yang & Soatto 2020, eq. 3).

    Args:
        image: B x C x H x W; mostly above 0, so that the phase of the mean is the same in both.
        other: of the same shape.
        beta: frequencies with |f| < beta along both axes are swapped, in cycles per pixel. 0 is the
            identity; 0.5 swaps all frequencies below Nyquist.
    """
    spectrum = torch.fft.rfft2(image.float())
    other_spectrum = torch.fft.rfft2(other.float())
    # rfft2 keeps half of the columns: the other half is its complex conjugate.
    rows = torch.fft.fftfreq(image.shape[-2], device=image.device).abs() < beta
    columns = torch.fft.rfftfreq(image.shape[-1], device=image.device) < beta
    low = rows[:, None] & columns[None, :]
    amplitudes = torch.where(low, other_spectrum.abs(), spectrum.abs())
    swapped = torch.polar(amplitudes, spectrum.angle())
    # High frequencies keep their exact values, without the detour over amplitude and phase.
    return torch.fft.irfft2(torch.where(low, swapped, spectrum), s=image.shape[-2:])


def swap_moments(image: Tensor, other: Tensor) -> Tensor:
    """The image with the mean and standard deviation of another image, patch by patch.

    sd(other) (image - mean(image)) / sd(image) + mean(other): AdaIN (Huang & Belongie 2017, eq. 8).

    Args:
        image: B x channels x H x W.
        other: of the same shape.
    """
    std, mean = torch.std_mean(image, (-2, -1), keepdim=True)
    other_std, other_mean = torch.std_mean(other, (-2, -1), keepdim=True)
    # A patch of one grey value has no standard deviation to divide by.
    return (image - mean) / std.clamp(min=1e-6) * other_std + other_mean

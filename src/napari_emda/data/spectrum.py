"""Common spectrum: images of two volumes are filtered to the power spectrum that both have.

Microscopes blur and add noise, so that one volume has more power at high spatial frequencies than
the other. A network that has learnt from it then meets other textures than it expects. What both
have is the minimum of the two spectra. Attenuation alone reaches it: nothing is sharpened, because
that would amplify noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate

# Side of the patches whose power is measured, in pixels: spectra have a bin for each multiple of
# 1/64 cycles per pixel.
SIDE = 64
# Radius of the filter in pixels. With 9 x 9 pixels, the amplitudes of VNC come within 3 % of those
# of Lucchi at 20 nm, and within 10 % at 10 nm, up to where the gain would rise again.
REACH = 4
# Images are left as they are if a filter would keep this share of all amplitudes, on average over
# the Fourier plane. What they show makes as much of a difference: the halves of one volume have
# gains of 0.85 (VNC), 0.92 (ISBI 2012) and 0.95 (Lucchi).
_UNCHANGED = 0.95

_FREQUENCIES = np.fft.fftfreq(SIDE) * SIDE
# Rings of the spectrum, numbered by their frequency: pixels of the Fourier plane to ring.
_RINGS = np.rint(np.hypot(_FREQUENCIES[:, None], _FREQUENCIES)).astype(int)
BINS = int(_RINGS.max()) + 1
"""Number of rings, the last one in the corners of the Fourier plane."""
# Rings of long waves, 11 pixels and more, which a filter of 9 pixels can hardly change apart from
# the mean. The power of all others is compared relative to theirs: contrast is no matter of detail.
# The first two are left out of that, because they hold the mean grey values of the patches, too.
_LONG_WAVES = 6
_REFERENCE = slice(2, _LONG_WAVES)

Spectrum = tuple[float, ...]
"""Mean power at 0, 1/64, 2/64 … cycles per pixel relative to that of long waves, `BINS` values."""
Kernel = tuple[tuple[float, ...], ...]
"""Weights of a filter, 2 `REACH` + 1 rows and columns that sum to 1; empty for no filter."""


def spectrum_of(patches: Sequence[NDArray[np.float32]]) -> Spectrum:
    """Mean power of patches by frequency, averaged over directions (Welch 1967).

    Args:
        patches: grey values, `SIDE` x `SIDE` each; at least one.
    """
    # The periodic Hann window: without one, the edges of a patch would be its sharpest structure.
    window = np.hanning(SIDE + 1)[:-1]
    window = np.outer(window, window)
    power = np.zeros((SIDE, SIDE))
    for patch in patches:
        power += np.abs(np.fft.fft2(patch * window)) ** 2
    sums = np.bincount(_RINGS.ravel(), power.ravel(), BINS)
    pixels = np.bincount(_RINGS.ravel())
    # Of a blank image, the reference is 0.
    reference = max(sums[_REFERENCE].sum() / pixels[_REFERENCE].sum(), np.finfo(float).tiny)
    return tuple((sums / pixels / reference).tolist())


def patches_of(
    windows: Sequence[NDArray[np.float32]], left_out: Sequence[NDArray[np.bool_]]
) -> list[NDArray[np.float32]]:
    """Cut windows (rows, columns) into patches for `spectrum_of`, which overlap by half.

    Args:
        windows: grey values; smaller ones than a patch are continued by their mirror image.
        left_out: which pixels are no tissue. Patches that have some are left out, unless all do.
    """
    patches = []
    of_tissue = []
    for window, outside in zip(windows, left_out, strict=True):
        widths = [(0, max(0, SIDE - n)) for n in window.shape]
        whole = np.pad(window, widths, mode="symmetric")
        marked = np.pad(outside, widths, mode="symmetric")
        rows, columns = (range(0, n - SIDE + 1, SIDE // 2) for n in whole.shape)
        for y, x in itertools.product(rows, columns):
            square = (slice(y, y + SIDE), slice(x, x + SIDE))
            patches.append(whole[square])
            of_tissue.append(not marked[square].any())
    if not any(of_tissue):
        return patches
    return list(itertools.compress(patches, of_tissue))


def common_spectrum(spectra: Iterable[Sequence[Spectrum]]) -> Spectrum:
    """The power that all domains have: the minimum of their means over volumes.

    Args:
        spectra: of the volumes of each domain.
    """
    means = [np.mean(volumes, axis=0) for volumes in spectra]
    return tuple(np.min(means, axis=0).tolist())


def kernel_to(common: Spectrum, spectrum: Spectrum) -> Kernel:
    """The filter that brings images of one spectrum to a common one.

    Its gain at frequency k is g(k) = min(1, sqrt(C(k) / P(k))), made non-increasing, with the
    common power C and that of the images, P. The filter is the middle of its inverse Fourier
    transform: of all filters of its size, the one whose gain is closest to g.

    Args:
        common: the spectrum to reach.
        spectrum: of the images.

    Returns:
        The weights; none if they would change hardly anything.
    """
    # Where an image has no power, there is nothing to attenuate.
    power = np.maximum(spectrum, np.finfo(float).tiny)
    gain = np.minimum(1, np.sqrt(np.asarray(common) / power))
    gain[:_LONG_WAVES] = 1
    # A gain that rises again would sharpen fine details relative to coarser ones.
    gain = np.minimum.accumulate(gain)[_RINGS]
    if gain.mean() >= _UNCHANGED:
        return ()
    response = np.fft.fftshift(np.fft.ifft2(gain).real)
    middle = slice(SIDE // 2 - REACH, SIDE // 2 + REACH + 1)
    weights = response[middle, middle]
    return tuple(map(tuple, (weights / weights.sum()).tolist()))


def filtered(image: NDArray[np.float32], kernel: Kernel) -> NDArray[np.float32]:
    """Filter sections, each by itself.

    Every pixel is computed from its surroundings in the same order, so that parts of an image give
    the same numbers as all of it.

    Args:
        image: sections (z, y, x), with `REACH` more pixels on all four sides than are wanted.
        kernel: the weights.

    Returns:
        Sections (z, y - 2 `REACH`, x - 2 `REACH`) float32.
    """
    inside = (slice(None), slice(REACH, -REACH), slice(REACH, -REACH))
    return correlate(image, np.array(kernel)[None], output=np.float32, mode="nearest")[inside]


def check_spectrum(spectrum: Spectrum) -> None:
    """Check a spectrum that comes from a file; ValueError if it cannot be right."""
    if spectrum and (
        len(spectrum) != BINS or not all(math.isfinite(power) and power >= 0 for power in spectrum)
    ):
        raise ValueError("The spectrum cannot be right")


def check_kernel(kernel: Kernel) -> None:
    """Check a filter that comes from a file; ValueError if it cannot be right."""
    if not kernel:
        return
    side = 2 * REACH + 1
    if len(kernel) != side or any(len(row) != side for row in kernel):
        raise ValueError("The filter cannot be right")
    total = sum(map(sum, kernel))
    # NaN fails the comparison, too. Weights were rounded to decimals in between.
    if not abs(total - 1) < 1e-6:
        raise ValueError("The filter cannot be right")

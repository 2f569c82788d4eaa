"""How much two volumes differ in appearance, before anything is trained.

It only uses NumPy and SciPy and a few windows of each volume, because it runs in the viewer's
process. There it takes less than a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.appearance import Appearance, Moments
from napari_emda.data.resampled import Resampled, common_pixel_size
from napari_emda.data.volume import Volume

# Limits above which a difference counts. They lie above the differences between halves of one
# volume (VNC, Lucchi, medulla) and below those between VNC and Lucchi. The first and the fourth are
# distances, the others ratios.
_GREYS = 0.14
_SHARPNESS = 1.25
_NOISE = 1.5
_TEXTURE = 0.3
_PIXEL = 2.0

# Of a gap, by the number of differences that count.
_SIZES = ("small", "moderate", "large")


@dataclass(frozen=True)
class DomainGap:
    """Differences between two volumes at their common pixel size.

    Ratios are target over source, 1 if both are equal.

    Attributes:
        greys: Wasserstein-1 distance of the standardised grey values, in standard deviations.
        sharpness: ratio of the strength of edges of one pixel, relative to those of four pixels.
        noise: ratio of the differences between neighbouring pixels that no edge explains, relative
            to the contrast.
        texture: Frechet distance of the responses to Gaussian derivatives of one, two and four
            pixels, in standard deviations of a response.
        pixel: ratio of the in-plane pixel sizes.
    """

    greys: float
    sharpness: float
    noise: float
    texture: float
    pixel: float

    @property
    def distance(self) -> float:
        """One number to sort by: the mean of all differences, each in multiples of its limit."""
        ratios = (
            _times(self.sharpness, _SHARPNESS),
            _times(self.noise, _NOISE),
            # What is finer can be made coarser without loss.
            _times(max(self.pixel, 1.0), _PIXEL),
        )
        return (sum(ratios) + self.greys / _GREYS + self.texture / _TEXTURE) / 5

    @property
    def _unlike_ratios(self) -> list[str]:
        return [
            *_compared(self.sharpness, _SHARPNESS, "sharper", "less sharp"),
            *_compared(self.noise, _NOISE, "noisier", "less noisy"),
            *_compared(self.pixel, _PIXEL, "coarser", "finer"),
        ]

    @property
    def _distant(self) -> list[str]:
        distances = (("grey values", self.greys > _GREYS), ("texture", self.texture > _TEXTURE))
        return [name for name, counts in distances if counts]

    @property
    def _level(self) -> int:
        return min(len(self._unlike_ratios) + len(self._distant), len(_SIZES) - 1)

    @property
    def size(self) -> str:
        """``small``, ``moderate`` or ``large``: none, one or more differences count."""
        return _SIZES[self._level]

    def in_words(self) -> str:
        """One sentence: how large the gap is, what differs, and what to do."""
        ratios = self._unlike_ratios
        distances = self._distant
        clauses = []
        if ratios:
            clauses.append(f"the target is {_joined(ratios)}")
        if distances:
            verb = "differs" if distances == ["texture"] else "differ"
            clauses.append(f"{_joined(distances)} {verb}")
        advice = (
            "a model of the source may do well as it is",
            "adaptation should help",
            "adapt, and expect to annotate some patches",
        )[self._level]
        return (
            f"Domain gap: {self.size} – {', and '.join(clauses) or 'the two look alike'}: {advice}."
        )

    def in_numbers(self) -> str:
        """All measurements and their limits, for a tooltip."""
        return (
            f"Target over source: sharpness {self.sharpness:.2f}, noise {self.noise:.2f}, pixel "
            f"size {self.pixel:.2f}. Grey values differ by {self.greys:.2f}, texture by "
            f"{self.texture:.2f} of their standard deviation. A difference counts from a factor of "
            f"{_SHARPNESS:g} (sharpness), {_NOISE:g} (noise) or {_PIXEL:g} (pixel size), and from "
            f"{_GREYS:g} (grey values) or {_TEXTURE:g} (texture)."
        )


def _times(ratio: float, limit: float) -> float:
    """A ratio as a multiple of its limit, on a logarithmic scale; 1 and its inverse are alike."""
    return abs(math.log(ratio)) / math.log(limit)


def _compared(ratio: float, limit: float, more: str, less: str) -> list[str]:
    factor = max(ratio, 1 / ratio)
    return [f"{more if ratio > 1 else less} (factor {factor:.1f})"] if factor > limit else []


def _joined(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def domain_gap(source: Volume, target: Volume) -> DomainGap:
    """Compare eight windows of each volume, at most 256 x 256 pixels of the coarser pixel size."""
    size = common_pixel_size([source, target])
    of_source = Appearance.of(Resampled(source, size))
    of_target = Appearance.of(Resampled(target, size))
    return between(of_source, of_target, target.grid.pixel_size / source.grid.pixel_size)


def between(source: Appearance, target: Appearance, pixel: float = 1.0) -> DomainGap:
    """Compare two appearances, measured at one pixel size.

    Args:
        source: of one volume.
        target: of the other one.
        pixel: ratio of the pixel sizes of the volumes, target over source.
    """
    # Wasserstein-1 in one dimension is the mean distance of equal quantiles.
    distances = np.abs(np.subtract(source.quantiles, target.quantiles))
    return DomainGap(
        greys=float(distances.mean()),
        sharpness=target.sharpness / source.sharpness,
        noise=target.noise / source.noise,
        texture=frechet_between(source.texture, target.texture),
        pixel=pixel,
    )


def frechet_distance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """`frechet_between` of two samples, rows x columns; the number of rows may differ."""
    return frechet_between(Moments.of(x), Moments.of(y))


def frechet_between(one: Moments, other: Moments) -> float:
    """Compute the Frechet distance of two samples, taken as normal distributions.

    sqrt((|mean(x) - mean(y)|^2 + trace(X + Y - 2 (X Y)^1/2)) / columns), where X and Y are the
    covariances (Dowson & Landau 1982, eq. 4). All columns are divided by the common standard
    deviation of both samples.

    Returns:
        Distance per column, in standard deviations.
    """
    counts = np.array([[one.count], [other.count]], float)
    means = np.array([one.mean, other.mean])
    covariances = np.array([one.covariance, other.covariance])
    # Moments of both samples as one: the mean of the variances, and the variance of the means.
    # Covariances are unbiased, so that n - 1 of n count.
    variances = np.diagonal(covariances, axis1=1, axis2=2) * (counts - 1) / counts
    weights = counts / counts.sum()
    mean = (weights * means).sum(0)
    pooled = (weights * (variances + (means - mean) ** 2)).sum(0)
    # Columns that are constant in both samples add nothing.
    scale = np.maximum(np.sqrt(pooled), 1e-9)
    x, y = covariances / np.outer(scale, scale)
    # The trace of the root is the sum of the roots of the eigenvalues. In exact arithmetic those of
    # a product of two covariances are real and never below 0.
    eigenvalues = np.linalg.eigvals(x @ y).real.clip(0)
    trace = np.trace(x) + np.trace(y) - 2 * np.sqrt(eigenvalues).sum()
    squared = (((means[0] - means[1]) / scale) ** 2).sum() + trace
    return math.sqrt(max(float(squared), 0.0) / len(scale))

"""How far apart two volumes look, before anything is trained.

NumPy and SciPy alone, on a few windows of each volume: it runs in the viewer's process, in under a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude, gaussian_laplace

from napari_emda.data.box import Box
from napari_emda.data.intensity import in_range, section_range
from napari_emda.data.resampled import Resampled, common_pixel_size
from napari_emda.data.volume import Volume

_WINDOWS = 8
_SIDE = 256
_MOST_VOXELS = 2048
"""Side of a window in voxels, however fine they are."""
_STEPS = (0.7548776662, 0.5698402910)
"""Additive recurrence of the plastic number: windows are spread evenly over rows and columns."""
_SCALES = (1.0, 2.0, 4.0)
_GREYS, _SHARPNESS, _NOISE, _TEXTURE, _PIXEL = 0.14, 1.25, 1.5, 0.3, 2.0
"""From where on a difference counts: above what halves of one volume differ by (VNC, Lucchi, medulla), and below what
VNC and Lucchi do."""


@dataclass(frozen=True)
class DomainGap:
    """Differences between two volumes at their common pixel size; ratios are target over source, 1 where equal.

    Attributes:
        greys: distance of the standardised grey values (Wasserstein-1), in standard deviations.
        sharpness: ratio of the strength of edges of one pixel, relative to those of four pixels.
        noise: ratio of the differences between neighbouring pixels that no edge explains, relative to the contrast.
        texture: Frechet distance of the responses to Gaussian derivatives of one, two and four pixels, in standard
            deviations of a response.
        pixel: ratio of the in-plane pixel sizes.
    """

    greys: float
    sharpness: float
    noise: float
    texture: float
    pixel: float

    def in_words(self) -> str:
        """One sentence: how far apart, what differs, and what follows."""
        comparisons = [
            *_compared(self.sharpness, _SHARPNESS, "sharper", "less sharp"),
            *_compared(self.noise, _NOISE, "noisier", "less noisy"),
            *_compared(self.pixel, _PIXEL, "coarser", "finer"),
        ]
        others = [
            *(["grey values"] if self.greys > _GREYS else []),
            *(["texture"] if self.texture > _TEXTURE else []),
        ]
        clauses = [f"the target is {_listed(comparisons)}"] if comparisons else []
        clauses += (
            [f"{_listed(others)} differ{'s' if others == ['texture'] else ''}"] if others else []
        )
        size, advice = {
            0: ("small", "a model of the source may do well as it is"),
            1: ("moderate", "adaptation should help"),
        }.get(
            len(comparisons) + len(others), ("large", "adapt, and expect to annotate some patches")
        )
        return f"Domain gap: {size} – {', and '.join(clauses) or 'the two look alike'}: {advice}."

    def in_numbers(self) -> str:
        """All that was measured, for a tooltip."""
        return (
            f"Target over source: sharpness {self.sharpness:.2f}, noise {self.noise:.2f}, pixel size {self.pixel:.2f}. "
            f"Grey values differ by {self.greys:.2f}, texture by {self.texture:.2f} of their spread. What counts: "
            f"from a factor of {_SHARPNESS:g} (sharpness), {_NOISE:g} (noise) or {_PIXEL:g} (pixel size), and from "
            f"{_GREYS:g} (grey values) or {_TEXTURE:g} (texture)."
        )


def _compared(ratio: float, limit: float, more: str, less: str) -> list[str]:
    factor = max(ratio, 1 / ratio)
    return [f"{more if ratio > 1 else less} (factor {factor:.1f})"] if factor > limit else []


def _listed(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def domain_gap(source: Volume, target: Volume) -> DomainGap:
    """Compare eight windows of each volume, at most 256 x 256 pixels of the coarser pixel size."""
    size = common_pixel_size([source, target])
    a, b = (_Look.of(Resampled(volume, size)) for volume in (source, target))
    return DomainGap(
        float(np.abs(a.quantiles - b.quantiles).mean()),
        b.sharpness / a.sharpness,
        b.noise / a.noise,
        frechet_distance(a.responses, b.responses),
        target.grid.pixel_size / source.grid.pixel_size,
    )


@dataclass(frozen=True)
class _Look:
    """What is compared of one volume: quantiles, sharpness, noise, and rows of filter responses."""

    quantiles: NDArray[np.float64]
    sharpness: float
    noise: float
    responses: NDArray[np.float64]

    @classmethod
    def of(cls, view: Resampled) -> _Look:
        windows = _windows(view)
        content = windows[
            windows != 0
        ]  # zeros of a volume are padding where there are many, as in training
        fields = view.volume.grid.sections_are_independent
        padded = not fields and 0 < content.size < 0.99 * windows.size
        content = content if padded else windows
        windows = (windows - content.mean()) / max(float(content.std()), 1e-6)
        edges = np.stack(
            [[gaussian_gradient_magnitude(w, sigma) for w in windows] for sigma in _SCALES]
        )
        blobs = np.stack([[gaussian_laplace(w, sigma) for w in windows] for sigma in _SCALES])
        smooth = gaussian_filter(windows, (0, 2, 2))[None]
        fine, _, coarse = np.sqrt((edges**2).mean((1, 2, 3)))
        # neighbours are alike: every fourth pixel tells as much
        responses = np.concatenate([np.log(edges + 0.02), blobs, smooth])[..., ::4, ::4]
        levels = np.linspace(0.005, 0.995, 199)
        quantiles = (np.quantile(content, levels) - content.mean()) / max(
            float(content.std()), 1e-6
        )
        sharpness = max(float(fine), 1e-6) / max(float(coarse), 1e-6)
        return cls(
            quantiles,
            sharpness,
            _noise(windows),
            responses.reshape(len(responses), -1).T.astype(np.float64),
        )


def _noise(windows: NDArray[np.float32]) -> float:
    """Standard deviation of what is left when what varies along rows or columns alone is taken away."""
    if min(windows.shape[1:]) < 2:
        return 1.0
    left = np.diff(np.diff(windows, axis=1), axis=2)
    return max(float(np.abs(left).mean()) * math.sqrt(math.pi / 2) / 2, 1e-3)


def _windows(view: Resampled) -> NDArray[np.float32]:
    """Pieces of sections from all over the volume, n x side x side; independent images each in their own range."""
    sections, *extent = view.shape
    side = min(_SIDE, *extent, max(1, int(_MOST_VOXELS * min(view.scale))))
    found = []
    for i in range(_WINDOWS):
        z = round((sections - 1) * i / (_WINDOWS - 1))
        y, x = (
            int((n - side + 1) * ((0.5 + i * step) % 1))
            for n, step in zip(extent, _STEPS, strict=True)
        )
        window = view.read(Box((z, y, x), (z + 1, y + side, x + side))).astype(
            np.float32, copy=True
        )
        if view.volume.grid.sections_are_independent:
            in_range(window, (section_range(view, z),))
        found.append(window[0])
    return np.nan_to_num(np.stack(found), nan=0.0, posinf=0.0, neginf=0.0)


def frechet_distance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Distance of two samples taken as normal distributions, per column, in standard deviations of both together.

    Square root of (|mean(x) - mean(y)|^2 + trace(X + Y - 2 (X Y)^1/2)) / columns, X and Y the covariances of the
    columns divided by their common standard deviation (Dowson & Landau 1982, eq. 4).
    """
    scale = np.maximum(np.concatenate([x, y]).std(0), 1e-9)
    x, y = x / scale, y / scale
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # the trace of the root of a product of covariances is the sum of the roots of its eigenvalues, none below 0
    root = np.sqrt(np.linalg.eigvals(a @ b).real.clip(0)).sum()
    squared = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * root
    return math.sqrt(max(float(squared), 0.0) / x.shape[1])

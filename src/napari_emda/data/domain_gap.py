"""How much two volumes differ in appearance, before anything is trained.

It only uses NumPy and SciPy and a few windows of each volume, because it runs in the viewer's
process. There it takes less than a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    distance_transform_edt,
    gaussian_filter,
    gaussian_gradient_magnitude,
    gaussian_laplace,
)

from napari_emda.data.blocks import R2_STEPS
from napari_emda.data.box import Box
from napari_emda.data.intensity import in_range, is_padded, limits_of, section_range
from napari_emda.data.padding import is_padding, padding_and_rim, padding_of
from napari_emda.data.resampled import Resampled, common_pixel_size
from napari_emda.data.volume import Volume

# Windows of each volume and their side in pixels: half a million pixels, which are filtered in less
# than a second.
_WINDOWS = 8
_SIDE = 256
# Side of a window in voxels. A volume with very fine voxels would otherwise be read in large parts
# to fill a window of the coarser pixel size.
_MOST_VOXELS = 2048
# Standard deviations of the Gaussian filters, in pixels.
_SCALES = (1.0, 2.0, 4.0)

# Limits above which a difference counts. They lie above the differences between halves of one
# volume (VNC, Lucchi, medulla) and below those between VNC and Lucchi. The first and the fourth are
# distances, the others ratios.
_GREYS = 0.14
_SHARPNESS = 1.25
_NOISE = 1.5
_TEXTURE = 0.3
_PIXEL = 2.0

# Blank and tiny images: keeps ratios finite.
_LEAST = 1e-6


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

    def in_words(self) -> str:
        """One sentence: how large the gap is, what differs, and what to do."""
        ratios = [
            *_compared(self.sharpness, _SHARPNESS, "sharper", "less sharp"),
            *_compared(self.noise, _NOISE, "noisier", "less noisy"),
            *_compared(self.pixel, _PIXEL, "coarser", "finer"),
        ]
        distances = []
        if self.greys > _GREYS:
            distances.append("grey values")
        if self.texture > _TEXTURE:
            distances.append("texture")
        clauses = []
        if ratios:
            clauses.append(f"the target is {_joined(ratios)}")
        if distances:
            verb = "differs" if distances == ["texture"] else "differ"
            clauses.append(f"{_joined(distances)} {verb}")
        level = min(len(ratios) + len(distances), 2)
        size = ("small", "moderate", "large")[level]
        advice = (
            "a model of the source may do well as it is",
            "adaptation should help",
            "adapt, and expect to annotate some patches",
        )[level]
        return f"Domain gap: {size} – {', and '.join(clauses) or 'the two look alike'}: {advice}."

    def in_numbers(self) -> str:
        """All measurements and their limits, for a tooltip."""
        return (
            f"Target over source: sharpness {self.sharpness:.2f}, noise {self.noise:.2f}, pixel "
            f"size {self.pixel:.2f}. Grey values differ by {self.greys:.2f}, texture by "
            f"{self.texture:.2f} of their standard deviation. A difference counts from a factor of "
            f"{_SHARPNESS:g} (sharpness), {_NOISE:g} (noise) or {_PIXEL:g} (pixel size), and from "
            f"{_GREYS:g} (grey values) or {_TEXTURE:g} (texture)."
        )


def _compared(ratio: float, limit: float, more: str, less: str) -> list[str]:
    factor = max(ratio, 1 / ratio)
    return [f"{more if ratio > 1 else less} (factor {factor:.1f})"] if factor > limit else []


def _joined(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def domain_gap(source: Volume, target: Volume) -> DomainGap:
    """Compare eight windows of each volume, at most 256 x 256 pixels of the coarser pixel size."""
    size = common_pixel_size([source, target])
    of_source = _Appearance.of(Resampled(source, size))
    of_target = _Appearance.of(Resampled(target, size))
    return DomainGap(
        # Wasserstein-1 in one dimension is the mean distance of equal quantiles.
        greys=float(np.abs(of_source.quantiles - of_target.quantiles).mean()),
        sharpness=of_target.sharpness / of_source.sharpness,
        noise=of_target.noise / of_source.noise,
        texture=frechet_distance(of_source.responses, of_target.responses),
        pixel=target.grid.pixel_size / source.grid.pixel_size,
    )


@dataclass(frozen=True)
class _Appearance:
    """What is compared of one volume.

    Attributes:
        quantiles: of the standardised grey values.
        sharpness: strength of fine edges relative to coarse ones.
        noise: standard deviation of the noise, relative to that of the grey values.
        responses: of the filters, pixels x filters.
    """

    quantiles: NDArray[np.float64]
    sharpness: float
    noise: float
    responses: NDArray[np.float64]

    @classmethod
    def of(cls, view: Resampled) -> _Appearance:
        windows = _windows(view)
        content = windows
        # As in training: padding would dominate all measurements.
        if not view.volume.grid.sections_are_independent and is_padded(windows):
            content = windows[windows != 0]
        greys = padding_of(view.volume)
        inside = content[~is_padding(content, greys)]
        content = inside if inside.size else content
        windows, tissue = _without_padding(windows, greys)
        if (limits := limits_of(content)) is not None:
            windows = windows.clip(*limits)
            content = content.clip(*limits)
        mean = content.mean()
        deviation = max(float(content.std()), _LEAST)
        # Half a percent at both ends is left out: saturated pixels say nothing about the tissue.
        quantiles = (np.quantile(content, np.linspace(0.005, 0.995, 199)) - mean) / deviation
        windows = (windows - mean) / deviation
        edges = np.stack(
            [[gaussian_gradient_magnitude(w, sigma) for w in windows] for sigma in _SCALES]
        )
        blobs = np.stack([[gaussian_laplace(w, sigma) for w in windows] for sigma in _SCALES])
        smooth = gaussian_filter(windows, (0, 2, 2))[None]
        fine, _, coarse = np.sqrt((edges[:, tissue] ** 2).mean(1))
        # The distance takes responses as normal. Gradients are never negative; the logarithm brings
        # them closer to that, and 0.02 keeps it finite. Neighbouring pixels are alike, so every
        # fourth along rows and columns is enough.
        responses = np.concatenate([np.log(edges + 0.02), blobs, smooth])[..., ::4, ::4]
        return cls(
            quantiles,
            max(float(fine), _LEAST) / max(float(coarse), _LEAST),
            _noise(windows, tissue),
            responses[:, tissue[:, ::4, ::4]].T.astype(np.float64),
        )


def _without_padding(
    windows: NDArray[np.float32], greys: tuple[float, ...]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Windows (n x side x side) without padding, and which of their pixels are tissue.

    A border of padding would be the sharpest edge of all, and its inside has no texture. So the
    filters see the nearest tissue there, and what they answer in it does not count.
    """
    tissue = ~np.stack([padding_and_rim(window, greys) for window in windows])
    # The responses of every fourth pixel are compared.
    if not tissue[:, ::4, ::4].any():
        return windows, np.ones_like(tissue)
    filled = windows.copy()
    for window, inside in zip(filled, tissue, strict=True):
        if inside.any() and not inside.all():
            nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
            window[...] = window[tuple(nearest)]
    return filled, tissue


def _noise(windows: NDArray[np.float32], tissue: NDArray[np.bool_]) -> float:
    """Standard deviation of white noise in tissue, from mixed second differences.

    Args:
        windows: n x side x side.
        tissue: which pixels count, of the same shape.
    """
    # A difference needs two pixels; 1 means that the noise is not compared.
    if min(windows.shape[1:]) < 2:
        return 1.0
    # Differences along rows and then columns remove all edges that run along one of them. Each is a
    # sum of four pixels, so its deviation is twice that of the noise; sqrt(pi / 2) turns a mean
    # absolute value into a standard deviation.
    differences = np.diff(np.diff(windows, axis=1), axis=2)
    counted = np.abs(differences)[tissue[:, 1:, 1:] & tissue[:, :-1, :-1]]
    # Specks of tissue in padding have no neighbours to compare.
    if not counted.size:
        return 1.0
    noise = float(counted.mean()) * math.sqrt(math.pi / 2) / 2
    # A thousandth of the contrast: less cannot be seen, and the ratio of two noises stays finite.
    return max(noise, 1e-3)


def _windows(view: Resampled) -> NDArray[np.float32]:
    """Windows from all over the volume, n x side x side.

    Independent images are scaled to their own range each.
    """
    sections, *extent = view.shape
    side = min(_SIDE, *extent, max(1, int(_MOST_VOXELS * min(view.scale))))
    windows = []
    for i in range(_WINDOWS):
        z = round((sections - 1) * i / (_WINDOWS - 1))
        y, x = (
            int((n - side + 1) * ((0.5 + i * step) % 1))
            for n, step in zip(extent, R2_STEPS, strict=True)
        )
        window = view.read(Box((z, y, x), (z + 1, y + side, x + side)))
        window = window.astype(np.float32, copy=True)
        if view.volume.grid.sections_are_independent:
            in_range(window, (section_range(view, z),))
        windows.append(window[0])
    # Broken voxels become 0 like padding; a single NaN would spoil every measurement.
    return np.nan_to_num(np.stack(windows), nan=0.0, posinf=0.0, neginf=0.0)


def frechet_distance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Compute the Frechet distance of two samples, taken as normal distributions.

    sqrt((|mean(x) - mean(y)|^2 + trace(X + Y - 2 (X Y)^1/2)) / columns), where X and Y are the
    covariances (Dowson & Landau 1982, eq. 4). All columns are divided by the common standard
    deviation of both samples.

    Args:
        x: rows x columns.
        y: rows x columns; the number of rows may differ.

    Returns:
        Distance per column, in standard deviations.
    """
    # Columns that are constant in both samples add nothing.
    scale = np.maximum(np.concatenate([x, y]).std(0), 1e-9)
    x = x / scale
    y = y / scale
    covariance_x = np.cov(x, rowvar=False)
    covariance_y = np.cov(y, rowvar=False)
    # The trace of the root is the sum of the roots of the eigenvalues. In exact arithmetic those of
    # a product of two covariances are real and never below 0.
    eigenvalues = np.linalg.eigvals(covariance_x @ covariance_y).real.clip(0)
    trace = np.trace(covariance_x) + np.trace(covariance_y) - 2 * np.sqrt(eigenvalues).sum()
    squared = ((x.mean(0) - y.mean(0)) ** 2).sum() + trace
    return math.sqrt(max(float(squared), 0.0) / x.shape[1])

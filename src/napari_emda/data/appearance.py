"""How a volume looks: its grey values, sharpness, noise and texture, in a few hundred numbers.

It only uses NumPy and SciPy and a few windows of the volume, because it runs in the viewer's
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
from napari_emda.data.resampled import Resampled

# Windows of each volume and their side in pixels: half a million pixels, which are filtered in less
# than a second.
_WINDOWS = 8
_SIDE = 256
# Side of a window in voxels. A volume with very fine voxels would otherwise be read in large parts
# to fill a window of the coarser pixel size.
_MOST_VOXELS = 2048
# Standard deviations of the Gaussian filters, in pixels.
_SCALES = (1.0, 2.0, 4.0)
# Gradients and Laplacians at each scale, and the image smoothed once.
FILTERS = 2 * len(_SCALES) + 1
# Half a percent at both ends is left out: saturated pixels say nothing about the tissue.
LEVELS = np.linspace(0.005, 0.995, 199)

# Blank and tiny images: keeps ratios finite.
_LEAST = 1e-6


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of a sample of rows, and their number.

    Attributes:
        count: rows.
        mean: by column.
        covariance: unbiased, columns x columns.
    """

    count: int
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, rows: NDArray[np.float64]) -> Moments:
        """Those of rows x columns."""
        covariance = np.atleast_2d(np.cov(rows, rowvar=False))
        return cls(len(rows), tuple(rows.mean(0).tolist()), tuple(map(tuple, covariance.tolist())))

    def check(self, columns: int) -> None:
        """Check values that come from a file; ValueError if they cannot be right."""
        covariance = np.array(self.covariance)
        if (
            self.count < 1
            or len(self.mean) != columns
            or covariance.shape != (columns, columns)
            or not np.isfinite(covariance).all()
            or not all(map(math.isfinite, self.mean))
        ):
            raise ValueError("The texture cannot be right")


@dataclass(frozen=True)
class Appearance:
    """What is compared of one volume, seen at one pixel size.

    Attributes:
        quantiles: of the standardised grey values, at `LEVELS`.
        sharpness: strength of fine edges relative to coarse ones.
        noise: standard deviation of the noise, relative to that of the grey values.
        texture: moments of the responses of pixels to Gaussian derivatives.
    """

    quantiles: tuple[float, ...]
    sharpness: float
    noise: float
    texture: Moments

    def check(self) -> None:
        """Check values that come from a file; ValueError if they cannot be right."""
        numbers = [self.sharpness, self.noise, *self.quantiles]
        if (
            len(self.quantiles) != len(LEVELS)
            or not all(map(math.isfinite, numbers))
            or min(self.sharpness, self.noise) <= 0
        ):
            raise ValueError("The appearance cannot be right")
        self.texture.check(FILTERS)

    @classmethod
    def of(cls, view: Resampled) -> Appearance:
        """Measure eight windows of at most 256 x 256 pixels."""
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
        quantiles = (np.quantile(content, LEVELS) - mean) / deviation
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
            tuple(quantiles.tolist()),
            max(float(fine), _LEAST) / max(float(coarse), _LEAST),
            _noise(windows, tissue),
            Moments.of(responses[:, tissue[:, ::4, ::4]].T.astype(np.float64)),
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

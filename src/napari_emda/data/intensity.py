"""Grey values: what is measured of a volume, and how its images are standardised for a network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.blocks import spread
from napari_emda.data.box import Box
from napari_emda.data.resampled import Resampled
from napari_emda.errors import DataError

QUANTILES = 513
PERCENTILES = (1.0, 99.0)
"""Of an independent image, that become 0 and 1 before all images are standardised alike."""
_SAMPLED_PIXELS = 2_000_000
_WINDOWS, _WINDOW = 4, 1024
"""Of an independent image that is larger than one, from which its percentiles are taken."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Statistics:
    """Grey values of a volume at the common pixel size: ``mean`` and ``std``, and 513 ``quantiles`` standardised.

    Of a stack of independent images, whose exposures differ, every image is first brought to its own range: its 1st
    percentile becomes 0, its 99th 1, as in Cellpose (Stringer et al. 2021). Mean, std and quantiles are then those of
    the images so changed.

    Attributes:
        mean, std: subtracted, and divided by.
        quantiles: standardised grey values at equal levels from 0 to 1.
        padded: exact zeros are padding, of which mean, std and quantiles know nothing.
        ranges: 1st and 99th percentile of each section; empty where the sections are one volume's.
    """

    mean: float
    std: float
    quantiles: tuple[float, ...]
    padded: bool = False
    ranges: tuple[Range, ...] = ()

    def read(self, view: Resampled, box: Box) -> NDArray[np.float32]:
        """Standardised grey values of a box, (z, y, x), mirrored outside the volume."""
        return self.standardise(view.read(box).astype(np.float32, copy=True), box.start[0])

    def standardise(self, image: NDArray[np.float32], first: int = 0) -> NDArray[np.float32]:
        """(image - mean) / std of sections (z, y, x), of which ``first`` is the first, in place."""
        if self.ranges:
            in_range(image, self.ranges[first : first + len(image)])
        image -= np.float32(self.mean)
        image /= np.float32(self.std)
        return image

    def of_section(self, z: int) -> Statistics:
        """The same for a volume that is one section of this one."""
        return replace(self, ranges=self.ranges[z : z + 1])


def in_range(image: NDArray[np.float32], ranges: tuple[Range, ...]) -> None:
    """Bring each of the sections (z, y, x) from its range to 0 to 1, in place."""
    low, high = np.array(ranges, np.float32).T[..., None, None]
    image -= low
    image /= high - low


def measure(
    view: Resampled, box: Box | None = None, seed: int = 0, *, apart: bool | None = None
) -> Statistics:
    """Mean, standard deviation and quantiles of a volume's grey values, from at most two million pixels.

    Exact zeros of a volume count as padding, and are left out, when they make up more than one pixel in a hundred.

    Args:
        view: the volume at the pixel size of the network.
        box: the part to measure; ranges of independent images are those of whole images, and of all.
        seed: of the places.
        apart: whether every section has a range of its own; by default where sections are independent.

    Raises:
        DataError: there is one grey value only.
    """
    if apart is None:
        apart = view.volume.grid.sections_are_independent
    ranges = tuple(section_range(view, z) for z in range(view.shape[0])) if apart else ()
    values = _sampled(view, box or Box.whole(view.shape), ranges, seed)
    content = values[values != 0]
    padded = not apart and 0 < content.size < 0.99 * values.size
    if padded:
        values = content
    mean, std = float(values.mean()), float(values.std())
    if not std > 0:
        raise DataError(
            f"The image of '{view.volume.name}' has one grey value only: choose another layer or file."
        )
    quantiles = (np.quantile(values, np.linspace(0, 1, QUANTILES)) - mean) / std
    return Statistics(mean, std, tuple(quantiles.tolist()), padded, ranges)


def section_range(view: Resampled, z: int) -> Range:
    """1st and 99th percentile of a section; its extremes where these are one (a dark field with few, small things)."""
    section = Box((z, 0, 0), (z + 1, *view.shape[1:]))
    values = np.concatenate(
        [view.read(window).ravel() for window in spread(section, _WINDOWS, _WINDOW)]
    )
    low, high = np.percentile(values, PERCENTILES)
    if low == high:
        low, high = values.min(), values.max()
    return float(low), float(high) if high > low else float(low) + 1.0


def _sampled(
    view: Resampled, box: Box, ranges: tuple[Range, ...], seed: int
) -> NDArray[np.float32]:
    """Grey values from windows in evenly spaced sections, each in its range where there are any."""
    rng = np.random.default_rng(seed)
    window = tuple(min(256, n) for n in box.shape[1:])
    count = max(
        1, min(256, box.size // (window[0] * window[1]), _SAMPLED_PIXELS // (window[0] * window[1]))
    )
    pieces = []
    for z in np.linspace(box.start[0], box.stop[0] - 1, count).round().astype(int).tolist():
        y, x = (
            int(rng.integers(a, b - n + 1))
            for a, b, n in zip(box.start[1:], box.stop[1:], window, strict=True)
        )
        piece = view.read(Box((z, y, x), (z + 1, y + window[0], x + window[1]))).astype(
            np.float32, copy=True
        )
        if ranges:
            in_range(piece, ranges[z : z + 1])
        pieces.append(piece.ravel())
    return np.concatenate(pieces)

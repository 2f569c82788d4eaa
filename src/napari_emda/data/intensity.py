"""Grey values: their statistics, and how images are standardised for a network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.blocks import spread
from napari_emda.data.box import Box
from napari_emda.data.padding import PADDED_SHARE, is_padding, padding_of
from napari_emda.data.resampled import Resampled
from napari_emda.errors import DataError

# Stored quantiles of the grey values: 512 equal steps, twice the levels of an 8-bit image.
QUANTILES = 513
# Percentiles of an independent image that become 0 and 1, as in Cellpose (Stringer et al. 2021).
# Minimum and maximum would depend on single bright pixels.
PERCENTILES = (1.0, 99.0)
# Pixels from which statistics are measured, however large the volume: 8 MB of float32.
_SAMPLED_PIXELS = 2_000_000
# Side of the windows that are sampled from a volume: large enough that a chunk on disk is not read
# for a few pixels, small enough that windows lie in up to 30 sections.
_SAMPLE_SIDE = 256
# The percentiles of a large independent image are measured in this many windows of this side.
_RANGE_WINDOWS = 4
_RANGE_SIDE = 1024
# Grey values that lie further from these percentiles than so many times their distance are those of
# broken pixels: no tissue is twelve standard deviations from the mean.
_REACH = 2.0

Range = tuple[float, float]
"""Grey values that become 0 and 1."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of a volume's grey values at the common pixel size.

    Independent images differ in exposure, so each is first scaled to its own range: its 1st
    percentile becomes 0, its 99th becomes 1 (as in Cellpose, Stringer et al. 2021). Mean, standard
    deviation and quantiles are then those of the scaled images.

    Attributes:
        mean: subtracted.
        std: divided by.
        quantiles: standardised grey values at `QUANTILES` equal levels from 0 to 1.
        padded: exact zeros are padding, which mean, std and quantiles leave out.
        ranges: 1st and 99th percentile of each section; empty for a stack of one volume.
        limits: grey values beyond them, of broken pixels, become the limits, and mean, std and
            quantiles leave them out; they apply after ``ranges``. None in models of versions that
            took all pixels.
        padding: grey values of constant borders, see `data.padding.padding_of`, which mean, std and
            quantiles leave out.
    """

    mean: float
    std: float
    quantiles: tuple[float, ...]
    padded: bool = False
    ranges: tuple[Range, ...] = ()
    limits: Range | None = None
    padding: tuple[float, ...] = ()

    def check(self) -> None:
        """Check values that come from a file.

        Raises:
            ValueError: one of them is not finite, or the standard deviation is not positive.
        """
        ranges = [*self.ranges, *([self.limits] if self.limits else [])]
        numbers = [self.mean, self.std, *self.quantiles, *self.padding, *sum(ranges, ())]
        if not all(map(math.isfinite, numbers)) or self.std <= 0:
            raise ValueError("The grey values cannot be right")

    def read(self, view: Resampled, box: Box) -> NDArray[np.float32]:
        """Standardised grey values of a box, (z, y, x), mirrored outside the volume."""
        return self.standardise(view.read(box).astype(np.float32, copy=True), box.start[0])

    def standardise(self, image: NDArray[np.float32], first: int = 0) -> NDArray[np.float32]:
        """Clip to the limits, and compute (image - mean) / std in place.

        Args:
            image: sections (z, y, x).
            first: index of the first of them, for its range.
        """
        if self.ranges:
            in_range(image, self.ranges[first : first + len(image)])
        if self.limits is not None:
            np.clip(image, *self.limits, out=image)
        image -= np.float32(self.mean)
        image /= np.float32(self.std)
        return image

    def of_section(self, z: int) -> Statistics:
        """The same for a volume that is one section of this one."""
        return replace(self, ranges=self.ranges[z : z + 1])


def in_range(image: NDArray[np.float32], ranges: tuple[Range, ...]) -> None:
    """Scale each of the sections (z, y, x) from its range to 0 ... 1, in place."""
    low, high = np.array(ranges, np.float32).T[..., None, None]
    image -= low
    image /= high - low


def measure(
    view: Resampled, box: Box | None = None, seed: int = 0, *, apart: bool | None = None
) -> Statistics:
    """Measure the grey values of a volume, from at most two million pixels.

    Exact zeros of a volume count as padding, and are left out, if they are more than one pixel in a
    hundred; so are constant borders, and pixels far beyond all others.

    Args:
        view: the volume at the pixel size of the network.
        box: the part to measure; ranges of independent images are always those of all whole images.
        seed: of the places that are sampled.
        apart: whether every section has a range of its own; by default if sections are independent.

    Raises:
        DataError: there is one grey value only.
    """
    if apart is None:
        apart = view.volume.grid.sections_are_independent
    ranges = tuple(section_range(view, z) for z in range(view.shape[0])) if apart else ()
    values = _sampled(view, box or Box.whole(view.shape), ranges, seed)
    if padded := not apart and is_padded(values):
        values = values[values != 0]
    padding = padding_of(view.volume)
    content = values[~is_padding(values, padding)]
    # Of a drawing, all pixels may be as constant as padding.
    values = content if content.size else values
    limits = limits_of(values)
    if limits is not None:
        values = values[(values >= limits[0]) & (values <= limits[1])]
    mean = float(values.mean())
    std = float(values.std())
    # Written this way round to refuse NaN, too.
    if not std > 0:
        raise DataError(
            f"The image of '{view.volume.name}' has one grey value only: choose another layer or "
            "file."
        )
    quantiles = (np.quantile(values, np.linspace(0, 1, QUANTILES)) - mean) / std
    return Statistics(mean, std, tuple(quantiles.tolist()), padded, ranges, limits, padding)


def is_padded(values: NDArray[np.float32]) -> bool:
    """Whether so many grey values are exactly 0 that they are padding, though not all."""
    content = int(np.count_nonzero(values))
    return 0 < content < (1 - PADDED_SHARE) * values.size


def limits_of(values: NDArray[np.float32]) -> Range | None:
    """The lowest and highest grey value that tissue can have; None if most values are equal.

    Twice the distance of the 1st and the 99th percentile beyond both: a hot pixel of a 16-bit
    camera lies a hundred times further away, and in images without broken pixels nothing does.
    """
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    # In a dark field with few small objects, both percentiles are the background.
    if low == high:
        return None
    reach = _REACH * (high - low)
    return low - reach, high + reach


def section_range(view: Resampled, z: int) -> Range:
    """1st and 99th percentile of a section; minimum and maximum if they are equal."""
    section = Box((z, 0, 0), (z + 1, *view.shape[1:]))
    windows = spread(section, _RANGE_WINDOWS, _RANGE_SIDE)
    values = np.concatenate([view.read(window).ravel() for window in windows])
    low, high = np.percentile(values, PERCENTILES)
    # In a dark field with few small objects, both percentiles are the background.
    if low == high:
        low = values.min()
        high = values.max()
    # A blank image has no range; any width keeps it finite.
    return float(low), float(high) if high > low else float(low) + 1.0


def _sampled(
    view: Resampled, box: Box, ranges: tuple[Range, ...], seed: int
) -> NDArray[np.float32]:
    """Grey values from random windows in evenly spaced sections, scaled to ``ranges`` if any."""
    rng = np.random.default_rng(seed)
    z0, y0, x0 = box.start
    z1, y1, x1 = box.stop
    height, width = (min(_SAMPLE_SIDE, n) for n in box.shape[1:])
    # At most 256 windows, because small ones would otherwise be read by the thousand.
    count = max(1, min(256, min(box.size, _SAMPLED_PIXELS) // (height * width)))
    samples = []
    for z in np.linspace(z0, z1 - 1, count).round().astype(int).tolist():
        y = int(rng.integers(y0, y1 - height + 1))
        x = int(rng.integers(x0, x1 - width + 1))
        window = view.read(Box((z, y, x), (z + 1, y + height, x + width)))
        window = window.astype(np.float32, copy=True)
        if ranges:
            in_range(window, ranges[z : z + 1])
        samples.append(window.ravel())
    return np.concatenate(samples)

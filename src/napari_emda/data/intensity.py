"""Grey values: their statistics, and how images are standardised for a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from napari_emda.data.blocks import spread
from napari_emda.data.box import Box
from napari_emda.data.padding import PADDED_SHARE, is_padding, padding_of
from napari_emda.data.resampled import Resampled
from napari_emda.data.spectrum import (
    REACH,
    Kernel,
    Spectrum,
    check_kernel,
    filtered,
    kernel_to,
    patches_of,
    spectrum_of,
)
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
        kernel: of the filter to the common spectrum (`data.spectrum`), which applies to the
            standardised image; mean, std and quantiles are those of the filtered image. Empty for
            none.
    """

    mean: float
    std: float
    quantiles: tuple[float, ...]
    padded: bool = False
    ranges: tuple[Range, ...] = ()
    limits: Range | None = None
    padding: tuple[float, ...] = ()
    kernel: Kernel = ()

    @property
    def border_greys(self) -> tuple[float, ...]:
        """Grey values of all padding, in ascending order."""
        return tuple(sorted({*self.padding, *[0.0] * self.padded}))

    def check(self) -> None:
        """Check values that come from a file.

        Raises:
            ValueError: one of them is not finite, the standard deviation is not positive, or the
                filter is none.
        """
        check_kernel(self.kernel)
        ranges = [*self.ranges, *([self.limits] if self.limits else [])]
        numbers = [self.mean, self.std, *self.quantiles, *self.padding, *sum(ranges, ())]
        if not all(map(math.isfinite, numbers)) or self.std <= 0:
            raise ValueError("The grey values cannot be right")

    def read(self, view: Resampled, box: Box) -> NDArray[np.float32]:
        """Standardised grey values of a box, (z, y, x), mirrored outside the volume."""
        values = view.read(box.grown(self.reach)).astype(np.float32, copy=True)
        image = self.standardise(values, box.start[0])
        return filtered(image, self.kernel) if self.kernel else image

    @property
    def reach(self) -> int:
        """Pixels around a box that change its standardised grey values."""
        return REACH if self.kernel else 0

    def standardise(self, image: NDArray[np.float32], first: int = 0) -> NDArray[np.float32]:
        """Clip to the limits, and compute (image - mean) / std in place, without the filter.

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


@dataclass(frozen=True)
class GreySample:
    """Grey values from all over a volume, of which its statistics and its spectrum are measured.

    Exact zeros of a volume count as padding if they are more than one pixel in a hundred.

    Attributes:
        volume: name of the volume.
        windows: parts of sections (rows, columns), scaled to ``ranges`` if there are any.
        padded, ranges, limits, padding: see `Statistics`.
    """

    volume: str
    windows: tuple[NDArray[np.float32], ...]
    padded: bool
    ranges: tuple[Range, ...]
    limits: Range | None
    padding: tuple[float, ...]

    @classmethod
    def of(
        cls, view: Resampled, box: Box | None = None, seed: int = 0, *, apart: bool | None = None
    ) -> GreySample:
        """Read at most two million pixels; the arguments are those of `measure`."""
        if apart is None:
            apart = view.volume.grid.sections_are_independent
        ranges = tuple(section_range(view, z) for z in range(view.shape[0])) if apart else ()
        windows = _windows(view, box or Box.whole(view.shape), ranges, seed)
        values = np.concatenate([window.ravel() for window in windows])
        padded = not apart and is_padded(values)
        sample = cls(view.volume.name, windows, padded, ranges, None, padding_of(view.volume))
        return replace(sample, limits=limits_of(sample._tissue(windows, sample._outside)))

    def statistics(self, kernel: Kernel = ()) -> Statistics:
        """Statistics of the grey values, filtered if there is a kernel; errors as of `measure`."""
        windows = self.windows
        outside = self._outside
        if kernel:
            windows = tuple(self._filtered(window, kernel) for window in windows)
            # Padding has changed the pixels beside it.
            outside = tuple(maximum_filter(mask, 2 * REACH + 1) for mask in outside)
        values = self._tissue(windows, outside)
        if self.limits is not None and not kernel:
            values = values[(values >= self.limits[0]) & (values <= self.limits[1])]
        mean = float(values.mean())
        std = float(values.std())
        # Written this way round to refuse NaN, too.
        if not std > 0:
            raise DataError(
                f"The image of '{self.volume}' has one grey value only: choose another layer or "
                "file."
            )
        quantiles = (np.quantile(values, np.linspace(0, 1, QUANTILES)) - mean) / std
        return Statistics(
            mean,
            std,
            tuple(quantiles.tolist()),
            self.padded,
            self.ranges,
            self.limits,
            self.padding,
            kernel,
        )

    def spectrum(self) -> Spectrum:
        """Mean power by frequency, see `data.spectrum`."""
        windows = [self._clipped(window) for window in self.windows]
        return spectrum_of(patches_of(windows, self._outside))

    @property
    def _outside(self) -> tuple[NDArray[np.bool_], ...]:
        """Which pixels of each window are padding."""
        return tuple(
            is_padding(window, self.padding) | (self.padded & (window == 0))
            for window in self.windows
        )

    @staticmethod
    def _tissue(
        windows: Sequence[NDArray[np.float32]], outside: Sequence[NDArray[np.bool_]]
    ) -> NDArray[np.float32]:
        values = np.concatenate([window.ravel() for window in windows])
        content = values[~np.concatenate([mask.ravel() for mask in outside])]
        # Of a drawing, all pixels may be as constant as padding.
        return content if content.size else values

    def _clipped(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        return window if self.limits is None else np.clip(window, *self.limits)

    def _filtered(self, window: NDArray[np.float32], kernel: Kernel) -> NDArray[np.float32]:
        around = np.pad(self._clipped(window), REACH, mode="symmetric")
        return filtered(around[None], kernel)[0]


def measure(
    view: Resampled,
    box: Box | None = None,
    seed: int = 0,
    *,
    apart: bool | None = None,
    common: Spectrum = (),
) -> Statistics:
    """Measure the grey values of a volume, from at most two million pixels.

    Exact zeros of a volume count as padding, and are left out, if they are more than one pixel in a
    hundred; so are constant borders, and pixels far beyond all others.

    Args:
        view: the volume at the pixel size of the network.
        box: the part to measure; ranges of independent images are always those of all whole images.
        seed: of the places that are sampled.
        apart: whether every section has a range of its own; by default if sections are independent.
        common: the spectrum to which the volume is filtered; empty to leave it as it is.

    Raises:
        DataError: there is one grey value only.
    """
    sample = GreySample.of(view, box, seed, apart=apart)
    return sample.statistics(kernel_to(common, sample.spectrum()) if common else ())


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


def _windows(
    view: Resampled, box: Box, ranges: tuple[Range, ...], seed: int
) -> tuple[NDArray[np.float32], ...]:
    """Random windows in evenly spaced sections, (rows, columns), scaled to ``ranges`` if any."""
    rng = np.random.default_rng(seed)
    z0, y0, x0 = box.start
    z1, y1, x1 = box.stop
    height, width = (min(_SAMPLE_SIDE, n) for n in box.shape[1:])
    # At most 256 windows, because small ones would otherwise be read by the thousand.
    count = max(1, min(256, min(box.size, _SAMPLED_PIXELS) // (height * width)))
    windows = []
    for z in np.linspace(z0, z1 - 1, count).round().astype(int).tolist():
        y = int(rng.integers(y0, y1 - height + 1))
        x = int(rng.integers(x0, x1 - width + 1))
        window = view.read(Box((z, y, x), (z + 1, y + height, x + width)))
        window = window.astype(np.float32, copy=True)
        if ranges:
            in_range(window, ranges[z : z + 1])
        windows.append(window[0])
    return tuple(windows)

"""Regions around a pixel of a section, one for each threshold of a map, and the one that fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import reconstruction

from napari_emda.data.probabilities import CERTAIN, LEVELS

Mask = NDArray[np.bool_]
Pixel = tuple[int, int]

# Rows and columns on each side of the seed that are flooded: an organelle at any usual pixel size,
# and few enough for a preview that follows the mouse (6 ms in Lucchi, at most 26).
_REACH = 160
# Who clicks beside the ridge of a faint object means that object: the seed is the highest pixel
# within so many rows and columns.
_NEAR = 2
# Fewest pixels of a region: a single pixel has the steepest outline of all by chance.
_FEWEST = 8
# Stored probabilities, of 255, below which differences are rounding and noise rather than outlines.
# Of objects that a model had missed in Lucchi (`auto` from VNC, 20 nm pixels), the thresholds gave
# an IoU of .636 with it, .548 with half a level, .58 with 32; the best thresholds of all .721.
_FLAT = 4
# Neighbours of a pixel: as of objects, those at its sides.
_CROSS = ndimage.generate_binary_structure(2, 1)
# The next threshold is the one at which the region is this much larger, so that every step is seen.
_STEP = 1.12


@dataclass(frozen=True)
class Flood:
    """The regions around a seed.

    Attributes:
        levels: uint8 (y, x): the highest threshold at which a pixel is connected with the seed by
            pixels that reach it; 0 if there is none.
        thresholds: falling, so that each region contains the one before.
        best: index of the threshold whose outline fits best.
    """

    levels: NDArray[np.uint8]
    thresholds: tuple[int, ...]
    best: int

    def region(self, step: int) -> Mask:
        """The region of a threshold by its index, bool (y, x)."""
        return self.levels >= self.thresholds[step]

    def nearest(self, mask: Mask) -> int:
        """Index of the threshold whose region has the highest IoU with a mask, bool (y, x)."""
        areas = _at_least(self.levels)
        shared = _at_least(self.levels[mask])
        iou = shared / np.maximum(areas + np.count_nonzero(mask) - shared, 1)
        return int(iou[list(self.thresholds)].argmax())


def flood(
    stored: NDArray[np.uint8], steepness: NDArray[np.float32], allowed: Mask, pixel: Pixel
) -> Flood | None:
    """Flood a map from a pixel.

    The region at a threshold is what is connected with the seed by pixels at or above it. The
    threshold that fits best is the one along whose outline map and image change most: the highest
    product of the mean steepness of the image and the mean change of the map's log odds. Of the
    map alone, the log odds say more than the probability, because objects that a model misses have
    low probabilities with clear borders.

    Args:
        stored: of the class, uint8 (y, x), 255 being certain.
        steepness: of the image at each pixel, float32 (y, x).
        allowed: the pixels that may be flooded, bool (y, x).
        pixel: (y, x) where the flood begins.

    Returns:
        The regions; None where the map holds nothing.
    """
    window = tuple(
        slice(max(0, i - _REACH), min(n, i + _REACH + 1))
        for i, n in zip(pixel, stored.shape, strict=True)
    )
    heights = np.where(allowed[window], stored[window], np.uint8(0))
    start = (pixel[0] - window[0].start, pixel[1] - window[1].start)
    seed = _highest_near(heights, start)
    if heights[seed] == 0:
        return None
    # What is connected at all lies in a part of the window, as most of a map is 0.
    connected, _ = ndimage.label(heights > 0)
    part = ndimage.find_objects(connected)[connected[seed] - 1]
    window = tuple(
        slice(whole.start + some.start, whole.start + some.stop)
        for whole, some in zip(window, part, strict=True)
    )
    heights = heights[part]
    seed = (seed[0] - part[0].start, seed[1] - part[1].start)
    marker = np.zeros_like(heights)
    marker[seed] = heights[seed]
    # The reconstruction of a single pixel is, for each pixel, the highest threshold at which the
    # two are connected: all regions at once (Vincent 1993, IEEE Trans. Image Process. 2, 176).
    found = reconstruction(marker, heights, footprint=_CROSS).astype(np.uint8)
    areas = _at_least(found)
    thresholds = _steps(areas, int(heights[seed]))
    fit = _fit(found, stored[window], steepness[window])[list(thresholds)]
    # Of regions that are all tiny, the largest.
    large = areas[list(thresholds)] >= _FEWEST
    best = int(np.where(large, fit, -1).argmax()) if large.any() else len(thresholds) - 1
    levels = np.zeros(stored.shape, np.uint8)
    levels[window] = found
    return Flood(levels, thresholds, best)


def steepness_of(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """How steep an image is at each pixel: the gradient's length after a Gauss filter of 1 pixel.

    Args:
        image: (y, x).

    Returns:
        float32 (y, x).
    """
    return np.asarray(
        ndimage.gaussian_gradient_magnitude(image.astype(np.float32), 1.0), np.float32
    )


def _log_odds(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logit of stored probabilities, float32, which is flat where these are next to 0 or 1."""
    levels = np.arange(LEVELS, dtype=np.float32)
    table = np.log((levels + _FLAT) / (CERTAIN + _FLAT - levels))
    return np.asarray(table[stored], np.float32)


def _highest_near(heights: NDArray[np.uint8], pixel: Pixel) -> Pixel:
    low = [max(0, i - _NEAR) for i in pixel]
    near = heights[low[0] : pixel[0] + _NEAR + 1, low[1] : pixel[1] + _NEAR + 1]
    # The pixel itself if no other is higher.
    if heights[pixel] == near.max():
        return pixel
    y, x = np.unravel_index(near.argmax(), near.shape)
    return low[0] + int(y), low[1] + int(x)


def _at_least(levels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The number of pixels at or above each level from 0 to 255."""
    counts = np.bincount(levels.ravel(), minlength=LEVELS)
    return np.asarray(counts[::-1].cumsum()[::-1])


def _steps(areas: NDArray[np.int64], highest: int) -> tuple[int, ...]:
    """Falling thresholds from the highest on at which the region has grown by `_STEP`."""
    thresholds = [highest]
    for level in range(highest - 1, 0, -1):
        if areas[level] >= _STEP * areas[thresholds[-1]]:
            thresholds.append(level)
    return tuple(thresholds)


def _fit(
    levels: NDArray[np.uint8], stored: NDArray[np.uint8], steepness: NDArray[np.float32]
) -> NDArray[np.float64]:
    """How well the outline of the region at each threshold fits, for thresholds 0 to 255."""
    odds = _log_odds(stored)
    pairs = np.zeros(LEVELS + 1)
    of_map = np.zeros(LEVELS + 1)
    of_image = np.zeros(LEVELS + 1)
    for first, second in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        low = np.minimum(levels[first], levels[second]).ravel().astype(np.int64)
        high = np.maximum(levels[first], levels[second]).ravel().astype(np.int64)
        # A pair of neighbours is part of the outline at the thresholds from low + 1 to high.
        for total, weights in (
            (pairs, np.ones(low.shape)),
            (of_map, np.abs(odds[first] - odds[second]).ravel()),
            (of_image, (steepness[first] + steepness[second]).ravel() / 2),
        ):
            begun = np.bincount(low + 1, weights, LEVELS + 1)
            ended = np.bincount(high + 1, weights, LEVELS + 1)
            total += begun[: LEVELS + 1] - ended[: LEVELS + 1]
    outline = np.maximum(pairs.cumsum(), 1)[:LEVELS]
    return np.asarray(of_map.cumsum()[:LEVELS] * of_image.cumsum()[:LEVELS] / outline**2)

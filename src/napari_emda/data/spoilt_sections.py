"""Sections that are missing or spoilt, found by comparing them with their neighbours."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.blocks import spread
from napari_emda.data.box import Box
from napari_emda.data.intensity import PERCENTILES
from napari_emda.data.resampled import Resampled

# Windows of a section that are compared, and their side in pixels of the view: as many pixels as
# one section of a small volume, however large the sections are.
_WINDOWS = 4
_SIDE = 256
# Pixels are averaged over squares of this side first. Noise differs from section to section; what
# neighbours share is larger (on VNC, the correlation rises from 0.44 to 0.65).
_SQUARE = 4
# A section is spoilt if it correlates with neither neighbour by this fraction of the median. On
# VNC, Lucchi, medulla and ISBI 2012, the worst section has 0.53 or more of it, and a section
# shifted by 20 pixels of 10 to 20 nm 0.29 or less.
_FRACTION = 0.4
# Below this median correlation, neighbours have too little in common to tell anything by it.
_LEAST_MEDIAN = 0.1


def spoilt_sections(view: Resampled) -> tuple[int, ...]:
    """Numbers of the sections that have one grey value only, or resemble no neighbour.

    A section is compared with the nearest ones of more than one grey value on both sides; the first
    and the last with the nearest two. None is spoilt if sections are independent.

    Args:
        view: the volume at the pixel size of the network.
    """
    if view.volume.grid.sections_are_independent:
        return ()
    filled: list[int] = []
    correlations: dict[int, list[float]] = {1: [], 2: []}
    before: deque[NDArray[np.float32]] = deque(maxlen=2)
    for z in range(view.shape[0]):
        values = _standardised(view, z)
        if values is None:
            continue
        for distance, other in enumerate(before, 1):
            correlations[distance].append(float(values @ other))
        before.appendleft(values)
        filled.append(z)
    constant = set(range(view.shape[0])) - set(filled)
    return tuple(sorted(constant | {filled[i] for i in _unlike(correlations[1], correlations[2])}))


def _unlike(nearest: list[float], next_nearest: list[float]) -> list[int]:
    """Indices of sections that resemble neither of the two with which they are compared.

    Args:
        nearest: correlation of each section with the one after it.
        next_nearest: the same with the second after it.
    """
    # Of two sections, nobody can tell which one is spoilt.
    if len(nearest) < 2 or np.median(nearest) < _LEAST_MEDIAN:
        return []
    is_low = np.array(nearest) < _FRACTION * np.median(nearest)
    is_low_further = np.array(next_nearest) < _FRACTION * np.median(next_nearest)
    inner = [i for i in range(1, len(nearest)) if is_low[i - 1] and is_low[i]]
    ends = [
        (0, is_low[0] and is_low_further[0]),
        (len(nearest), is_low[-1] and is_low_further[-1]),
    ]
    return [*inner, *(i for i, is_unlike in ends if is_unlike)]


def _standardised(view: Resampled, z: int) -> NDArray[np.float32] | None:
    """Grey values of a section's windows as a vector of length 1 and mean 0; None if all equal."""
    section = Box((z, 0, 0), (z + 1, *view.shape[1:]))
    windows = [view.read(window)[0] for window in spread(section, _WINDOWS, _SIDE)]
    if min(window.min() for window in windows) == max(window.max() for window in windows):
        return None
    values = np.concatenate([_averaged(window) for window in windows])
    low, high = np.percentile(values, PERCENTILES)
    # Broken pixels must not decide what is alike; in a dark field, small objects are no such.
    values = np.clip(values, low, high) if low < high else values
    values = values - values.mean()
    length = np.linalg.norm(values)
    return values / length if length else None


def _averaged(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means over squares of pixels; what is left over at the far edges is not used."""
    rows, columns = (max(1, min(_SQUARE, side)) for side in image.shape)
    height, width = image.shape[0] // rows, image.shape[1] // columns
    cut = image[: height * rows, : width * columns]
    means: NDArray[np.float32] = cut.reshape(height, rows, width, columns).mean((1, 3)).ravel()
    return means

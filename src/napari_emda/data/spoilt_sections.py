"""Sections that are missing or spoilt, found by comparing them with their neighbours."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

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
# Two sections differ if their correlation is below this fraction of the median of neighbours. On
# VNC, Lucchi, medulla and ISBI 2012, the worst section has 0.53 or more of it with one of its
# neighbours, and a section shifted by 20 pixels of 10 to 20 nm 0.29 or less.
_FRACTION = 0.4
# Below this median correlation, neighbours have too little in common to tell anything.
_LEAST_MEDIAN = 0.1
# Two sections differ, too, if their means lie so many standard deviations apart, or one standard
# deviation is so many times the other. In VNC, Lucchi and medulla, the worst section
# has 0.2 and 1.3 with one of its neighbours. What is less, `Augmentation.neighbours` teaches.
LARGEST_OFFSET = 0.5
LARGEST_GAIN = 1.5
# Where brightness jumps from section to section, as in ISBI 2012, a network learns that: means may
# lie this many times as far apart as those of neighbours usually do.
_USUAL = 4.0


@dataclass(frozen=True)
class _Appearance:
    """What is compared of a section.

    Attributes:
        values: grey values of its windows, of mean 0 and length 1.
        mean, std: of these grey values, before.
    """

    values: NDArray[np.float32]
    mean: float
    std: float


@dataclass
class _Comparisons:
    """Pairs of sections: correlation, difference of their means, ratio of their contrasts."""

    correlations: list[float]
    offsets: list[float]
    gains: list[float]

    def add(self, one: _Appearance, other: _Appearance) -> None:
        self.correlations.append(float(one.values @ other.values))
        self.offsets.append(abs(one.mean - other.mean))
        self.gains.append(max(one.std / other.std, other.std / one.std))

    def differ(self, std: float) -> NDArray[np.bool_]:
        """Whether each pair of sections differs; ``std`` is the usual one of a section."""
        is_unlike = np.array(self.correlations) < _FRACTION * np.median(self.correlations)
        largest = max(LARGEST_OFFSET * std, _USUAL * float(np.median(self.offsets)))
        is_brighter = np.array(self.offsets) > largest
        return is_unlike | is_brighter | (np.array(self.gains) > LARGEST_GAIN)


def spoilt_sections(view: Resampled) -> tuple[int, ...]:
    """Numbers of the sections that have one grey value only, or resemble no neighbour.

    A section is compared with the nearest ones of more than one grey value on both sides; the first
    and the last with the nearest two. None is spoilt if sections are independent.

    Args:
        view: the volume at the pixel size of the network.
    """
    if view.volume.grid.sections_are_independent:
        return ()
    numbers: list[int] = []
    stds: list[float] = []
    comparisons = [_Comparisons([], [], []) for _ in range(2)]
    before: deque[_Appearance] = deque(maxlen=2)
    for z in range(view.shape[0]):
        appearance = _appearance(view, z)
        if appearance is None:
            continue
        for further, other in zip(comparisons, before, strict=False):
            further.add(appearance, other)
        before.appendleft(appearance)
        numbers.append(z)
        stds.append(appearance.std)
    constant = set(range(view.shape[0])) - set(numbers)
    nearest, next_nearest = comparisons
    # Of two sections, nobody can tell which one is spoilt.
    if len(numbers) < 3 or np.median(nearest.correlations) < _LEAST_MEDIAN:
        return tuple(sorted(constant))
    std = float(np.median(stds))
    unlike = _unlike(nearest.differ(std), next_nearest.differ(std))
    return tuple(sorted(constant | {numbers[index] for index in unlike}))


def _unlike(nearest: NDArray[np.bool_], next_nearest: NDArray[np.bool_]) -> list[int]:
    """Indices of sections that resemble neither of the two with which they are compared.

    Args:
        nearest: whether each section differs from the one after it.
        next_nearest: whether it differs from the second after it.
    """
    inner = [i for i in range(1, len(nearest)) if nearest[i - 1] and nearest[i]]
    first = [0] if nearest[0] and next_nearest[0] else []
    last = [len(nearest)] if nearest[-1] and next_nearest[-1] else []
    return [*first, *inner, *last]


def _appearance(view: Resampled, z: int) -> _Appearance | None:
    """What is compared of a section; None if it has one grey value only."""
    section = Box((z, 0, 0), (z + 1, *view.shape[1:]))
    windows = [view.read(window)[0] for window in spread(section, _WINDOWS, _SIDE)]
    if min(window.min() for window in windows) == max(window.max() for window in windows):
        return None
    values = np.concatenate([_averaged(window) for window in windows])
    low, high = np.percentile(values, PERCENTILES)
    # Broken pixels must not decide what is alike; in a dark field, small objects are no such.
    values = np.clip(values, low, high) if low < high else values
    mean = float(values.mean())
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    # Squares of pixels may be alike where pixels are not.
    if not length:
        return None
    return _Appearance(values / length, mean, length / len(values) ** 0.5)


def _averaged(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means over squares of pixels; what is left over at the far edges is not used."""
    rows, columns = (max(1, min(_SQUARE, side)) for side in image.shape)
    height = image.shape[0] // rows
    width = image.shape[1] // columns
    cut = image[: height * rows, : width * columns]
    means: NDArray[np.float32] = cut.reshape(height, rows, width, columns).mean((1, 3)).ravel()
    return means

"""Scores of a prediction that need no labels: shape and amount of objects, and agreement."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_emda.data.volume import IGNORE
from napari_emda.objects.shape import solidity

# Components of this many pixels or fewer are noise, not objects (Franco-Barranco et al. 2022).
SPECK = 10
# Enough for a mean; a bad model can find 100 000 specks, and each convex hull takes a millisecond.
_MOST_OBJECTS = 1000
# Floor of the solidity's standard deviation: 2-D mitochondria of VNC have 0.023. A source with a
# handful of objects would otherwise divide by nearly nothing.
_LEAST_SPREAD = 0.02
# Added to both fractions so that an empty prediction has a finite logarithm: 1 voxel in 10 000.
_LEAST_FRACTION = 1e-4


# -- the objects of a class ------------------------------------------------------------------------


@dataclass(frozen=True)
class Objects:
    """Objects of one class, found in each section by itself, without those of up to `SPECK` pixels.

    Attributes:
        areas: pixels of each object.
        solidities: of each object.
        foreground: pixels of the class, specks included.
        pixels: pixels looked at.
    """

    areas: NDArray[np.int64]
    solidities: NDArray[np.float64]
    foreground: int
    pixels: int

    @property
    def fraction(self) -> float:
        """Share of the pixels that are of the class."""
        return self.foreground / self.pixels if self.pixels else 0.0

    def solidity(self) -> float:
        """Mean over the objects, as published; 0 when there is none."""
        return float(self.solidities.mean()) if len(self.areas) else 0.0

    def weighted_solidity(self) -> float:
        """Mean weighted by area, so that specks do not outvote objects; 0 when there is none."""
        return float(np.average(self.solidities, weights=self.areas)) if len(self.areas) else 0.0

    def larger_than(self, pixels: int) -> Objects:
        """Only the objects of more than ``pixels`` pixels."""
        large = self.areas > pixels
        return replace(self, areas=self.areas[large], solidities=self.solidities[large])


def objects_in(sections: Iterable[NDArray[np.uint8]], class_id: int = 1) -> Objects:
    """Measure the objects of a class.

    Components are labelled section by section; pixels that share an edge or a corner are connected.
    A 3-D object can have several parts in a section, and their common hull says nothing about
    shape. Of more than `_MOST_OBJECTS` objects, an evenly spaced selection is measured.

    Args:
        sections: class ids (y, x); IGNORE pixels are not counted.
        class_id: the class.
    """
    masks: list[NDArray[np.bool_]] = []
    foreground = pixels = 0
    for section in sections:
        pixels += int(np.count_nonzero(section != IGNORE))
        labels, count = ndimage.label(section == class_id, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        foreground += int(sizes.sum())
        windows = ndimage.find_objects(labels)
        masks += [labels[windows[i]] == i + 1 for i in np.flatnonzero(sizes > SPECK)]
    selection = np.linspace(0, len(masks) - 1, min(len(masks), _MOST_OBJECTS))
    masks = [masks[i] for i in np.unique(selection.round().astype(int))]
    areas = np.array([np.count_nonzero(mask) for mask in masks], np.int64)
    solidities = np.array([solidity(mask[None]) for mask in masks])
    return Objects(areas, solidities, foreground, pixels)


# -- how much a prediction looks like the source's labels ------------------------------------------


@dataclass(frozen=True)
class Prior:
    """What objects of a class look like in the source's labels, at the pixel size of the network.

    Attributes:
        solidity: mean over the objects (S* of Franco-Barranco et al. 2022).
        weighted_solidity: mean over the objects' pixels.
        spread: standard deviation of solidity over the objects.
        fraction: share of the labelled pixels that are of the class.
        least: pixels that an object of the target should have: a quarter of the first percentile
            of the source's areas, at least `SPECK`.
    """

    solidity: float
    weighted_solidity: float
    spread: float
    fraction: float
    least: int

    @classmethod
    def of(cls, objects: Objects) -> Prior | None:
        """From the source's objects; None without any, because there is nothing to compare with."""
        if not len(objects.areas):
            return None
        least = max(SPECK, math.floor(np.percentile(objects.areas, 1) / 4))
        spread = float(objects.solidities.std())
        return cls(objects.solidity(), objects.weighted_solidity(), spread, objects.fraction, least)

    def check(self) -> None:
        """Check values that come from a file; ValueError if they cannot be right."""
        shares = (self.solidity, self.weighted_solidity, self.spread, self.fraction)
        # NaN fails the comparison, too.
        if not all(0 <= share <= 1 for share in shares) or self.least < 0:
            raise ValueError("The shapes cannot be right")


def solidity_gap(objects: Objects, prior: Prior) -> float:
    """|S_t - S*| of Franco-Barranco et al. 2022, 0 at best; with no object S_t is 0.

    Mean solidity of the predicted objects against that of the source's labels. The paper keeps the
    checkpoint with the smallest gap.
    """
    return abs(objects.solidity() - prior.solidity)


def label_free_score(
    objects: Objects, prior: Prior, disagreement: float, uncertainty: float
) -> float:
    """Estimate the error of a prediction without labels; 0 at best, lower is better.

    1/16 |S_t - S*| / max(sd of S*, 0.02) + 1/4 |log2 (f_t / f*)| + A + U

    S is the solidity weighted by area, f the foreground fraction, A the ``disagreement`` and U the
    ``uncertainty``. Solidity alone (the published criterion, see `solidity_gap`) does not notice
    missing objects or convex false ones. The fraction notices both; A and U notice an unsure
    network. The weights were fixed on VNC -> Lucchi (docs/stopping.md): shape says least, and the
    target may truly hold more or less of the structure than the source.

    Args:
        objects: of the prediction.
        prior: of the source's labels.
        disagreement: 1 - IoU between two views of the same image (`disagreement`).
        uncertainty: 1 - the IoU that the network itself expects (`uncertainty`).
    """
    return _shape(objects, prior) / 16 + _amount(objects, prior) / 4 + disagreement + uncertainty


def _shape(objects: Objects, prior: Prior) -> float:
    return abs(objects.weighted_solidity() - prior.weighted_solidity) / max(
        prior.spread, _LEAST_SPREAD
    )


def _amount(objects: Objects, prior: Prior) -> float:
    return abs(math.log2((objects.fraction + _LEAST_FRACTION) / (prior.fraction + _LEAST_FRACTION)))


def disagreement(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """1 - IoU of two masks of one shape; 1 when both are empty.

    A network that finds nothing agrees with itself perfectly, and must not be rewarded for it.
    """
    union = np.count_nonzero(mask | other)
    return 1 - np.count_nonzero(mask & other) / union if union else 1.0


def uncertainty(probability: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """1 - the IoU that a prediction's own probabilities let expect; 1 for an empty mask.

    If each pixel is foreground with its ``probability``, the expected intersection is the sum of
    the probabilities inside the mask. The expected union is the mask plus the sum outside.

    Args:
        probability: of the class, 0 ... 1.
        mask: where the class is predicted, same shape.
    """
    if not mask.any():
        return 1.0
    intersection = float(probability[mask].sum())
    union = np.count_nonzero(mask) + float(probability[~mask].sum())
    return 1 - intersection / union

"""Moves the class shares of a prediction on the target towards those of the source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_emda.data.blocks import drawn
from napari_emda.data.box import Box
from napari_emda.inference.predictor import Predictor, smoothed_along_z
from napari_emda.methods.base import Postprocessing
from napari_emda.sampling.sampler import SamplingRegion

_Shares = Sequence[float] | NDArray[np.float64]

LARGEST_OFFSET = 5.0
"""In logits: what the network is so sure of is not turned over for the sake of a share."""
WEIGHT = 0.21
"""Of each neighbouring section where these agree well: a Gaussian of 0.7 sections."""
_LEAST_WEIGHT = 0.05
_AGREEMENT = 0.4
_LEAST_SHARE = 1e-4
_SWEEPS = 5


def offsets(
    log_probabilities: NDArray[np.float32], shares: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """What to add to the logits so that each class is the most probable in a given share of the pixels.

    With two classes this is the decision threshold at the quantile 1 - share; with more, classes are set in turn, from
    the rarest to the second most frequent, until they fit. Without labels, the source's shares are the best guess for
    the target's (Saerens et al. 2002 correct posteriors for other priors; here the decisions are).

    Args:
        log_probabilities: (N, C), N pixels.
        shares: of the C classes, summing to 1.

    Returns:
        (C,), 0 for the most frequent class, none beyond `LARGEST_OFFSET`.
    """
    found = np.zeros(len(shares))
    order = np.argsort(shares)[:-1]
    for _ in range(_SWEEPS if len(order) > 1 else 1):
        for k in order:
            moved = log_probabilities + found
            moved[:, k] = -np.inf
            margin = log_probabilities[:, k] - moved.max(1)
            found[k] = np.clip(-np.quantile(margin, 1 - shares[k]), -LARGEST_OFFSET, LARGEST_OFFSET)
    return found


def between(found: _Shares, wished: _Shares, strength: float) -> NDArray[np.float64]:
    """Shares on the way from those found to those wished for, along the geometric mean.

    Args:
        found: of the C classes, summing to 1; shares of 0 count as 0.0001.
        wished: the same.
        strength: 0 for ``found`` to 1 for ``wished``.

    Returns:
        (C,), summing to 1.
    """
    a, b = (np.maximum(np.asarray(values, float), _LEAST_SHARE) for values in (found, wished))
    mixed = a ** (1 - strength) * b**strength
    return mixed / mixed.sum()


def agreement(classes: NDArray[np.int64], count: int) -> float:
    """Cohen's kappa of neighbouring sections: 1 for the same objects, 0 for what chance alone lets agree.

    Args:
        classes: (2, pixels) ids of each pixel and of the one behind it in the next section.
        count: of classes.
    """
    pairs = (
        np.bincount(count * classes[0] + classes[1], minlength=count**2).reshape(count, count)
        / classes.shape[1]
    )
    chance = float((pairs.sum(0) * pairs.sum(1)).sum())
    return (float(np.trace(pairs)) - chance) / (1 - chance) if chance < 1 else 0.0


@dataclass(frozen=True)
class CalibrationSample:
    """How closely to look at the target.

    Attributes:
        tiles: how many, in all.
        side: of a tile, in working pixels.
        flips: average over flipped copies.
    """

    tiles: int
    side: int
    flips: bool


def calibrate(
    predictor: Predictor,
    regions: Sequence[SamplingRegion],
    prior: Sequence[float],
    postprocessing: Postprocessing,
    sample: CalibrationSample,
) -> float:
    """Set the network's ``offset`` by what it says of the target; no label is looked at.

    Args:
        predictor: the model; its network's ``offset`` is replaced.
        regions: of the target.
        prior: share of each class in the source; empty where not known, then the offset is 0.
        postprocessing: what the method asks for.
        sample: how closely to look.

    Returns:
        Weight of the neighbouring sections: `WEIGHT` where these agree, less the less they do. Targets of independent
        sections are left out; 0 when there is no other.
    """
    network = predictor.network
    network.offset.zero_()
    answers = [
        (independent, predictor.probabilities(tile, "target", flips=sample.flips))
        for independent, tile in _tiles(predictor, regions, sample)
    ]
    weight = 0.0
    adjoining = [answer for independent, answer in answers if not independent]
    if postprocessing.z_smoothing and adjoining:
        classes = [answer.argmax(1).flatten(1).cpu().numpy() for answer in adjoining]
        pairs = np.concatenate([pair for tile in classes for pair in (tile[:2], tile[1:])], axis=1)
        agreed = agreement(pairs, network.classes)
        weight = WEIGHT * min(1.0, max(0.0, agreed) / _AGREEMENT)
        weight = 0.0 if weight < _LEAST_WEIGHT else weight
    if postprocessing.prior_strength and len(prior):
        finished = [
            smoothed_along_z(answer, 0.0 if independent else weight)
            for independent, answer in answers
        ]
        middles = torch.cat([sections[1].flatten(1) for sections in finished], dim=1)
        pixels = middles.T.clamp_min(1e-6).log().cpu().numpy()
        found = np.bincount(pixels.argmax(1), minlength=network.classes) / len(pixels)
        network.offset.copy_(
            torch.from_numpy(offsets(pixels, between(found, prior, postprocessing.prior_strength)))
        )
    return weight


def _tiles(
    predictor: Predictor, regions: Sequence[SamplingRegion], sample: CalibrationSample
) -> Iterator[tuple[bool, Tensor]]:
    """Sections and those beside them, 3 x 1 x H x W each, drawn from the target, and whether they are independent."""
    for region in regions:
        for box in drawn(region.box, -(-sample.tiles // len(regions)), sample.side):
            sections = []
            first, last = region.box.start[0], region.box.stop[0] - 1
            for step in (-1, 0, 1):
                z = box.start[0] + step
                z = min(
                    max(first, z if first <= z <= last else box.start[0] - step), last
                )  # mirrored at the ends
                moved = Box((z, *box.start[1:]), (z + 1, *box.stop[1:]))
                sections.append(region.statistics.read(region.view, moved))
            yield (
                region.view.volume.grid.sections_are_independent,
                torch.from_numpy(np.stack(sections)).to(predictor.compute.device),
            )

"""Prior matching: shifts logits so that class shares on the target approach those of the source."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_emda.data.blocks import drawn
from napari_emda.data.box import Box
from napari_emda.events import Advanced
from napari_emda.inference.predictor import Predictor, smoothed_along_z
from napari_emda.methods.base import Postprocessing
from napari_emda.sampling.sampler import SamplingRegion

_Shares = Sequence[float] | NDArray[np.float64]

# Largest offset of a logit. Where the network is surer than that (99.3 % with two classes), its
# decision is not changed for the sake of a class share.
LARGEST_OFFSET = 5.0

# Weight of each neighbouring section if sections agree well: a Gaussian with a standard deviation
# of 0.7 sections, cut off after one (docs/benchmarks.md, "z smoothing").
WEIGHT = 0.21

# Smaller weights change hardly any pixel, and are not worth predicting the neighbours.
_MIN_WEIGHT = 0.05

# Cohen's kappa from which the full weight is used; below, the weight falls in proportion.
_FULL_AGREEMENT = 0.4

# Shares of 0 count as this, so that the geometric mean of shares is defined.
_MIN_SHARE = 1e-4

# Rounds over the classes: the offset of one class changes the shares of all others.
_SWEEPS = 5


def offsets(
    log_probabilities: NDArray[np.float32], shares: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Offsets of the logits with which each class is the most probable in its share of the pixels.

    With two classes, the offset moves the decision threshold to the quantile 1 - share of the
    margin. With more, the classes are set in turn, from the rarest to the second most frequent.
    Saerens et al. 2002 correct posteriors for other priors; this corrects decisions.

    Args:
        log_probabilities: (N, C) of N pixels.
        shares: of the C classes, summing to 1.

    Returns:
        (C,), 0 for the most frequent class, between -`LARGEST_OFFSET` and `LARGEST_OFFSET`.
    """
    result = np.zeros(len(shares))
    # Only differences of offsets matter, so that of the most frequent class stays 0.
    order = np.argsort(shares)[:-1]
    for _ in range(_SWEEPS if len(order) > 1 else 1):
        for k in order:
            others = log_probabilities + result
            others[:, k] = -np.inf
            margin = log_probabilities[:, k] - others.max(1)
            threshold = np.quantile(margin, 1 - shares[k])
            result[k] = np.clip(-threshold, -LARGEST_OFFSET, LARGEST_OFFSET)
    return result


def between(predicted: _Shares, prior: _Shares, strength: float) -> NDArray[np.float64]:
    """Weighted geometric mean of two sets of class shares.

    Geometric, because shares differ by factors: halfway between 1 % and 16 % is 4 %.

    Args:
        predicted: shares of the C classes, summing to 1.
        prior: the same.
        strength: 0 gives ``predicted``, 1 gives ``prior``.

    Returns:
        (C,), summing to 1.
    """
    low = np.maximum(np.asarray(predicted, float), _MIN_SHARE)
    high = np.maximum(np.asarray(prior, float), _MIN_SHARE)
    mean = low ** (1 - strength) * high**strength
    return mean / mean.sum()


def agreement(classes: NDArray[np.int64], count: int) -> float:
    """Cohen's kappa of neighbouring sections (Cohen 1960).

    Args:
        classes: (2, pixels) class ids of each pixel and of the same pixel in the next section.
        count: number of classes.

    Returns:
        1 if all pixels agree, 0 if no more agree than by chance.
    """
    # Fractions of pixels by class in this section (rows) and in the next (columns).
    pairs = (
        np.bincount(count * classes[0] + classes[1], minlength=count**2).reshape(count, count)
        / classes.shape[1]
    )
    chance = float((pairs.sum(0) * pairs.sum(1)).sum())
    return (float(np.trace(pairs)) - chance) / (1 - chance) if chance < 1 else 0.0


@dataclass(frozen=True)
class CalibrationSample:
    """How much of the target a calibration predicts.

    Attributes:
        tiles: number of tiles over all volumes.
        side: of a tile, in working pixels.
        flips: whether to average over flipped copies.
    """

    tiles: int
    side: int
    flips: bool

    def boxes(self, region: SamplingRegion, regions: int) -> list[Box]:
        """The tiles in one of several regions; fewer or smaller ones if it is small."""
        return list(drawn(region.box, -(-self.tiles // regions), self.side))


def calibrate(
    predictor: Predictor,
    regions: Sequence[SamplingRegion],
    prior: Sequence[float],
    postprocessing: Postprocessing,
    sample: CalibrationSample,
) -> Generator[Advanced, None, float]:
    """Set the network's ``offset`` from its predictions on the target, without labels.

    Args:
        predictor: the model; the ``offset`` of its network is replaced.
        regions: of the target.
        prior: share of each class in the source; empty if unknown, then the offset is 0.
        postprocessing: what the method asks for.
        sample: how much of the target to predict.

    Yields:
        Advanced after each tile. If it is stopped there, the offset is 0.

    Returns:
        Weight of each neighbouring section: `WEIGHT` if neighbours agree, less the less they agree.
        Volumes of independent sections do not count; 0 if there are no others.
    """
    network = predictor.network
    network.offset.zero_()
    predictions = []
    for independent, tile in _tiles(predictor, regions, sample):
        predictions.append((independent, tile))
        yield Advanced(len(predictions), max(sample.tiles, len(predictions)))
    weight = 0.0
    consecutive = [sections for independent, sections in predictions if not independent]
    if postprocessing.z_smoothing and consecutive:
        classes = [sections.argmax(1).flatten(1).cpu().numpy() for sections in consecutive]
        # Of the three sections of a tile, the first with the second and the second with the third.
        pairs = np.concatenate([pair for tile in classes for pair in (tile[:2], tile[1:])], axis=1)
        kappa = agreement(pairs, network.classes)
        weight = WEIGHT * min(1.0, max(0.0, kappa) / _FULL_AGREEMENT)
        weight = 0.0 if weight < _MIN_WEIGHT else weight
    if postprocessing.prior_strength and len(prior):
        # Smoothed first, as a volume will be: smoothing changes the shares.
        smoothed = [
            smoothed_along_z(sections, 0.0 if independent else weight)
            for independent, sections in predictions
        ]
        # Only the middle section of a tile has both neighbours.
        middles = torch.cat([sections[1].flatten(1) for sections in smoothed], dim=1)
        pixels = middles.T.clamp_min(1e-6).log().cpu().numpy()
        predicted = np.bincount(pixels.argmax(1), minlength=network.classes) / len(pixels)
        shares = between(predicted, prior, postprocessing.prior_strength)
        network.offset.copy_(torch.from_numpy(offsets(pixels, shares)))
    return weight


def _tiles(
    predictor: Predictor, regions: Sequence[SamplingRegion], sample: CalibrationSample
) -> Iterator[tuple[bool, Tensor]]:
    """Predict tiles that are drawn from the target.

    Yields:
        Whether the sections of the volume are independent; probabilities of a tile and of the same
        place in the sections before and after it, 3 x C x H x W.
    """
    for region in regions:
        volume = region.view.volume
        stacks = predictor.stacks_of(volume)
        for box in sample.boxes(region, len(regions)):
            first = region.box.start[0]
            last = region.box.stop[0] - 1
            places = []
            for step in (-1, 0, 1):
                z = box.start[0] + step
                # At the ends, the neighbour on the other side; a single section is its own.
                places.append(
                    min(max(first, z if first <= z <= last else box.start[0] - step), last)
                )
            low, high = stacks.part(min(places), max(places) + 1, region.view.shape[0])
            seen = torch.from_numpy(region.read(box.in_sections(low, high)))
            image = seen.to(predictor.compute.device)
            sections = predictor.probabilities(image, "target", stacks, flips=sample.flips)
            yield (
                volume.grid.sections_are_independent,
                sections[[z - low for z in places]],
            )

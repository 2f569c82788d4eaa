"""Prior matching: shifts logits so that class shares on the target approach those of the source."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_emda.data.blocks import drawn
from napari_emda.data.box import Box
from napari_emda.events import Advanced
from napari_emda.inference.predictor import Predictor, smoothed_along_z
from napari_emda.inference.section_stacks import SectionStacks
from napari_emda.methods.base import Postprocessing
from napari_emda.sampling.region import SamplingRegion

Span = tuple[int, int]
"""First of consecutive sections, and one past the last."""
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
        1 if all pixels agree, 0 if no more agree than by chance, or if there are none.
    """
    if not classes.size:
        return 0.0
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

    Each tile is predicted with the sections before and after it, and has no context at its sides.
    A small volume is predicted completely if that takes no longer: then nothing but its own edges
    lacks context, every section is predicted once, and the shares are those of the volume.

    Attributes:
        tiles: number of tiles over all volumes.
        side: of a tile, in working pixels.
        flips: whether to average over flipped copies.
        sections: that the network sees at once.
    """

    tiles: int
    side: int
    flips: bool
    sections: int = 1

    def boxes(self, region: SamplingRegion, regions: int) -> list[Box]:
        """All of a small region, or tiles in one of several regions; smaller ones at its edges."""
        tiles = -(-self.tiles // regions)
        tile = self.pixels(Box((0, 0, 0), (1, self.side, self.side)))
        _, rows, columns = region.box.shape
        # More pixels than a tile's are too many at once.
        is_narrow = self.sections * rows * columns <= tile
        if is_narrow and self.pixels(region.box) <= tiles * tile:
            return [region.box]
        return list(drawn(region.box, tiles, self.side))

    def pixels(self, box: Box) -> int:
        """About how many pixels the network sees for a box, in all its parts."""
        depth, rows, columns = box.shape
        # Of a tile, the neighbours too.
        depth = 3 if depth == 1 else depth
        parts = -(-depth // self._at_once(box))
        return (depth + parts * (self.sections - 1)) * rows * columns

    def spans(
        self, region: SamplingRegion, box: Box, stacks: SectionStacks
    ) -> list[tuple[Span, Span]]:
        """The sections of a box and beside it that are predicted at once, and those seen for that.

        Args:
            region: where the box lies.
            box: a tile, or all of the region.
            stacks: how a 3-D network sees its volume.
        """
        first, stop = _with_neighbours(region, box)
        step = self._at_once(box)
        predicted = [(z, min(z + step, stop)) for z in range(first, stop, step)]
        return [(span, stacks.part(*span, region.view.shape[0])) for span in predicted]

    def _at_once(self, box: Box) -> int:
        """Sections of a box that are predicted at once: as many pixels as those of a tile."""
        return max(1, 3 * self.side**2 // (box.shape[1] * box.shape[2]))


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
        Advanced after each tile or part of a volume. If it is stopped there, the offset is 0.

    Returns:
        Weight of each neighbouring section: `WEIGHT` if neighbours agree, less the less they agree.
        Volumes of independent sections do not count; 0 if there are no others.
    """
    network = predictor.network
    network.offset.zero_()
    boxes = [(region, box) for region in regions for box in sample.boxes(region, len(regions))]
    spans = [
        sample.spans(region, box, predictor.stacks_of(region.view.volume)) for region, box in boxes
    ]
    total = sum(map(len, spans))
    done = 0
    predictions = []
    for (region, box), of_box in zip(boxes, spans, strict=True):
        sections = []
        for (first, stop), seen in of_box:
            predicted = _predict(predictor, region, box.in_sections(*seen), flips=sample.flips)
            sections.append(predicted[first - seen[0] : stop - seen[0]])
            done += 1
            yield Advanced(done, total)
        predictions.append(_Predicted.of(region, box, torch.cat(sections)))
    weight = 0.0
    consecutive = [predicted for predicted in predictions if predicted.has_neighbours]
    if postprocessing.z_smoothing and consecutive:
        pairs = [predicted.pairs() for predicted in consecutive]
        kappa = agreement(np.concatenate(pairs, axis=1), network.classes)
        weight = WEIGHT * min(1.0, max(0.0, kappa) / _FULL_AGREEMENT)
        weight = 0.0 if weight < _MIN_WEIGHT else weight
    if postprocessing.prior_strength and len(prior):
        # Smoothed first, as a volume will be: smoothing changes the shares.
        counted = torch.cat([predicted.counted(weight) for predicted in predictions], dim=1)
        pixels = counted.T.clamp_min(1e-6).log().cpu().numpy()
        if not len(pixels):
            return weight
        found = np.bincount(pixels.argmax(1), minlength=network.classes) / len(pixels)
        shares = between(found, prior, postprocessing.prior_strength)
        network.offset.copy_(torch.from_numpy(offsets(pixels, shares)))
    return weight


@dataclass(frozen=True)
class _Predicted:
    """The prediction of a tile with the sections before and after it, or of all of a region.

    Attributes:
        region: where it lies.
        box: what counts.
        sections: probabilities of consecutive sections, B x C x H x W.
        tissue: which of their pixels are no padding, B x H x W. The source's class shares are those
            of tissue, and what a network says of a constant border counts for nothing.
    """

    region: SamplingRegion
    box: Box
    sections: Tensor
    tissue: NDArray[np.bool_]

    @classmethod
    def of(cls, region: SamplingRegion, box: Box, sections: Tensor) -> _Predicted:
        """From probabilities of the sections of a box and beside it."""
        seen = box.in_sections(*_with_neighbours(region, box))
        return cls(region, box, sections, ~region.padding(seen))

    def pairs(self) -> NDArray[np.int64]:
        """Class ids of pixels of tissue and of the same pixels in the next section, (2, pixels)."""
        ids = self.sections.argmax(1).cpu().numpy()
        both = self.tissue[:-1] & self.tissue[1:]
        return np.stack([ids[:-1][both], ids[1:][both]])

    @property
    def has_neighbours(self) -> bool:
        """Whether consecutive sections show the same objects."""
        return not self.region.view.volume.grid.sections_are_independent and len(self.sections) > 1

    def counted(self, weight: float) -> Tensor:
        """Probabilities of the pixels that count, C x N, smoothed along z."""
        smoothed = smoothed_along_z(self.sections, weight if self.has_neighbours else 0.0)
        first = self.box.start[0] - _with_neighbours(self.region, self.box)[0]
        counted = slice(first, first + self.box.shape[0])
        pixels = smoothed[counted].transpose(0, 1).flatten(1)
        tissue = self.tissue[counted].ravel()
        return pixels if tissue.all() else pixels[:, torch.from_numpy(tissue).to(pixels.device)]


def _with_neighbours(region: SamplingRegion, box: Box) -> tuple[int, int]:
    """The first section of a box and of its neighbours within the region, and one past the last."""
    first = max(region.box.start[0], box.start[0] - 1)
    return first, min(region.box.stop[0], box.stop[0] + 1)


def _predict(predictor: Predictor, region: SamplingRegion, box: Box, *, flips: bool) -> Tensor:
    """Class probabilities of consecutive sections, B x C x H x W."""
    image = torch.from_numpy(region.read(box)).to(predictor.compute.device)
    stacks = predictor.stacks_of(region.view.volume)
    return predictor.probabilities(image, "target", stacks, flips=flips)

"""How well the model agrees with the user's annotations, round by round.

The model is compared on patches that it had not been trained on: it predicted them before the user
annotated them. The patches of an audit, and a round's random share, are drawn at random; they
estimate the score on the whole volume. All other patches are chosen for being hard, and score
lower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from napari_emda.project.region import ANNOTATED, RANDOMLY_DRAWN, Confusion, Region

# Bootstrap resamples. The standard error of a 2.5 % quantile from 2000 draws of a normal
# distribution, sqrt(p (1 - p) / 2000) / density, is 1.5 % of the width of the interval.
RESAMPLES = 2000
# Patches with any foreground, annotated or predicted, that an interval needs. Resampling two
# patches gives three different scores, which say nothing about the spread.
LEAST = 3
LEVEL = 0.95
# IoU above which model and user differ by little more than the drawing of outlines: shifted by one
# pixel, an outline costs about 0.06.
GOOD = 0.9
# Gain in IoU over two rounds below which another round is unlikely to pay. Trainings that differ in
# the seed alone differ by about as much: the standard deviation is 0.01 to 0.05
# (docs/benchmark-active-learning.md).
GAIN = 0.02

# Width of an interval from which on the score alone would mislead: half of the range from a poor
# model to a good one.
WIDE = 0.25

Counts = NDArray[Any]
Score = Callable[[Counts], NDArray[np.float64]]


def confusion(
    predicted: NDArray[np.uint8], annotated: NDArray[np.uint8], classes: int
) -> Confusion:
    """Count voxels by annotated and predicted class.

    Args:
        predicted: class ids, uint8.
        annotated: class ids + 1 of the same shape, uint8; 0 where nothing is annotated. Those
            voxels are not counted.
        classes: their number.
    """
    is_annotated = annotated > 0
    # One number per pair of classes, so that a single bincount fills the matrix. In int64, because
    # uint8 would overflow from 16 classes on.
    true_ids = annotated[is_annotated].astype(np.int64) - 1
    pairs = true_ids * classes + predicted[is_annotated]
    counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return tuple(map(tuple, counts.tolist()))


def iou(confusions: Counts) -> NDArray[np.float64]:
    """Intersection over union (Jaccard index), the mean over the foreground classes.

    A class that is neither annotated nor predicted is left out of the mean.

    Args:
        confusions: (..., C, C) voxels by annotated and predicted class.

    Returns:
        Shape (...); 1 where there is no foreground at all.
    """
    # |A and B| / |A or B|, with |A or B| = |A| + |B| - |A and B|.
    return _mean_over_classes(confusions, lambda hits, sizes: hits / (sizes - hits))


def dice(confusions: Counts) -> NDArray[np.float64]:
    """Dice coefficient, the mean over the foreground classes; see `iou`."""
    # 2 |A and B| / (|A| + |B|).
    return _mean_over_classes(confusions, lambda hits, sizes: 2 * hits / sizes)


def _mean_over_classes(
    confusions: Counts, score: Callable[[Counts, Counts], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Mean of a score of |A and B| and |A| + |B| over the foreground classes that occur."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)[..., 1:]
    sizes = (confusions.sum(-1) + confusions.sum(-2))[..., 1:]
    occurs = sizes > 0
    # A class that does not occur must not divide by 0; its score is then set to 0.
    scores = score(hits, np.where(occurs, sizes, 1)) * occurs
    count = occurs.sum(-1)
    return np.where(count > 0, scores.sum(-1) / np.maximum(count, 1), 1.0)


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval, which contains it.

    The interval is 0 to 1 when fewer than `LEAST` patches hold any foreground.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"

    @property
    def unknown(self) -> bool:
        """Whether there are too few patches to say anything."""
        return (self.low, self.high) == (0.0, 1.0)

    @property
    def wide(self) -> bool:
        """Whether the interval is too wide to rely on the value."""
        return self.high - self.low > WIDE

    def in_words(self) -> str:
        """The score, and what it may be as well where the interval is wide."""
        if not self.wide:
            return str(self)
        return f"{self.value:.2f} (uncertain: between {self.low:.2f} and {self.high:.2f})"


def estimate(confusions: Sequence[Confusion], score: Score) -> Estimate:
    """A score over patches, with a bootstrap interval.

    Patches are resampled, not voxels, because the voxels of a patch resemble each other. The
    percentiles are expanded for small samples (Hesterberg 2015, section 5.3,
    doi:10.1080/00031305.2015.1089789).

    Patches in which neither the user nor the model sees any foreground contain no information
    about the score, and do not count for the size of the sample.

    Args:
        confusions: one per patch.
        score: `iou` or `dice`.
    """
    counts = np.array(confusions, np.int64)
    patch_count = len(counts)
    value = float(score(counts.sum(0)))
    # [0, 0] is background for both.
    informative = int((counts.sum((1, 2)) > counts[:, 0, 0]).sum())
    if informative < LEAST:
        return Estimate(value, 0.0, 1.0)
    # How often each patch is drawn is all that matters: multinomial counts, and one matrix product
    # for the confusions of all resamples. The seed is fixed, so that the interval on view does not
    # change when nothing else does.
    draws = np.random.default_rng(0).multinomial(
        patch_count, np.full(patch_count, 1 / patch_count), RESAMPLES
    )
    totals = draws.astype(float) @ counts.reshape(patch_count, -1)
    scores = score(totals.reshape(-1, *counts.shape[1:]))
    # In a simulation, the interval of five patches held the true score in 83 % of draws without
    # the expansion, and in 92 % with it. Where one patch in ten holds foreground, the interval of
    # ten held it in 40 % of draws when the expansion was that of all ten.
    tail = (1 - _expanded_level(informative)) / 2
    low, high = np.quantile(scores, (tail, 1 - tail))
    # The percentiles of few resamples need not lie around the score itself.
    return Estimate(value, min(float(low), value), max(float(high), value))


def _expanded_level(count: int) -> float:
    """The level at which percentiles of a small sample cover about as much as `LEVEL` says.

    Hesterberg 2015: the normal quantile is replaced by that of Student's t, for the unknown
    variance, and stretched by sqrt(n / (n - 1)), because the bootstrap divides by n.
    """
    quantile = stdtrit(count - 1, (1 + LEVEL) / 2) * (count / (count - 1)) ** 0.5
    return float(1 - 2 * ndtr(-quantile))


@dataclass(frozen=True)
class Round:
    """What a round of annotation says about the model that it began with.

    Attributes:
        number: counts from 1.
        audit: whether its patches were drawn at random.
        run: the run whose model was compared.
        patches: how many were compared.
        iou, dice: agreement of the model with the user.
        changed: share of the voxels that the user changed.
    """

    number: int
    audit: bool
    run: str
    patches: int
    iou: Estimate
    dice: Estimate
    changed: float


def rounds(regions: Sequence[Region]) -> list[Round]:
    """The rounds in which the model was compared with the user, in order.

    Patches without a prediction are left out.
    """
    groups: dict[tuple[int, bool, str], list[Region]] = {}
    for region in regions:
        if region.annotated and region.confusion:
            key = (region.round, region.strategy in RANDOMLY_DRAWN, region.run)
            groups.setdefault(key, []).append(region)
    return [_round(*key, tuple(groups[key])) for key in sorted(groups)]


# All rounds are asked for after every decision, and only the latest has changed since. 256 rounds
# are more than a project has.
@lru_cache(maxsize=256)
def _round(number: int, audit: bool, run: str, regions: tuple[Region, ...]) -> Round:
    confusions = [region.confusion for region in regions]
    voxels = int(np.sum(confusions))
    return Round(
        number=number,
        audit=audit,
        run=run,
        patches=len(regions),
        iou=estimate(confusions, iou),
        dice=estimate(confusions, dice),
        changed=sum(region.changed for region in regions) / max(voxels, 1),
    )


def advice(completed: Sequence[Round]) -> str:
    """One sentence on why another round is unlikely to pay.

    Empty when another round may pay, or when that cannot be decided yet.
    """
    audits = [round_ for round_ in completed if round_.audit]
    # An audit before the latest training says nothing about today's model. The lower end of the
    # interval decides: the advice to stop must not rest on a lucky sample.
    if audits and audits[-1] is completed[-1] and audits[-1].iou.low >= GOOD:
        return (
            "Another round is unlikely to pay: on randomly drawn patches, the model agrees with "
            f"you to IoU {audits[-1].iou}, which is about as well as outlines can be drawn."
        )
    suggested = [round_ for round_ in completed if not round_.audit]
    if suggested and suggested[-1].patches >= LEAST and suggested[-1].iou.low >= GOOD:
        return (
            "Another round is unlikely to pay: even on the hardest patches, the model agrees with "
            f"you to IoU {suggested[-1].iou}."
        )
    last_three = [round_ for round_ in suggested if round_.patches >= LEAST][-3:]
    if len(last_three) < 3:
        return ""
    values = [round_.iou.value for round_ in last_three]
    if max(values[1:]) >= values[0] + GAIN:
        return ""
    return (
        "Another round like these is unlikely to pay: the last three found an IoU of "
        f"{', '.join(f'{value:.2f}' for value in values)}. Audit to see whether the rest of the "
        "volume got better, or train longer."
    )


def summary(regions: Sequence[Region]) -> str:
    """Number of annotated patches and working time, in one sentence.

    For example "12 patches done in 9 minutes."; empty before the first annotation.
    """
    # Labels from a file took the user no time.
    annotated = [region for region in regions if region.state in ANNOTATED and region.is_patch]
    if not annotated:
        return ""
    # Skipped patches took time as well.
    seconds = sum(region.seconds for region in regions)
    patches = _counted(len(annotated), "patch", "patches")
    # Patches that were copied from a file took the user no time.
    if seconds < 1:
        return f"{patches} done."
    duration = f"{seconds / 60:.0f} minutes"
    # For shorter times, whole minutes are too coarse.
    if seconds < 100:
        duration = _counted(round(seconds), "second", "seconds")
    return f"{patches} done in {duration}."


def _counted(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"

"""How well the model agreed with what the user then drew, round by round, and whether another round will pay.

The model is compared on patches that it had not seen: its prediction was made before the user's answer. The patches of
an audit, and a round's random share, were drawn by lot, so they estimate the score on the volume; all others are chosen
for being hard, so theirs is a lower one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from napari_emda.project.region import ANNOTATED, IMPORTED, RANDOMLY_DRAWN, Confusion, Region

RESAMPLES = 2000
LEAST = 3
"""Patches with any foreground, drawn or predicted, below which nothing can be said of the spread."""
LEVEL = 0.95
GOOD = 0.9
"""IoU above which the model and the user differ by little more than the drawing of outlines (one pixel: about 0.06)."""
GAIN = 0.02
"""Gain in IoU over two rounds below which another one is unlikely to pay."""

Counts = NDArray[Any]
Score = Callable[[Counts], NDArray[np.float64]]


def confusion(
    predicted: NDArray[np.uint8], annotated: NDArray[np.uint8], classes: int
) -> Confusion:
    """Voxels by annotated and predicted class.

    Args:
        predicted: class ids.
        annotated: class ids + 1 of the same shape, 0 where nothing is annotated; those are not counted.
        classes: their number.
    """
    known = annotated > 0
    pairs = (annotated[known].astype(np.int64) - 1) * classes + predicted[known]
    return tuple(
        map(tuple, np.bincount(pairs, minlength=classes**2).reshape(classes, classes).tolist())
    )


def iou(confusions: Counts) -> NDArray[np.float64]:
    """Intersection over union, the mean over the foreground classes that are there.

    Args:
        confusions: (..., C, C) voxels by annotated and predicted class.

    Returns:
        Shape (...); 1 where neither has any foreground.
    """
    return _mean_of(confusions, lambda hits, either: hits / (either - hits))


def dice(confusions: Counts) -> NDArray[np.float64]:
    """Dice coefficient, as `iou`."""
    return _mean_of(confusions, lambda hits, either: 2 * hits / either)


def _mean_of(
    confusions: Counts, score: Callable[[Counts, Counts], NDArray[np.float64]]
) -> NDArray[np.float64]:
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)[..., 1:]
    either = (confusions.sum(-1) + confusions.sum(-2))[..., 1:]
    there = either > 0
    scores = score(hits, np.where(there, either, 1)) * there
    count = there.sum(-1)
    return np.where(count > 0, scores.sum(-1) / np.maximum(count, 1), 1.0)


@dataclass(frozen=True)
class Estimate:
    """A score and its 95 % interval; the interval is the whole range when fewer than `LEAST` patches tell anything."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"


def estimate(confusions: Sequence[Confusion], score: Score) -> Estimate:
    """A score over patches, with a bootstrap interval over the patches.

    Patches, not voxels, are drawn again, since voxels of one patch are alike. The percentiles are expanded for small
    samples (Hesterberg 2015, section 5.3, doi:10.1080/00031305.2015.1089789): in a simulation, the interval of five
    patches held the truth in 83 % of draws without that, and in 92 % with it. Patches in which neither the user nor the
    model sees any foreground say nothing of the score, and do not count for the size of the sample: where one patch in
    ten holds foreground, the interval of ten held the truth in 40 % of draws without that.
    """
    counts = np.array(confusions, np.int64)
    value = float(score(counts.sum(0)))
    telling = int((counts.sum((1, 2)) > counts[:, 0, 0]).sum())
    if telling < LEAST:
        return Estimate(value, 0.0, 1.0)
    drawn = np.random.default_rng(0).multinomial(
        len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES
    )
    tail = (1 - _expanded(telling)) / 2
    totals = (drawn.astype(float) @ counts.reshape(len(counts), -1)).reshape(-1, *counts.shape[1:])
    low, high = np.quantile(score(totals), (tail, 1 - tail))
    return Estimate(value, float(low), float(high))


def _expanded(count: int) -> float:
    """The level at which percentiles of so small a sample hold the truth about as often as `LEVEL` says."""
    reach = stdtrit(count - 1, (1 + LEVEL) / 2) * (count / (count - 1)) ** 0.5
    return float(1 - 2 * ndtr(-reach))


@dataclass(frozen=True)
class Round:
    """What one round of annotation told about the model that it began with.

    Attributes:
        number: counts from 1.
        audit: whether its patches were drawn by lot.
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
    """The rounds in which the model was compared with the user, in order; patches without a prediction are left out."""
    groups: dict[tuple[int, bool, str], list[Region]] = {}
    for region in regions:
        if region.annotated and region.confusion:
            groups.setdefault(
                (region.round, region.strategy in RANDOMLY_DRAWN, region.run), []
            ).append(region)
    return [_round(*key, tuple(groups[key])) for key in sorted(groups)]


@lru_cache(maxsize=256)  # asked after every decision, while the rounds before stay as they are
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


def advice(done: Sequence[Round]) -> str:
    """Why another round is unlikely to pay, in one sentence; empty when it may, or when that cannot be told yet."""
    audits = [each for each in done if each.audit]
    if audits and audits[-1] is done[-1] and audits[-1].iou.low >= GOOD:
        return (
            f"Another round is unlikely to pay: by lot, the model agrees with you to IoU {audits[-1].iou}, which is "
            "about as well as outlines can be drawn."
        )
    suggested = [each for each in done if not each.audit]
    if suggested and suggested[-1].patches > 2 and suggested[-1].iou.low >= GOOD:
        return (
            f"Another round is unlikely to pay: even on the hardest patches the model agrees with you to IoU "
            f"{suggested[-1].iou}, and you changed {suggested[-1].changed:.1%} of their pixels."
        )
    last = [each for each in suggested if each.patches > 2][-3:]
    if len(last) == 3 and max(each.iou.value for each in last[1:]) < last[0].iou.value + GAIN:
        values = ", ".join(f"{each.iou.value:.2f}" for each in last)
        return (
            f"Another round like these is unlikely to pay: the last three found an IoU of {values}. Audit to see "
            "whether the rest of the volume got better, or train longer."
        )
    return ""


def summary(regions: Sequence[Region]) -> str:
    """What was annotated so far and how long it took: "12 patches, 9 minutes, 3 % of their pixels changed"."""
    done = [
        region for region in regions if region.state in ANNOTATED and region.strategy != IMPORTED
    ]
    if not done:
        return ""
    seconds = sum(region.seconds for region in regions)
    took = (
        f"{seconds / 60:.0f} minutes"
        if seconds >= 100
        else _counted(round(seconds), "second", "seconds")
    )
    changed = sum(region.changed for region in done) / sum(region.voxels.size for region in done)
    return (
        f"{_counted(len(done), 'patch', 'patches')}, {took}, {changed:.1%} of their pixels changed."
    )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"

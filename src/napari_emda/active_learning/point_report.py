"""What check points say of a prediction, and its calibration by them. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from napari_emda.active_learning.check_points import CheckedPrediction
from napari_emda.data.calibration import LOGITS
from napari_emda.data.probabilities import CERTAIN, LEVELS
from napari_emda.errors import JobError
from napari_emda.evaluation.check_points import DRAWN
from napari_emda.evaluation.point_calibration import Choice, choose, fit
from napari_emda.evaluation.point_estimates import Cells, estimate
from napari_emda.project.check_points import (
    CANNOT_TELL,
    Use,
)
from napari_emda.project.project import Project
from napari_emda.project.stored_calibration import (
    StoredCalibration,
    calibration_in_use,
    read_calibration,
)

FEWEST = 10
"""Answers without which nothing is said: intervals would span nearly everything."""
FEWEST_TO_USE = 50
"""Answers from which on a calibration may be used."""


@dataclass(frozen=True)
class ClassReport:
    """What the points say of a class, with 95 % intervals.

    Attributes:
        share: of the volume that is of the class: value, low, high.
        iou: of the mask of the class: value, low, high; None if no point fell into the mask.
    """

    share: tuple[float, float, float]
    iou: tuple[float, float, float] | None


@dataclass(frozen=True)
class Report:
    """What the points say of a prediction.

    Attributes:
        drawn: number of points.
        answered: by a class.
        unsure: answered by "cannot tell".
        classes: what is known of each foreground class; empty with too few answers.
        in_use: the calibration that the mask has now.
        choice: the best calibration by the points; None if they tell none.
        problem: why there is no estimate or no calibration; empty if there is.
        is_stale: whether there is a calibration of an earlier prediction, which is not used.
    """

    drawn: int
    answered: int
    unsure: int
    classes: dict[str, ClassReport] = field(default_factory=dict)
    in_use: StoredCalibration | None = None
    choice: Choice | None = None
    problem: str = ""
    is_stale: bool = False

    @property
    def why_not_used(self) -> str:
        """Why the calibration cannot be used now; empty if it can."""
        if self.choice is None:
            return self.problem or "The points tell no calibration."
        if self.answered < FEWEST_TO_USE:
            return (
                f"A calibration needs {FEWEST_TO_USE} answers, and there are {self.answered}: "
                "answer more points."
            )
        if not self.choice.is_worth_it:
            return "The mask may be as good as it is, so nothing is changed."
        return ""

    @property
    def threshold(self) -> tuple[float, float] | None:
        """Threshold of the mask in stored probability, now and by the points."""
        if self.choice is None:
            return None
        before = 128 if self.in_use is None else self.in_use.calibration.first_level
        return before / CERTAIN, self.choice.level / CERTAIN

    @property
    def is_used(self) -> bool:
        """Whether the mask is the one that the points say is best."""
        threshold = self.threshold
        return self.in_use is not None and threshold is not None and threshold[0] == threshold[1]

    def sentences(self) -> list[str]:
        """What the points say, a sentence for each."""
        texts = [
            f"{name}: {_shown(found.share, 100, ' %')} of the volume, IoU of the mask "
            f"{'not known yet' if found.iou is None else _shown(found.iou)}."
            for name, found in self.classes.items()
        ]
        if self.unsure:
            texts.append(
                f"{self.unsure} of {self.answered + self.unsure} points cannot be told; they are "
                "left out, as if they were like the others."
            )
        if self.threshold is not None and self.choice is not None:
            before, after = self.threshold
            if self.is_used:
                return [*texts, f"Calibrated: the threshold is {after:.2f} in place of 0.50."]
            gain = "" if self.why_not_used else f", expected gain in IoU {self.choice.gain:.2f}"
            texts.append(f"Threshold {before:.2f}, by the points {after:.2f}{gain}.")
        if self.is_stale:
            texts.append(
                "An earlier calibration is not used, because the volume was predicted anew since."
            )
        remark = self.problem or self.why_not_used
        return [*texts, remark] if remark else texts

    def values(self) -> dict[str, Any]:
        """As JSON."""
        threshold = self.threshold
        return {
            "points": self.drawn,
            "answered": self.answered,
            "cannot_tell": self.unsure,
            "classes": {
                name: {
                    "share": list(found.share),
                    "iou": None if found.iou is None else list(found.iou),
                }
                for name, found in self.classes.items()
            },
            "threshold": None
            if threshold is None
            else {"now": threshold[0], "by_points": threshold[1]},
            "gain": None if self.choice is None else self.choice.gain,
            "helps": self.choice is not None and self.choice.is_worth_it,
            "calibrated": self.in_use is not None,
            "remark": self.problem or self.why_not_used,
        }


def _shown(found: tuple[float, float, float], factor: int = 1, unit: str = "") -> str:
    value, low, high = (factor * number for number in found)
    digits = 2 if unit == "" else 1
    return f"{value:.{digits}f}{unit} ({low:.{digits}f}–{high:.{digits}f})"


def report(project: Project, checked: CheckedPrediction) -> Report:
    """What the answered points say of a prediction."""
    draws, points = checked.asked(project)
    answered = [point for point in points if point.answer not in (None, CANNOT_TELL)]
    unsure = sum(point.answer == CANNOT_TELL for point in points)
    in_use = calibration_in_use(checked.run, checked.volume)
    is_stale = in_use is None and read_calibration(checked.run, checked.volume) is not None
    numbers = (len(points), len(answered), unsure)
    if len(answered) < FEWEST:
        text = f"{FEWEST} answers are needed to say anything, and there are {len(answered)}: " + (
            "answer more points." if len(points) - unsure >= FEWEST else "draw more points."
        )
        return Report(*numbers, in_use=in_use, problem=text, is_stale=is_stale)
    counts = np.array(draws[-1].counts, np.int64)
    best = np.array([point.best for point in answered])
    levels = np.array([point.level for point in answered])
    truth = np.array([point.answer for point in answered])
    first = LEVELS // 2 if in_use is None else in_use.calibration.first_level
    names = checked.prediction.outputs.classes
    # What is neither the best foreground class nor background says nothing of the two.
    used = (truth == best) | (truth == 0)
    slope, offset = fit(levels, truth == best, used.astype(float))
    chance = expit(slope * LOGITS + offset)
    classes = {
        name: _of_class(counts, k, first, chance, best, levels, truth)
        for k, name in enumerate(names)
        if k
    }
    choice = choose(counts, levels, truth == best, used)
    problem = ""
    if choice is None:
        problem = _why_no_choice(truth, counts)
    return Report(*numbers, classes, in_use, choice, problem, is_stale)


def _why_no_choice(truth: NDArray[np.int64], counts: NDArray[np.int64]) -> str:
    if not counts[:, 1:].any():
        return "The model finds nothing at all in the volume, so no threshold can help: train more."
    if (truth == 0).all():
        return "All points are background: answer more points until some are not."
    return (
        "All points that tell something are of one kind: answer more points before the mask is "
        "calibrated."
    )


def _of_class(
    counts: NDArray[np.int64],
    k: int,
    first: int,
    chance: NDArray[np.float64],
    best: NDArray[np.int64],
    levels: NDArray[np.int64],
    truth: NDArray[np.int64],
) -> ClassReport:
    """Share and IoU of class k against all others.

    The cells are the levels of voxels whose best foreground class is another one, then of those
    whose best is k.
    """
    levels_of_class = counts[k - 1]
    in_mask = np.concatenate([np.zeros(LEVELS, bool), np.arange(LEVELS) >= first])
    cells = Cells(
        np.concatenate([counts.sum(axis=0) - levels_of_class, levels_of_class]).astype(float),
        np.tile(DRAWN, 2),
        in_mask,
    )
    # Where another class is more probable, the model expects none of this one.
    expected = np.concatenate([np.zeros(LEVELS), chance])
    found = estimate(cells, levels + LEVELS * (best == k), truth == k, expected)
    iou = tuple(float(value) for value in found.iou)
    share = tuple(float(value) for value in found.share)
    assert len(iou) == len(share) == 3
    return ClassReport(share, None if np.isnan(iou[0]) else iou)


def stop_using(project: Project, checked: CheckedPrediction) -> Report:
    """Use the prediction as it was made, without its calibration; returns the report."""
    before = calibration_in_use(checked.run, checked.volume)
    if before is not None:
        step = Use(run=checked.run.name, volume=checked.volume, before=before)
        project.check_points.note_use(step, None)
    return report(project, checked)


def use(project: Project, checked: CheckedPrediction) -> Report:
    """Use the calibration of the points from now on.

    Returns:
        The report with it in use.

    Raises:
        JobError: there are too few answers, or the mask may be as good as it is.
    """
    found = report(project, checked)
    if found.why_not_used or found.choice is None:
        raise JobError(f"No calibration is used. {found.why_not_used}")
    calibration = found.choice.calibration
    now = StoredCalibration(
        slope=calibration.slope,
        offset=calibration.offset,
        threshold=calibration.threshold,
        points=found.answered,
        prediction=checked.origin,
    )
    if now != found.in_use:
        before = calibration_in_use(checked.run, checked.volume)
        step = Use(run=checked.run.name, volume=checked.volume, before=before)
        project.check_points.note_use(step, now)
    return report(project, checked)

"""Check points of a prediction: drawing them, what they say of it, and calibrating it. No torch."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from napari_emda.data.box import Box
from napari_emda.data.calibration import LOGITS
from napari_emda.data.padding import padding_in, padding_of
from napari_emda.data.probabilities import CERTAIN, LEVELS
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError, JobError, SettingsError
from napari_emda.evaluation.check_points import DRAWN, draw, everywhere
from napari_emda.evaluation.point_calibration import Choice, choose, fit
from napari_emda.evaluation.point_estimates import Cells, estimate
from napari_emda.events import TileDone
from napari_emda.project.check_points import (
    CANNOT_TELL,
    MOST_POINTS,
    AskedPoint,
    Draw,
    Use,
    asked,
)
from napari_emda.project.predictions import Prediction
from napari_emda.project.project import Project
from napari_emda.project.regions import new_id
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_calibration import (
    StoredCalibration,
    calibration_in_use,
    origin_of,
    read_calibration,
)
from napari_emda.project.stored_prediction import StoredPrediction

FEWEST = 10
"""Answers without which nothing is said: intervals would span nearly everything."""
FEWEST_TO_USE = 50
"""Answers from which on a calibration may be used."""


@dataclass(frozen=True)
class Checked:
    """The prediction that points are drawn from.

    Attributes:
        run: its folder.
        volume: name of the volume.
        prediction: as it is on the disk.
        origin: of the prediction, see `origin_of`.
    """

    run: RunFolder
    volume: str
    prediction: Prediction
    origin: dict[str, Any]

    @classmethod
    def of(cls, project: Project, run: str | None = None, volume: str | None = None) -> Checked:
        """A run's prediction of a volume; by default of the first target, by its newest run.

        Raises:
            JobError: it is not complete, or of clusters.
        """
        name = volume or project.volumes.target().name
        folder = project.run(run or project.predictions.newest_run(name))
        prediction = project.predictions.of(folder.name, name)
        stored = StoredPrediction(folder, name)
        if prediction is None or not stored.complete({}):
            raise JobError(
                f"'{name}' is not completely predicted by run '{folder.name}': predict it first."
            )
        if prediction.outputs.are_clusters:
            raise JobError(
                f"The run '{folder.name}' has found clusters, and check points need classes: "
                "annotate some patches, and train a method from it."
            )
        return cls(folder, name, prediction, origin_of(stored))

    def asked(self, project: Project) -> tuple[list[Draw], list[AskedPoint]]:
        """The draws from this prediction, and their points; points count from 1 in this order.

        Raises:
            DataError: a point lies outside of the volume.
        """
        history = project.check_points.read()
        draws, points = asked(history, self.run.name, self.volume, self.origin)
        shape = self.prediction.stored.shape[1:]
        classes = self.prediction.outputs.classes
        outside = any(
            i >= side for point in points for i, side in zip(point.voxel, shape, strict=True)
        )
        if outside or any(drawn.classes != classes for drawn in draws):
            raise DataError(
                f"The check points of '{self.volume}' do not fit it: put the image and the classes "
                "back that they were drawn for, or delete 'check_points.jsonl' in the project."
            )
        return draws, points


def draw_points(
    project: Project, checked: Checked, count: int, seed: int
) -> Generator[TileDone, None, Draw]:
    """Draw points from a prediction; record them with `CheckPoints.add`.

    They are drawn from the whole volume without its padding, annotated or not: otherwise the
    estimates would be of another volume. Annotated ones are answered by their annotation.

    Args:
        project: of the prediction.
        checked: the prediction.
        count: number of points.
        seed: of the draw; with the number of earlier draws, so that each draw is another one.

    Yields:
        An event per block.

    Raises:
        SettingsError: the number of points is out of range.
        DataError: all of the volume is padding.
    """
    if not 1 <= count <= MOST_POINTS:
        raise SettingsError(f"{count} points cannot be drawn: choose 1 to {MOST_POINTS}.")
    draws, _ = checked.asked(project)
    volume = project.volumes.open(checked.volume)
    askable = _askable(volume)
    seeds = int(np.random.SeedSequence([abs(seed), len(draws)]).generate_state(1)[0])
    points, counts = yield from draw(
        checked.prediction.stored, count, seeds, askable, checked.volume
    )
    if not points:
        raise DataError(f"All of '{checked.volume}' is padding: there is nothing to check.")
    return Draw(
        id=new_id(),
        run=checked.run.name,
        volume=checked.volume,
        prediction=checked.origin,
        classes=checked.prediction.outputs.classes,
        seed=seed,
        counts=tuple(tuple(row) for row in counts.tolist()),
        points=tuple((*point.voxel, point.best, point.level) for point in points),
    )


def _askable(volume: Volume) -> Any:
    greys = padding_of(volume)
    if not greys:
        return everywhere

    def askable(box: Box) -> NDArray[np.bool_]:
        return ~padding_in(volume, box, greys)

    return askable


def answer(
    project: Project,
    points: Sequence[AskedPoint],
    answers: Mapping[int, int],
    origin: Any = "user",
) -> None:
    """Record answers by the numbers of the points, which count from 1.

    Raises:
        SettingsError: there is no such point, or it is answered already. Nothing is recorded then.
    """
    for number in answers:
        if not 1 <= number <= len(points):
            raise SettingsError(
                f"There is no check point {number}: there are {len(points)}; draw more with --draw."
            )
        if points[number - 1].answer is not None:
            raise SettingsError(
                f"Check point {number} is answered already: take the answer back first (--undo)."
            )
    chosen = {
        (points[number - 1].draw, points[number - 1].index): value
        for number, value in answers.items()
    }
    project.check_points.answer(chosen, origin)


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
        told: answered by a class.
        unsure: answered by "cannot tell".
        classes: what is known of each foreground class; empty with too few answers.
        in_use: the calibration that the mask has now.
        choice: the best calibration by the points; None if they tell none.
        problem: why there is no estimate or no calibration; empty if there is.
        is_stale: whether there is a calibration of an earlier prediction, which is not used.
    """

    drawn: int
    told: int
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
        if self.told < FEWEST_TO_USE:
            return (
                f"A calibration needs {FEWEST_TO_USE} answers, and there are {self.told}: answer "
                "more points."
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
                f"{self.unsure} of {self.told + self.unsure} points cannot be told; they are left "
                "out, as if they were like the others."
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
            "told": self.told,
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


def report(project: Project, checked: Checked) -> Report:
    """What the answered points say of a prediction."""
    draws, points = checked.asked(project)
    told = [point for point in points if point.answer not in (None, CANNOT_TELL)]
    unsure = sum(point.answer == CANNOT_TELL for point in points)
    in_use = calibration_in_use(checked.run, checked.volume)
    is_stale = in_use is None and read_calibration(checked.run, checked.volume) is not None
    numbers = (len(points), len(told), unsure)
    if len(told) < FEWEST:
        text = f"{FEWEST} answers are needed to say anything, and there are {len(told)}: " + (
            "answer more points." if len(points) - unsure >= FEWEST else "draw more points."
        )
        return Report(*numbers, in_use=in_use, problem=text, is_stale=is_stale)
    counts = np.array(draws[-1].counts, np.int64)
    best = np.array([point.best for point in told])
    levels = np.array([point.level for point in told])
    truth = np.array([point.answer for point in told])
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
    own = counts[k - 1]
    in_mask = np.concatenate([np.zeros(LEVELS, bool), np.arange(LEVELS) >= first])
    cells = Cells(
        np.concatenate([counts.sum(axis=0) - own, own]).astype(float), np.tile(DRAWN, 2), in_mask
    )
    # Where another class is more probable, the model expects none of this one.
    expected = np.concatenate([np.zeros(LEVELS), chance])
    found = estimate(cells, levels + LEVELS * (best == k), truth == k, expected)
    iou = tuple(float(value) for value in found.iou)
    share = tuple(float(value) for value in found.share)
    assert len(iou) == len(share) == 3
    return ClassReport(share, None if np.isnan(iou[0]) else iou)


def stop_using(project: Project, checked: Checked) -> Report:
    """Use the prediction as it was made, without its calibration; returns the report."""
    before = calibration_in_use(checked.run, checked.volume)
    if before is not None:
        step = Use(run=checked.run.name, volume=checked.volume, before=before)
        project.check_points.note_use(step, None)
    return report(project, checked)


def use(project: Project, checked: Checked) -> Report:
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
        points=found.told,
        prediction=checked.origin,
    )
    if now != found.in_use:
        before = calibration_in_use(checked.run, checked.volume)
        step = Use(run=checked.run.name, volume=checked.volume, before=before)
        project.check_points.note_use(step, now)
    return report(project, checked)

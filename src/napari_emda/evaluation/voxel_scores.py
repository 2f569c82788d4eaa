"""Agreement of a prediction with the truth, counted block by block.

The scores are exact, and memory is bounded by the block. Probabilities are stored as uint8,
round(255 p). Two 256-bin histograms per class (voxels of the class, other voxels) therefore hold
all that threshold scores and average precision need.

Where a score has nothing to count:

* neither truth nor prediction has a voxel: IoU, Dice, precision and recall are 1;
* only one of them has voxels: all four are 0;
* the truth has no voxel of the class: average precision is undefined, nan (None in the tables);
* IGNORE voxels of the truth are not counted; a section with nothing else has no IoU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.data.probabilities import LEVELS, class_ids, stored_threshold
from napari_emda.data.volume import IGNORE
from napari_emda.errors import DataError


def _ratio(part: float, whole: float, nothing: bool) -> float:
    return float(part / whole) if whole else float(nothing)


@dataclass(frozen=True)
class Counts:
    """Voxels of one class by truth and prediction, and the scores that follow."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def voxels(self) -> int:
        """All voxels that were counted."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative

    @property
    def _empty(self) -> bool:
        return not (self.true_positive or self.false_positive or self.false_negative)

    @property
    def iou(self) -> float:
        """Intersection over union (Jaccard index)."""
        union = self.true_positive + self.false_positive + self.false_negative
        return _ratio(self.true_positive, union, self._empty)

    @property
    def dice(self) -> float:
        """Dice coefficient (F1)."""
        sizes = 2 * self.true_positive + self.false_positive + self.false_negative
        return _ratio(2 * self.true_positive, sizes, self._empty)

    @property
    def precision(self) -> float:
        """Share of the prediction that is right."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive, self._empty)

    @property
    def recall(self) -> float:
        """Share of the truth that is found."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative, self._empty)

    @property
    def foreground_fraction(self) -> float:
        """Share of the counted voxels that are of the class in truth."""
        return _ratio(self.true_positive + self.false_negative, self.voxels, False)

    @property
    def predicted_fraction(self) -> float:
        """Share of the counted voxels that are predicted to be of the class."""
        return _ratio(self.true_positive + self.false_positive, self.voxels, False)


class Histograms:
    """Voxels of one class (positives) and all others (negatives), by stored probability."""

    def __init__(self) -> None:
        self.positives = np.zeros(LEVELS, np.int64)
        self.negatives = np.zeros(LEVELS, np.int64)

    def add(
        self,
        probability: NDArray[np.uint8],
        truth: NDArray[np.bool_],
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        """Count one block.

        Args:
            probability: stored probabilities, uint8, any shape.
            truth: where the class is, bool, same shape.
            valid: where to count, bool, same shape; everywhere if None.
        """
        if valid is not None:
            probability = probability[valid]
            truth = truth[valid]
        positives = np.bincount(probability[truth], minlength=LEVELS)
        self.positives += positives
        self.negatives += np.bincount(probability.ravel(), minlength=LEVELS) - positives

    def counts(self, threshold: float = 0.5) -> Counts:
        """Counts when everything from ``threshold`` (a fraction) up is foreground."""
        level = stored_threshold(threshold)
        return Counts(
            true_positive=int(self.positives[level:].sum()),
            false_positive=int(self.negatives[level:].sum()),
            false_negative=int(self.positives[:level].sum()),
            true_negative=int(self.negatives[:level].sum()),
        )

    @property
    def average_precision(self) -> float:
        """Precision averaged over the steps in recall; nan without a voxel of the class.

        The definition of ``sklearn.metrics.average_precision_score``.
        """
        found = self.positives[::-1].cumsum()
        if not found[-1]:
            return math.nan
        predicted = found + self.negatives[::-1].cumsum()
        precision = np.divide(found, predicted, out=np.zeros(LEVELS), where=predicted > 0)
        return float((self.positives[::-1] * precision).sum() / found[-1])


class ScoreBoard:
    """Agreement of probabilities with class ids, gathered block by block.

    The prediction is `napari_emda.data.probabilities.class_ids` at a threshold of 0.5. A confusion
    matrix per section counts its voxels.

    Args:
        classes: number of classes, background included.
    """

    def __init__(self, classes: int = 2) -> None:
        self.classes = classes
        self.histograms = [Histograms() for _ in range(classes - 1)]
        self._sections: dict[int, NDArray[np.int64]] = {}

    def add(
        self, probabilities: NDArray[np.uint8], truth: NDArray[np.uint8], first_section: int = 0
    ) -> None:
        """Count one block.

        Args:
            probabilities: (C - 1, Z, Y, X) stored probabilities of classes 1 to C - 1.
            truth: (Z, Y, X) class ids, IGNORE (255) where nothing is to be counted.
            first_section: position of the block along z, for the scores per section.

        Raises:
            DataError: the truth holds a class that there is not.
        """
        valid = truth != IGNORE
        self._check(truth, valid)
        for k, histograms in enumerate(self.histograms, start=1):
            histograms.add(probabilities[k - 1], truth == k, valid)
        predicted = class_ids(probabilities)
        for z in range(len(truth)):
            matrix = self._sections.setdefault(
                first_section + z, np.zeros((self.classes, self.classes), np.int64)
            )
            matrix += self._confusion(truth[z][valid[z]], predicted[z][valid[z]])

    def _check(self, truth: NDArray[np.uint8], valid: NDArray[np.bool_]) -> None:
        highest = int(truth.max(where=valid, initial=0))
        if highest >= self.classes:
            raise DataError(
                f"The labels hold class {highest}, but the prediction has classes 0 to "
                f"{self.classes - 1}: give labels of the same classes."
            )

    def _confusion(
        self, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]
    ) -> NDArray[np.int64]:
        # Each (truth, prediction) pair as one number, so that bincount makes the matrix.
        pairs = truth.astype(np.intp) * self.classes + predicted
        return np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """C x C voxels; rows are the truth, columns the prediction."""
        return sum(self._sections.values(), np.zeros((self.classes, self.classes), np.int64))

    @property
    def voxels(self) -> int:
        """Voxels that were counted."""
        return int(self.confusion.sum())

    def counts(self, k: int = 1) -> Counts:
        """Counts of class ``k`` over the whole volume."""
        return _class_counts(self.confusion, k)

    def section_iou(self, k: int = 1) -> float:
        """Mean IoU of class ``k`` over the sections that have a counted voxel; nan without any."""
        scores = [
            _class_counts(matrix, k).iou for matrix in self._sections.values() if matrix.any()
        ]
        return float(np.mean(scores)) if scores else math.nan

    def scores(self, k: int = 1) -> dict[str, float | None]:
        """All scores of class ``k`` as a table row; undefined ones are None: JSON has no nan."""
        counts = self.counts(k)
        return {
            "iou": counts.iou,
            "dice": counts.dice,
            "average_precision": _defined(self.histograms[k - 1].average_precision),
            "precision": counts.precision,
            "recall": counts.recall,
            "section_iou": _defined(self.section_iou(k)),
            "foreground_fraction": counts.foreground_fraction,
            "predicted_fraction": counts.predicted_fraction,
        }


def _class_counts(confusion: NDArray[np.int64], k: int) -> Counts:
    right = int(confusion[k, k])
    predicted = int(confusion[:, k].sum())
    true = int(confusion[k].sum())
    others = int(confusion.sum()) - predicted - true + right
    return Counts(right, predicted - right, true - right, others)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def score_volume(
    probabilities: Array, truth: Array, classes: Sequence[str], box: Box | None = None
) -> dict[str, Any]:
    """Compare stored probabilities with the truth, block by block.

    Args:
        probabilities: (C - 1, Z, Y, X) uint8, channel c being class c + 1; read lazily.
        truth: (Z, Y, X) class ids, IGNORE (255) where not to count; read lazily.
        classes: names of all C classes, background first.
        box: the part to compare; all of it if None.

    Returns:
        ``voxels`` and the scores of `ScoreBoard.scores`. With several foreground classes the scores
        are means over the classes where they are defined, and ``classes`` has a row per class.

    Raises:
        DataError: shapes or classes do not fit, or no voxel can be counted.
    """
    _check_shapes(probabilities, truth, classes)
    board = ScoreBoard(len(classes))
    box = box or Box.whole(truth.shape)
    for part in blocks(box, block_shape(probabilities)):
        predicted = np.asarray(probabilities[(slice(None), *part.slices)])
        board.add(predicted, np.asarray(truth[part.slices]).astype(np.uint8), part.start[0])
    if not board.voxels:
        raise DataError(
            f"No voxel of the box {box} is annotated: choose a box with labels to compare with."
        )
    rows = {name: board.scores(k) for k, name in enumerate(classes) if k}
    result: dict[str, Any] = {"voxels": board.voxels, **_mean(list(rows.values()))}
    return {**result, "classes": rows} if len(rows) > 1 else result


def _check_shapes(probabilities: Array, truth: Array, classes: Sequence[str]) -> None:
    if tuple(probabilities.shape[1:]) != tuple(truth.shape):
        raise DataError(
            f"The prediction is {_by(probabilities.shape[1:])} voxels and the labels are "
            f"{_by(truth.shape)}: give labels of the predicted volume."
        )
    if probabilities.shape[0] + 1 != len(classes):
        raise DataError(
            f"The prediction has {probabilities.shape[0] + 1} classes and {len(classes)} are "
            "named: name each class, background first."
        )


def _by(shape: Sequence[int]) -> str:
    return " × ".join(str(n) for n in shape)


def _mean(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for key in rows[0]:
        values = [value for row in rows if (value := row[key]) is not None]
        means[key] = float(np.mean(values)) if values else None
    return means

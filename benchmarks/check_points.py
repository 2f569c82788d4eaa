"""What check points say, and what their calibration does, in many simulated draws.

``python -m benchmarks.check_points`` simulates models of known quality. With ``--prediction`` and
``--labels``, points are drawn from a stored prediction instead, of a volume whose labels are known:
a draw depends on the stored probabilities alone, so counts of voxels by probability and class are
all that is needed of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from napari_emda.data.calibration import LOGITS
from napari_emda.evaluation.check_points import DRAWN
from napari_emda.evaluation.point_calibration import choose, fit
from napari_emda.evaluation.point_estimates import Cells, estimate
from napari_emda.io.read import open_labels

Floats = NDArray[np.float64]
LEVELS = np.arange(256)
HALF = 128
"""The lowest stored probability in the mask of a threshold of 0.5."""


@dataclass(frozen=True)
class Model:
    """A model on a volume of one class.

    Attributes:
        name: what is right or wrong with it.
        voxels: share of the volume with each stored probability.
        truth: share of the class among them.
    """

    name: str
    voxels: Floats
    truth: Floats

    @property
    def share(self) -> float:
        """True share of the class."""
        return float(self.voxels @ self.truth)

    @property
    def iou(self) -> Floats:
        """IoU of the mask from each stored probability on."""
        found = (self.voxels * self.truth)[::-1].cumsum()[::-1]
        predicted = self.voxels[::-1].cumsum()[::-1]
        return np.asarray(found / (predicted + self.share - found))


def simulated(share: float) -> Iterator[Model]:
    """Models whose log odds are normal for the class and for the background."""
    for name, shift, foreground in (
        ("calibrated", 0.0, (3.0, 2.5)),
        ("finds too much", 2.0, (3.0, 2.5)),
        ("finds too little", -2.0, (3.0, 2.5)),
        ("misses some", 0.0, (1.0, 4.0)),
        ("misses many", 0.0, (0.0, 6.0)),
    ):
        borders = logit(np.clip((np.arange(257) - 0.5) / 255, 1e-12, 1 - 1e-12)) - shift
        borders[[0, -1]] = -np.inf, np.inf
        of_class = share * np.diff(norm.cdf(borders, *foreground))
        voxels = of_class + (1 - share) * np.diff(norm.cdf(borders, -6.0, 2.0))
        yield Model(name, voxels, of_class / voxels)


def measured(name: str, stored: NDArray[np.uint8], labels: NDArray[Any]) -> Model:
    """A stored prediction (z, y, x) of a volume with these labels, 0 = background."""
    voxels = np.bincount(stored.ravel(), minlength=256).astype(float)
    of_class = np.bincount(stored[labels > 0], minlength=256)
    return Model(name, voxels / voxels.sum(), of_class / np.maximum(voxels, 1))


def rescaled(model: Model, factor: float) -> Model:
    """The same model on a volume with that many times the odds of the class.

    As if objects were left out, or added, of which the model finds as many as of the others.
    """
    of_class = model.voxels * model.truth * factor
    voxels = of_class + model.voxels * (1 - model.truth)
    truth = of_class / np.maximum(voxels, np.finfo(float).tiny)
    return Model(f"{model.name}, odds x {factor:g}", voxels / voxels.sum(), truth)


def matched(model: Model, area: float) -> Model:
    """The same model, its log odds moved until its mask takes a share of the volume.

    That is what `auto` does with the share of the source, which is wrong in such a volume.
    """

    def levels(offset: float) -> NDArray[np.integer[Any]]:
        return np.floor(255 * expit(LOGITS + offset) + 0.5).astype(int)

    low, high = -8.0, 8.0
    for _ in range(40):
        offset = (low + high) / 2
        found = model.voxels[levels(offset) >= HALF].sum()
        low, high = (offset, high) if found < area else (low, offset)
    voxels = np.bincount(levels(offset), model.voxels, minlength=256)
    of_class = np.bincount(levels(offset), model.voxels * model.truth, minlength=256)
    truth = of_class / np.maximum(voxels, np.finfo(float).tiny)
    return Model(f"{model.name}, wrong share assumed", voxels, truth)


def drawn(
    model: Model, points: int, draws: int
) -> tuple[NDArray[np.integer[Any]], NDArray[np.bool_]]:
    """Stored probabilities and true answers of the points of many draws."""
    rng = np.random.default_rng(points)
    chance = model.voxels * DRAWN
    levels = rng.choice(256, size=(draws, points), p=chance / chance.sum())
    return levels, rng.random(levels.shape) < model.truth[levels]


def coverage(model: Model, points: int, draws: int) -> list[str]:
    """How often the intervals hold the truth, and how wide they are, as the cells of a table."""
    levels, answers = drawn(model, points, draws)
    slope, offset = fit(levels, answers, np.ones(levels.shape))
    expected = expit(slope[:, None] * LOGITS + offset[:, None])
    found = estimate(Cells(model.voxels, DRAWN, LEVELS >= HALF), levels, answers, expected)
    cells = []
    for (value, low, high), true in ((found.share, model.share), (found.iou, model.iou[HALF])):
        known = np.isfinite(value)
        held = ((low <= true) & (true <= high))[known]
        width = np.median((high - low)[known])
        cells += [f"{true:.3f}", f"{value[known].mean():.3f}", f"{held.mean():.3f}", f"{width:.3f}"]
    return cells


def calibration(model: Model, points: int, draws: int) -> list[str]:
    """IoU with and without the calibration of draws, as the cells of a table."""
    levels, answers = drawn(model, points, draws)
    # Shares as counts, exact to a billionth.
    counts = np.rint(1e9 * model.voxels).astype(np.int64)[None]
    used = np.ones(points, bool)
    scores = []
    changed = 0
    for which, truth in zip(levels, answers, strict=True):
        choice = choose(counts, which, truth, used)
        helps = choice is not None and choice.is_worth_it
        changed += helps
        scores.append(model.iou[choice.level if helps and choice is not None else HALF])
    low = np.quantile(scores, 0.1)
    best = model.iou[1:].max()
    values = (model.iou[HALF], best, np.mean(scores), low, low / best, changed / draws)
    return [f"{value:.3f}" for value in values]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000, help="simulations of the intervals")
    parser.add_argument("--fits", type=int, default=200, help="simulations of the calibration")
    parser.add_argument("--points", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.05, 0.3])
    parser.add_argument("--prediction", type=Path, help="array of a run: probabilities.zarr/target")
    parser.add_argument("--labels", type=Path, help="of the same volume")
    options = parser.parse_args()
    if options.prediction is None:
        models = [model for share in options.shares for model in simulated(share)]
    else:
        stored: Any = zarr.open_array(options.prediction, mode="r")
        labels = np.asarray(open_labels(options.labels).array[:])
        model = measured(options.prediction.name, np.asarray(stored[0]), labels)
        others = [rescaled(model, factor) for factor in (0.5, 2.0)]
        area = float(model.voxels[HALF:].sum())
        models = [model, *others, *(matched(other, area) for other in others)]
    print("| model | points | share | mean | held | width | IoU | mean | held | width |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for model in models:
        for points in options.points:
            row = [model.name, str(points), *coverage(model, points, options.draws)]
            print(f"| {' | '.join(row)} |", flush=True)
    print("\n| model | share | points | as it is | best | mean | p10 | p10 / best | changed |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model in models:
        for points in options.points:
            row = [model.name, f"{model.share:.3f}", str(points)]
            row += calibration(model, points, options.fits)
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()

"""Calibrating a prediction by check points: two numbers, and whether they are worth a change.

All functions take any number of experiments at once: the last axis is that of the points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from napari_emda.data.calibration import LOGITS, Calibration
from napari_emda.data.probabilities import LEVELS
from napari_emda.evaluation.check_points import Counts

Floats = NDArray[np.float64]

# Standard deviations of the normal priors around "as it is": 1 for the slope, 0 for the offset.
# An offset of 1.5 multiplies the odds by 4.5, more than the shares of tissues usually differ; of
# simulated draws, wider priors made calibrated models worse and narrower ones corrected too little.
PRIOR_SLOPE = 0.3
PRIOR_OFFSET = 1.5
# Newton steps. The posterior is concave, so they converge; after eight, nothing moves any more.
_STEPS = 10
# Largest step in the log odds at the ends of the scale, as the quadratic model fails further away.
_LONGEST_STEP = 2.0
# Log odds of the lowest and highest stored probabilities are about 6.
_SPAN = 3.0
_SLOPES = (0.1, 4.0)
_LARGEST_OFFSET = 12.0
# Resampled posteriors: the quantile below has a standard error of 0.02 in probability.
RESAMPLES = 400
# The change must help in all but this share of the resamples. Simulated, 0.05 misses a doubled
# share in most draws of 50 points, and 0.3 changes calibrated models in vain.
DOUBT = 0.15


def fit(
    levels: NDArray[np.integer], truth: NDArray[np.bool_], weights: Floats
) -> tuple[Floats, Floats]:
    """Slope and offset of the log odds, shrunk towards 1 and 0: the posterior mode.

    The draw depends on the stored probability alone, which the model conditions on, so it can be
    ignored (Rubin 1976): the likelihood needs no weights for it. Weighted by what points stand for,
    simulated fits were worse, because few points then decided.

    Args:
        levels: stored probabilities of the points, 0 to 255.
        truth: whether a point is of the class.
        weights: how often a point counts, 0 for one that is left out.

    Returns:
        Two arrays, without the axis of the points.
    """
    x = LOGITS[levels]
    shape = np.broadcast_shapes(x.shape, weights.shape)[:-1]
    slope = np.ones(shape)
    offset = np.zeros(shape)
    for _ in range(_STEPS):
        expected = expit(slope[..., None] * x + offset[..., None])
        error = weights * (truth - expected)
        curvature = weights * expected * (1 - expected)
        # Gradient and negative Hessian of the log posterior.
        g_slope = (error * x).sum(-1) - (slope - 1) / PRIOR_SLOPE**2
        g_offset = error.sum(-1) - offset / PRIOR_OFFSET**2
        h_slope = (curvature * x * x).sum(-1) + 1 / PRIOR_SLOPE**2
        h_both = (curvature * x).sum(-1)
        h_offset = curvature.sum(-1) + 1 / PRIOR_OFFSET**2
        determinant = h_slope * h_offset - h_both**2
        d_slope = (h_offset * g_slope - h_both * g_offset) / determinant
        d_offset = (h_slope * g_offset - h_both * g_slope) / determinant
        length = np.maximum(np.hypot(_SPAN * d_slope, d_offset), _LONGEST_STEP)
        slope = np.clip(slope + _LONGEST_STEP / length * d_slope, *_SLOPES)
        offset = np.clip(
            offset + _LONGEST_STEP / length * d_offset, -_LARGEST_OFFSET, _LARGEST_OFFSET
        )
    return slope, offset


def expected_iou(counts: Counts, slope: Floats, offset: Floats) -> Floats:
    """Expected IoU of the mask from each stored probability on, if the calibration is right.

    Args:
        counts: of the voxels.
        slope: any shape.
        offset: of the same shape.

    Returns:
        One more axis, of 256 levels: the mean over the foreground classes that are predicted.
    """
    chance = expit(slope[..., None] * LOGITS + offset[..., None])
    curves = []
    for voxels in counts[counts[:, 1:].any(axis=1)]:
        is_class = chance * voxels
        # From each level up: those of the class, and all.
        found = is_class[..., ::-1].cumsum(-1)[..., ::-1]
        predicted = voxels[::-1].cumsum()[::-1]
        curves.append(found / (predicted + is_class.sum(-1, keepdims=True) - found))
    return np.mean(curves, axis=0)


@dataclass(frozen=True)
class Choice:
    """The best calibration by the points.

    Attributes:
        calibration: of the prediction as it is stored.
        level: the lowest stored probability in its mask.
        gain: expected gain in IoU over the mask as it is.
        low: the gain that is exceeded in all but `DOUBT` of the resamples.
    """

    calibration: Calibration
    level: int
    gain: float
    low: float

    @property
    def is_worth_it(self) -> bool:
        """Whether the interval of the gain excludes that the mask is better as it is."""
        return self.low > 0


def choose(
    counts: Counts, levels: NDArray[np.integer], truth: NDArray[np.bool_], used: NDArray[np.bool_]
) -> Choice | None:
    """The mask of the largest expected IoU, averaged over what slope and offset may be.

    What they may be is the weighted likelihood bootstrap (Newton & Raftery 1994): the points get
    random weights, and each time the posterior mode is found. Averaging shrinks: where the points
    say little, the curves differ, and the threshold stays near the middle.

    Args:
        counts: of the voxels, as they are stored.
        levels: of the points.
        truth: whether a point is of the best foreground class there.
        used: whether the point is of that class or background; others tell nothing here.

    Returns:
        None if the points that are used are all of one kind, or nothing is predicted.
    """
    is_class = truth[used]
    if not counts[:, 1:].any() or is_class.all() or not is_class.any():
        return None
    # Seeded: the same points always give the same answer.
    resampled = np.random.default_rng(0).exponential(size=(RESAMPLES, len(levels))) * used
    slope, offset = fit(levels, truth, resampled)
    curves = expected_iou(counts, slope, offset)
    # Level 0 would make everything foreground.
    level = 1 + int(curves[:, 1:].mean(axis=0).argmax())
    gain = curves[:, level] - curves[:, LEVELS // 2]
    mode_slope, mode_offset = (float(v) for v in fit(levels, truth, used.astype(float)))
    # Between two levels, so that rounding cannot move a voxel across.
    border = (LOGITS[level - 1] + LOGITS[level]) / 2
    threshold = float(expit(mode_slope * border + mode_offset))
    calibration = Calibration(mode_slope, mode_offset, threshold)
    return Choice(calibration, level, float(gain.mean()), float(np.quantile(gain, DOUBT)))

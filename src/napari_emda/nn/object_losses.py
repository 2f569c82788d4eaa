"""Losses of the maps of objects: contours and distances, where labels tell them for sure."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_emda.data.volume import IGNORE
from napari_emda.objects.borders import CONTOUR, FARTHEST

# Weights beside a segmentation loss of about 0.2 to 1. Distances lie between 0 and 1, so that their
# loss is ten times as small as that of contours.
CONTOUR_WEIGHT = 1.0
DISTANCE_WEIGHT = 5.0
# Pixels where two objects touch count so many times as much: they are few, and decide what is
# separated. Without it a network marked them with a probability of 0.2, and the border to the
# background with 0.6. As w_0 of Ronneberger et al. 2015, eq. 2.
CONTACT_WEIGHT = 10.0


def object_losses(maps: Tensor, labels: Tensor, borders: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of contours and smooth L1 loss of distances.

    The maps of Lin et al. 2021 (NucMM, U3D-BCD), with distances inside of objects alone. Means over
    the pixels where contour or distance is known: the background, whose pixels are no contour and
    have the distance 0; pixels with an exact distance; and of those that are at least so far from
    the border, the ones that can be no contour, and have the largest distance that counts. 0 (with
    a gradient of 0) where nothing is known.

    Contours with no background near them are where objects touch; they weigh `CONTACT_WEIGHT`.

    Args:
        maps: logits of contours and distances, B x 2 x H x W.
        labels: B x H x W class ids or IGNORE.
        borders: distances to the border in pixels, B x H x W, see `objects.borders`.
    """
    contour_logits, distances = maps.float().unbind(1)
    is_background = labels == 0
    is_object = ~is_background & (labels != IGNORE)
    is_exact = is_object & (borders > 0)
    is_bound = is_object & (borders < 0)
    contours = is_exact & (borders <= CONTOUR)
    touches = contours & ~_near(is_background)
    weights = torch.where(touches, CONTACT_WEIGHT, 1.0)
    tells_contour = is_background | is_exact | (is_bound & (borders < -CONTOUR))
    contour = _mean(
        F.binary_cross_entropy_with_logits(contour_logits, contours.float(), reduction="none"),
        weights * tells_contour,
    )
    # Of pixels that are not known, the value does not count.
    targets = torch.where(is_object, borders.abs().clamp(max=FARTHEST) / FARTHEST, 0.0)
    tells_distance = is_background | is_exact | (is_bound & (borders <= -FARTHEST))
    # Quadratic up to a tenth: beyond, single pixels would outweigh all others.
    distance = _mean(
        F.smooth_l1_loss(distances, targets, reduction="none", beta=0.1), weights * tells_distance
    )
    return contour, distance


def _near(chosen: Tensor) -> Tensor:
    """Pixels B x H x W with a chosen one so near that its border is theirs."""
    reach = math.ceil(CONTOUR)
    near = F.max_pool2d(chosen.unsqueeze(1).float(), 2 * reach + 1, stride=1, padding=reach)
    return near.squeeze(1) > 0


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)

"""Losses that skip pixels nobody annotated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_emda.data.volume import IGNORE


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over annotated pixels; 0 (with a gradient of 0) when there are none.

    Args:
        logits: B x C x H x W.
        labels: B x H x W class ids or IGNORE.
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def dice(logits: Tensor, labels: Tensor, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss, 1 - (2 sum p y + s) / (sum p^2 + sum y^2 + s), mean over the foreground classes.

    Sums run over the annotated pixels of the whole batch (Milletari et al. 2016).
    """
    valid = (labels != IGNORE).unsqueeze(1)
    p = logits.float().softmax(1)[:, 1:] * valid
    ids = torch.arange(1, logits.shape[1], device=labels.device).view(1, -1, 1, 1)
    y = (labels.unsqueeze(1) == ids).float()
    over = (0, 2, 3)
    overlap = 2 * (p * y).sum(over) + smooth
    return (1 - overlap / ((p * p).sum(over) + y.sum(over) + smooth)).mean()


def segmentation(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus Dice: the one alone collapses to background at a few percent foreground."""
    return cross_entropy(logits, labels) + dice(logits, labels)


def deep_supervision(
    criterion: Callable[[Tensor, Tensor], Tensor], logits: Sequence[Tensor], labels: Tensor
) -> Tensor:
    """A supervised loss at every resolution at which a network gives logits.

    Isensee et al. 2021: each coarser loss counts half as much as the one before, and the weights add
    up to 1, so that learning rates and other losses need not be changed. Labels are thinned out.

    Args:
        criterion: logits B x C x H x W and labels B x H x W to a scalar.
        logits: B x C x H/f x W/f each with a whole f, the finest (f = 1) first; at least one.
        labels: B x H x W class ids or IGNORE.
    """
    weights = [0.5**level for level in range(len(logits))]
    losses = []
    for weight, coarse in zip(weights, logits, strict=True):
        factor = labels.shape[-1] // coarse.shape[-1]
        # of a square of f x f labels the one at its centre, rounded up: the mean of ids is no id
        thinned = labels[..., factor // 2 :: factor, factor // 2 :: factor]
        losses.append(weight / sum(weights) * criterion(coarse, thinned))
    return torch.stack(losses).sum()


def divergence(log_p: Tensor, log_q: Tensor, valid: Tensor) -> Tensor:
    """Kullback-Leibler divergence of q from p in nats, mean over the valid pixels; 0 when there are none.

    Nothing is learnt through p, or a constant answer would be attractive (Xie et al. 2020, equation 1).

    Args:
        log_p: log probabilities of the view that teaches, B x C x H x W.
        log_q: those of the view that learns.
        valid: B x H x W booleans.
    """
    log_p, log_q = log_p.detach().float(), log_q.float()
    pixels = (log_p.exp() * (log_p - log_q)).sum(1) * valid
    return pixels.sum() / valid.sum().clamp(min=1)

"""Losses that ignore unlabelled pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_emda.data.volume import IGNORE


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over labelled pixels; 0 (with a gradient of 0) if there are none.

    Args:
        logits: B x C x H x W.
        labels: B x H x W class ids or IGNORE.
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def dice(logits: Tensor, labels: Tensor, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss 1 - (2 sum p y + s) / (sum p^2 + sum y^2 + s), mean over foreground classes.

    Sums run over the labelled pixels of the whole batch (Milletari et al. 2016).

    Args:
        logits: B x C x H x W.
        labels: B x H x W class ids or IGNORE.
        smooth: s; keeps loss and gradient finite if a class is absent from both.
    """
    valid = (labels != IGNORE).unsqueeze(1)
    # In float32, because bfloat16 cannot count the pixels of a patch.
    p = logits.float().softmax(1)[:, 1:] * valid
    ids = torch.arange(1, logits.shape[1], device=labels.device).view(1, -1, 1, 1)
    y = (labels.unsqueeze(1) == ids).float()
    pixels = (0, 2, 3)
    overlap = 2 * (p * y).sum(pixels) + smooth
    # y is 0 or 1, so y^2 is y.
    return (1 - overlap / ((p * p).sum(pixels) + y.sum(pixels) + smooth)).mean()


def segmentation(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus Dice.

    Cross-entropy alone predicts only background if a few percent of the pixels are foreground.
    """
    return cross_entropy(logits, labels) + dice(logits, labels)


def deep_supervision(
    criterion: Callable[[Tensor, Tensor], Tensor], logits: Sequence[Tensor], labels: Tensor
) -> Tensor:
    """A supervised loss at every resolution for which a network returns logits.

    Each coarser loss has half the weight of the one before, and the weights add up to 1 (Isensee et
    al. 2021). So learning rates and weights of other losses need not be changed.

    Args:
        criterion: logits B x C x H x W and labels B x H x W to a scalar.
        logits: at least one of B x C x H/f x W/f with integers f, the finest (f = 1) first.
        labels: B x H x W class ids or IGNORE.
    """
    weights = [0.5**level for level in range(len(logits))]
    losses = []
    for weight, coarse in zip(weights, logits, strict=True):
        factor = labels.shape[-1] // coarse.shape[-1]
        # Of f x f labels the central one, because the mean of class ids is not a class id.
        coarse_labels = labels[..., factor // 2 :: factor, factor // 2 :: factor]
        losses.append(weight / sum(weights) * criterion(coarse, coarse_labels))
    return torch.stack(losses).sum()


def divergence(log_p: Tensor, log_q: Tensor, valid: Tensor) -> Tensor:
    """Kullback-Leibler divergence sum p (log p - log q) in nats, mean over the valid pixels.

    No gradient flows through p (Xie et al. 2020, eq. 1). 0 without valid pixels.

    Args:
        log_p: log probabilities of the view that teaches, B x C x H x W.
        log_q: log probabilities of the view that learns, B x C x H x W.
        valid: B x H x W booleans.
    """
    # With a gradient through p, a constant prediction would be an attractive solution.
    log_p = log_p.detach().float()
    per_pixel = (log_p.exp() * (log_p - log_q.float())).sum(1) * valid
    return per_pixel.sum() / valid.sum().clamp(min=1)

"""How far two predictions of the same pixels agree."""

from __future__ import annotations

from torch import Tensor


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

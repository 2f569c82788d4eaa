"""Mutual information of two soft clusterings of the same pixels (invariant information clustering)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def joint(p: Tensor, q: Tensor, valid: Tensor, displacement: int = 0) -> Tensor:
    """Joint distribution of the classes at a pixel in one view and at a displaced pixel in the other.

    J_u[c, c'] = sum_i V(i) V(i+u) p_c(i) q_c'(i+u), symmetrised and normalised to sum 1 for every u (Ji, Henriques &
    Vedaldi 2019, equation 5). All displacements come from one convolution.

    Args:
        p: probabilities of the first view, B x k x H x W.
        q: those of the second, brought to the frame of the first.
        valid: B x H x W booleans; where False neither view counts.
        displacement: d, in pixels: u runs over [-d, d] along y and x.

    Returns:
        (2d+1) x (2d+1) x k x k float32; uniform over the classes where no pair of pixels is valid.
    """
    mask = valid.unsqueeze(1)
    first, second = (torch.where(mask, view.float(), 0.0).transpose(0, 1) for view in (p, q))
    counts = F.conv2d(second, first, padding=displacement).permute(2, 3, 1, 0)
    counts = (counts + counts.transpose(-1, -2)).clamp(min=1e-12)
    return counts / counts.sum((-1, -2), keepdim=True)


def mutual_information(joints: Tensor) -> Tensor:
    """Mutual information in nats of joint distributions ... x k x k, between 0 and log k, shape (...)."""
    logs = joints.log()
    rows, columns = joints.sum(-1, keepdim=True).log(), joints.sum(-2, keepdim=True).log()
    return (joints * (logs - rows - columns)).sum((-1, -2))

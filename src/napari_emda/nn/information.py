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
    with torch.autocast(p.device.type, enabled=False):  # sums over so many pixels need all digits
        counts = F.conv2d(second, first, padding=displacement).permute(2, 3, 1, 0)
    counts = (counts + counts.transpose(-1, -2)).clamp(min=1e-12)
    return counts / counts.sum((-1, -2), keepdim=True)


def mutual_information(joints: Tensor, balance: float = 1.0) -> Tensor:
    """Mutual information in nats of joint distributions, between 0 and log k.

    I = sum J (log J - balance (log J_c + log J_c')): with a balance above 1, classes of equal size count for more (Ji,
    Henriques & Vedaldi 2019, section 3.1).

    Args:
        joints: ... x k x k.
        balance: lambda; with another than 1 it is no mutual information any more, and no longer bounded by log k.

    Returns:
        Of shape (...).
    """
    logs = joints.clamp(min=1e-12).log()
    rows, columns = (joints.sum(axis, keepdim=True).clamp(min=1e-12).log() for axis in (-1, -2))
    return (joints * (logs - balance * (rows + columns))).sum((-1, -2))

"""Mutual information of two soft clusterings of the same pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def joint(p: Tensor, q: Tensor, valid: Tensor, displacement: int = 0) -> Tensor:
    """Joint distribution of the classes at a pixel in one view and a displaced pixel in the other.

    J_u[c, c'] = sum_i V(i) V(i+u) p_c(i) q_c'(i+u), symmetrised and normalised to a sum of 1 for
    every displacement u (Ji, Henriques & Vedaldi 2019, eq. 5).

    Args:
        p: probabilities of the first view, B x k x H x W.
        q: probabilities of the second view in the frame of the first, B x k x H x W.
        valid: V, B x H x W booleans; pixels with False do not count.
        displacement: d in pixels; u runs over [-d, d] along y and x.

    Returns:
        (2d+1) x (2d+1) x k x k float32. Uniform over the classes for a u without valid pairs.
    """
    mask = valid.unsqueeze(1)
    first, second = (torch.where(mask, view.float(), 0.0).transpose(0, 1) for view in (p, q))
    # All displacements in one convolution: classes of q are its batch, classes of p its output
    # channels, and it sums over patches and pixels. So many terms need the digits of float32.
    with torch.autocast(p.device.type, enabled=False):
        counts = F.conv2d(second, first, padding=displacement).permute(2, 3, 1, 0)
    # No class of the joint distribution is exactly 0, so that its logarithm is finite.
    counts = (counts + counts.transpose(-1, -2)).clamp(min=1e-12)
    return counts / counts.sum((-1, -2), keepdim=True)


def mutual_information(joints: Tensor, balance: float = 1.0) -> Tensor:
    """Mutual information of joint distributions in nats, between 0 and log k.

    I = sum J (log J - balance (log J_c + log J_c')). A larger balance prefers classes of equal size
    (Ji, Henriques & Vedaldi 2019, section 3.1).

    Args:
        joints: ... x k x k.
        balance: lambda of the paper. The result is mutual information, and bounded by log k, only
            if it is 1.

    Returns:
        Of shape (...).
    """
    logs = joints.clamp(min=1e-12).log()
    row_logs, column_logs = (
        joints.sum(axis, keepdim=True).clamp(min=1e-12).log() for axis in (-1, -2)
    )
    return (joints * (logs - balance * (row_logs + column_logs))).sum((-1, -2))

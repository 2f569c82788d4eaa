"""Networks that distinguish source and target."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn


class DomainClassifier(nn.Module):
    """Two convolutions, a global average and two linear layers (after Roels et al. 2019).

    Args:
        features: channels of the B x C x H x W map.
        width: inner channels, a multiple of 8; 48 as in the code of Roels et al.
    """

    def __init__(self, features: int, width: int = 48) -> None:
        super().__init__()
        # GroupNorm, because batch normalisation fails with a batch of one patch.
        self.convolutions = nn.Sequential(
            nn.Conv2d(features, width, 1),
            nn.GroupNorm(8, width),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Sequential(
            nn.Linear(width, width // 2), nn.ReLU(inplace=True), nn.Dropout(0.1)
        )
        self.logits = nn.Linear(width // 2, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of source and target, B x 2."""
        pooled = F.adaptive_avg_pool2d(self.convolutions(features), 1).flatten(1)
        logits: Tensor = self.logits(self.head(pooled))
        return logits


class PatchDiscriminator(nn.Module):
    """Strided convolutions to a map of decisions, one per region (Isola et al. 2017).

    Args:
        inputs: channels of the B x C x H x W input.
        width: channels of the first layer, a multiple of 8; each further layer has twice as many.
        layers: number of times the resolution is halved.
    """

    def __init__(self, inputs: int, width: int = 32, layers: int = 3) -> None:
        super().__init__()
        widths = [inputs, *(width * 2**i for i in range(layers))]
        blocks: list[nn.Module] = []
        for channels, next_channels in itertools.pairwise(widths):
            # Kernels of 4 with stride 2 and slopes of 0.2, as in the paper.
            blocks += [
                nn.Conv2d(channels, next_channels, 4, stride=2, padding=1),
                nn.GroupNorm(8, next_channels),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """One decision per region, B x 1 x H/2^layers x W/2^layers."""
        decisions: Tensor = self.layers(x)
        return decisions


def least_squares(decisions: Tensor, real: bool) -> Tensor:
    """LSGAN loss: mean squared distance of the decisions from 1 (real) or 0 (Mao et al. 2017)."""
    return (decisions.float() - float(real)).square().mean()

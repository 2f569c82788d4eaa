"""Redrawing the image from the bottleneck."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_emda.nn.network import Network


class Reconstruction(nn.Module):
    """A decoder without skips and a linear layer to one channel (Roels et al. 2019, Y-Net).

    With skips the task would be trivial, and nothing would be aligned.

    Args:
        network: whose maps are decoded.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.decoder = network.make_decoder(skips=False)
        self.head = nn.Conv2d(network.head.in_channels, 1, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Encoder maps f_0 ... f_L to an image B x 1 x H x W; only f_L is used."""
        image: Tensor = self.head(self.decoder(maps))
        return image

    def error(self, maps: list[Tensor], clean: Tensor) -> Tensor:
        """Mean squared error against the clean patch, standardised patch by patch."""
        return F.mse_loss(self(maps).float(), F.instance_norm(clean))


def psnr(error: Tensor, span: float = 4.0) -> Tensor:
    """Peak signal-to-noise ratio in dB of a mean squared error; ``span`` is the range of standardised grey values."""
    return 10 * torch.log10(span**2 / error.detach().clamp(min=1e-12))

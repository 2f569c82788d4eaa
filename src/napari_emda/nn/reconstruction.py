"""Reconstruction of the image from the bottleneck."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_emda.nn.layers import middle
from napari_emda.nn.network import Network


class Reconstruction(nn.Module):
    """A decoder without skip connections and a linear layer to one channel (Y-Net).

    Roels et al. 2019.

    Args:
        network: whose encoder maps are decoded.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        # With skip connections the task would be trivial, and nothing would be aligned.
        self.decoder = network.make_decoder(skips=False)
        self.head = nn.Conv2d(network.head.in_channels, 1, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Encoder maps f_0 ... f_L, of which only f_L is used, to an image B x 1 x H x W."""
        image: Tensor = self.head(self.decoder(maps))
        return image

    def error(self, maps: list[Tensor], clean: Tensor) -> Tensor:
        """Mean squared error against the middle section of B x channels x H x W.

        That section is standardised patch by patch.
        """
        # The labels are those of the middle section, and features of the others serve it.
        # Not standardised, the decoder would have to learn the brightness of every patch.
        return F.mse_loss(self(maps).float(), F.instance_norm(middle(clean)))


def psnr(error: Tensor, span: float = 4.0) -> Tensor:
    """Peak signal-to-noise ratio 10 log10(span^2 / error) of a mean squared error, in dB.

    Args:
        error: mean squared error of standardised grey values.
        span: range of grey values; two standard deviations on either side of the mean.
    """
    return 10 * torch.log10(span**2 / error.detach().clamp(min=1e-12))

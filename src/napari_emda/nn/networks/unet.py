"""The U-Net: the default, small and fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_emda.nn.layers import Doubling, initialise
from napari_emda.nn.network import networks
from napari_emda.nn.normalisation import DomainBatchNorm2d
from napari_emda.nn.u_shaped import UShaped

# Peak memory during prediction, in units of a map of the first level. It is reached in the last
# block of the decoder: the maps that the encoder keeps (f_0, and 1/2 + 1/4 + ... for the coarser
# ones: 2), the skip concatenated with the upsampled map (2), input and output of a convolution and
# its normalisation (2), and buffers of the libraries (2).
_LIVE_MAPS = 8
# Bytes of a number.
_FLOAT32 = 4


class AttentionGate(nn.Module):
    """Additive attention gate on a skip connection (Oktay et al. 2018, eq. 1).

    Args:
        features: channels of the skip and of the gating map, both B x C x H x W.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        # Half the channels, but with 8 feature maps not fewer than four.
        inner = max(features // 2, 4)
        self.skip = nn.Conv2d(features, inner, 1, bias=False)
        self.gate = nn.Conv2d(features, inner, 1)
        self.score = nn.Conv2d(inner, 1, 1)

    def forward(self, skip: Tensor, gate: Tensor) -> Tensor:
        """The skip, multiplied by a weight between 0 and 1 at each pixel."""
        return skip * torch.sigmoid(self.score(F.relu(self.skip(skip) + self.gate(gate))))


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    # Without biases: the normalisation that follows would subtract them.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        DomainBatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        DomainBatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Encoder(nn.Module):
    """Convolutions and pooling; returns the maps f_0 (full resolution) ... f_L (bottleneck)."""

    def __init__(self, inputs: int, base_channels: int, depth: int, dropout: float) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(depth + 1)]
        self.blocks = nn.ModuleList(map(_convolutions, [inputs, *widths[:-1]], widths))
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor, reused: Sequence[Tensor] = ()) -> list[Tensor]:
        """B x C x H x W, sides multiples of 2^L, to L + 1 maps; see `Network.encode`."""
        maps = list(reused)
        for level in range(len(maps), len(self.blocks)):
            x = self.blocks[level](F.max_pool2d(maps[-1], 2) if level else x)
            # Only at the two deepest levels. Samples of the network then share all other maps.
            if level >= len(self.blocks) - 2:
                x = self.dropout(x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """From the encoder's maps back to full resolution.

    Args:
        base_channels, depth: as the encoder's.
        skips: whether finer maps are used; if not, only the bottleneck (Y-Net).
        attention: whether skips pass an attention gate.
    """

    def __init__(
        self, base_channels: int, depth: int, *, skips: bool = True, attention: bool = False
    ) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in reversed(range(depth))]
        self.up = nn.ModuleList(Doubling(2 * width, width) for width in widths)
        self.blocks = nn.ModuleList(_convolutions(width * (1 + skips), width) for width in widths)
        self.gates = (
            nn.ModuleList(AttentionGate(width) for width in widths) if attention and skips else None
        )
        self.skips = skips

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps f_0 ... f_L to B x base_channels x H x W."""
        x = maps[-1]
        for i, (up, block) in enumerate(zip(self.up, self.blocks, strict=True)):
            x = up(x)
            if self.skips:
                skip = maps[-2 - i]
                skip = self.gates[i](skip, x) if self.gates is not None else skip
                x = torch.cat([skip, x], dim=1)
            x = block(x)
        return x


@networks.register("unet")
class UNet(UShaped):
    """U-Net with batch normalisation per domain: two convolutions per level, skip connections.

    Ronneberger et al. 2015, with padded convolutions, and dropout at the two deepest levels.
    """

    citations = ("ronneberger2015",)
    profiles: ClassVar = {
        "test": {"base_channels": 8},
        "standard": {"base_channels": 32, "depth": 4},
    }

    def __init__(self, classes: int, settings: Any = None, channels: int = 1) -> None:
        super().__init__(classes, settings, channels)
        s = self.settings
        self.encoder = Encoder(channels, s.base_channels, s.depth, s.dropout)
        self.decoder = Decoder(s.base_channels, s.depth, attention=s.attention)
        self.head = nn.Conv2d(s.base_channels, classes, 1)
        initialise(self)

    @property
    def bytes_per_pixel(self) -> int:
        """Determined by the first level, whose maps are the largest; see `_LIVE_MAPS`."""
        maps = self.settings.base_channels * _LIVE_MAPS * _FLOAT32
        # The neighbouring sections: as they were read, side by side, and in the network's layout.
        return maps + 3 * (self.channels - 1) * _FLOAT32

    def make_decoder(self, *, skips: bool = True) -> Decoder:
        """Another decoder without attention gates."""
        return Decoder(self.settings.base_channels, self.settings.depth, skips=skips)

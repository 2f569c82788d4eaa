"""A U-Net of residual blocks, supervised at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from napari_emda.nn.layers import Doubling, initialise
from napari_emda.nn.network import Network, networks
from napari_emda.nn.normalisation import DomainBatchNorm2d
from napari_emda.settings import base
from napari_emda.settings.base import ADVANCED, advanced

_LIVE_MAPS = 8
"""So many times the feature maps of the first level lie in memory at once, at most.

In the decoder's last level: those that the encoder keeps (f_0, and 1/2 + 1/4 + ... for the coarser
ones: 2), the decoder's coarser maps (1), the skip and the upsampled map side by side (2), and what
the normalisation reads and writes (2); and one for the libraries' own buffers."""
_FLOAT32 = 4
"""Bytes."""


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a short cut (He et al. 2016); halves the resolution if asked.

    As in the encoders of nnU-Net (Isensee et al. 2024): the first convolution has the stride, and
    the short cut averages before its 1 x 1 convolution, so that no pixel is passed over.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            DomainBatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            DomainBatchNorm2d(outputs),
        )
        parts: list[nn.Module] = [nn.AvgPool2d(stride)] if stride > 1 else []
        if inputs != outputs:
            parts += [nn.Conv2d(inputs, outputs, 1, bias=False), DomainBatchNorm2d(outputs)]
        self.short_cut = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """B x inputs x H x W to B x outputs x H/stride x W/stride."""
        return F.relu_(self.body(x) + self.short_cut(x))


class ResidualEncoder(nn.Module):
    """Residual blocks at each level; returns the maps f_0 (full resolution) ... f_L."""

    def __init__(self, inputs: int, widths: Sequence[int], blocks: int, dropout: float) -> None:
        super().__init__()
        levels: list[nn.Module] = [ResidualBlock(inputs, widths[0])]
        for before, width in pairwise(widths):
            more = (ResidualBlock(width, width) for _ in range(blocks - 1))
            levels.append(nn.Sequential(ResidualBlock(before, width, stride=2), *more))
        self.levels = nn.ModuleList(levels)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor, reused: Sequence[Tensor] = ()) -> list[Tensor]:
        """B x C x H x W, sides multiples of 2^L, to L + 1 maps; see `Network.encode`."""
        maps = list(reused)
        for level in range(len(maps), len(self.levels)):
            x = self.levels[level](maps[-1] if level else x)
            if level >= len(self.levels) - 2:  # the two deepest
                x = self.dropout(x)
            maps.append(x)
        return maps


class LightDecoder(nn.Module):
    """From the encoder's maps back to full resolution, one convolution a level.

    Args:
        widths: of the encoder's maps.
        skips: whether the finer maps are used.
    """

    def __init__(self, widths: Sequence[int], *, skips: bool = True) -> None:
        super().__init__()
        coarse, fine = widths[:0:-1], widths[-2::-1]
        self.up = nn.ModuleList(map(Doubling, coarse, fine))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width * (1 + skips), width, 3, padding=1, bias=False),
                DomainBatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            for width in fine
        )
        self.skips = skips

    def levels(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps f_0 ... f_L to the decoder's, the finest first."""
        x = maps[-1]
        found: list[Tensor] = []
        for up, block, skip in zip(self.up, self.blocks, maps[-2::-1], strict=True):
            x = up(x)
            if self.skips:
                x = torch.cat([skip, x], dim=1)
            x = block(x)
            found.insert(0, x)
        return found

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps f_0 ... f_L to B x widths[0] x H x W."""
        return self.levels(maps)[0]


@networks.register("residual_unet")
class ResidualUNet(Network):
    """U-Net with a residual encoder, a light decoder, and losses at coarser resolutions, too.

    Residual blocks in a U-Net: Zhang et al. 2018; a deep encoder with a light decoder: Isensee et al.
    2024. In training, coarser maps of the decoder are classified as well, and their losses count half
    as much from one resolution to the next (`nn.losses.deep_supervision`, Isensee et al. 2021).
    """

    class Settings(base.Settings):
        """Settings of the residual U-Net."""

        base_channels: int = Field(
            16,
            ge=8,
            le=64,
            multiple_of=8,
            description="Feature maps of the first level, doubled at each further one.",
            json_schema_extra=advanced(8),
        )
        depth: int = Field(
            3,
            ge=3,
            le=5,
            description="How often the network halves the resolution.",
            json_schema_extra=advanced(1),
        )
        blocks: int = Field(
            2,
            ge=1,
            le=6,
            description="Residual blocks at each level of the encoder but the first, which has one.",
            json_schema_extra=advanced(1),
        )
        dropout: float = Field(
            0.25,
            ge=0,
            le=0.9,
            description="Share of feature maps dropped at the two deepest levels.",
            json_schema_extra=advanced(0.05),
        )
        deep_supervision: bool = Field(
            True,
            description="Also compare coarser maps of the decoder with the labels in training.",
            json_schema_extra=ADVANCED,
        )

    profiles: ClassVar = {
        "test": {"base_channels": 8},
        "standard": {"base_channels": 32, "depth": 4},
    }

    def __init__(self, classes: int, settings: Any = None, channels: int = 1) -> None:
        super().__init__(classes, settings, channels)
        s = self.settings
        self.encoder = ResidualEncoder(channels, self.widths, s.blocks, s.dropout)
        self.decoder: LightDecoder = self.make_decoder()
        self.head = nn.Conv2d(s.base_channels, classes, 1)
        # the coarsest map of the decoder is left out: of small objects nothing is to be seen there
        supervised = self.widths[1 : s.depth - 1] if s.deep_supervision else ()
        self.auxiliary_heads = nn.ModuleList(nn.Conv2d(w, classes, 1) for w in supervised)
        initialise(self)

    @property
    def widths(self) -> tuple[int, ...]:
        """Doubled from level to level."""
        return tuple(
            self.settings.base_channels * 2**level for level in range(self.settings.depth + 1)
        )

    @property
    def stride(self) -> int:
        """Halved `depth` times."""
        return int(2**self.settings.depth)

    @property
    def halo(self) -> int:
        """A 3 x 3 convolution at level l reaches 2^l pixels, one that halves half as far.

        Two at the first level, ``2 blocks`` at each further one, the first of them halving; one on the
        way up at each level but the deepest. Transposed convolution reaches up to 2^L - 1 more.
        """
        s = self.settings
        down = 2 + sum(
            2**level * (2 * s.blocks - 1) + 2 ** (level - 1) for level in range(1, s.depth + 1)
        )
        up = sum(2**level for level in range(s.depth))
        return -(-(down + up + 2**s.depth) // self.stride) * self.stride

    @property
    def bytes_per_pixel(self) -> int:
        """Set by the first level, whose maps are the largest; see `_LIVE_MAPS`."""
        return self.settings.base_channels * _LIVE_MAPS * _FLOAT32

    @property
    def reusable(self) -> int:
        """All but the two deepest maps."""
        return self.settings.depth - 1

    def features(self, maps: list[Tensor]) -> list[Tensor]:
        """The decoder's maps that have a head; in evaluation the finest alone."""
        count = 1 + len(self.auxiliary_heads) if self.training else 1
        return self.decoder.levels(maps)[:count]

    def make_decoder(self, *, skips: bool = True) -> LightDecoder:
        """One convolution a level."""
        return LightDecoder(self.widths, skips=skips)

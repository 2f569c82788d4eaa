"""A 3-D U-Net for anisotropic volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from napari_emda.errors import SettingsError
from napari_emda.nn.layers import initialise
from napari_emda.nn.network import networks
from napari_emda.nn.networks.unet import AttentionGate
from napari_emda.nn.normalisation import DomainBatchNorm2d
from napari_emda.nn.stacks import Stacked, as_sections, as_volumes
from napari_emda.nn.u_shaped import UShaped
from napari_emda.settings.base import advanced

# A level sees neighbouring sections once their distance is at most this multiple of its pixels: the
# rule of nnU-Net (Isensee et al. 2021), which keeps what a network sees roughly cubic.
_ISOTROPIC = 1.5
# Sections of a stack in the bottleneck, as in nnU-Net: with fewer, most of what it sees is padding.
_FEWEST = 4
# As in `unet`, and half as many again for the windows of 3-D convolutions.
_LIVE_MAPS = 12
_FLOAT32 = 4


@dataclass(frozen=True)
class _Level:
    """How a level sees depth.

    Attributes:
        kernel: sections of its convolutions, 1 or 3.
        pooled: sections that become one on the way to the next level, 1 or 2.
        stride: sections of the input in one of its own.
    """

    kernel: int
    pooled: int
    stride: int


def _levels(depth: int, section_ratio: float, sections: int) -> tuple[_Level, ...]:
    """The levels of a network, the finest first.

    Args:
        depth: number of poolings.
        section_ratio: distance of sections as a multiple of a pixel.
        sections: of a stack in training.
    """
    levels = []
    stride = 1
    for level in range(depth + 1):
        sees_depth = section_ratio * stride <= _ISOTROPIC * 2**level
        # However far sections lie apart: the coarsest level sees their neighbours.
        kernel = 3 if sees_depth or level == depth else 1
        is_deep_enough = sections % (2 * stride) == 0 and sections // (2 * stride) >= _FEWEST
        pooled = 2 if sees_depth and level < depth and is_deep_enough else 1
        levels.append(_Level(kernel, pooled, stride))
        stride *= pooled
    return tuple(levels)


def _convolutions(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    size = (kernel, 3, 3)
    padding = (kernel // 2, 1, 1)
    # Without biases: the normalisation that follows would subtract them.
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, size, padding=padding, bias=False),
        DomainBatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv3d(outputs, outputs, size, padding=padding, bias=False),
        DomainBatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Encoder(Stacked):
    """Convolutions and pooling; returns the maps f_0 (full resolution) ... f_L (bottleneck)."""

    def __init__(
        self, levels: Sequence[_Level], base_channels: int, dropout: float, stack: int
    ) -> None:
        super().__init__(stack)
        widths = [base_channels * 2**level for level in range(len(levels))]
        kernels = [level.kernel for level in levels]
        self.levels = tuple(levels)
        self.blocks = nn.ModuleList(map(_convolutions, [1, *widths[:-1]], widths, kernels))
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, x: Tensor, reused: Sequence[Tensor] = ()) -> list[Tensor]:
        """(B * stack) x 1 x H x W to L + 1 maps, of fewer sections where they are pooled."""
        maps = list(reused)
        for index in range(len(maps), len(self.blocks)):
            if index:
                before = self.levels[index - 1]
                x = as_volumes(maps[-1], self.stack // before.stride)
                x = F.max_pool3d(x, (before.pooled, 2, 2))
            else:
                x = as_volumes(x, self.stack)
            x = self.blocks[index](x)
            # Only at the two deepest levels. Samples of the network then share all other maps.
            if index >= len(self.blocks) - 2:
                x = self.dropout(x)
            maps.append(as_sections(x))
        return maps


class Decoder(Stacked):
    """From the encoder's maps back to full resolution.

    Args:
        levels: as the encoder's.
        base_channels: as the encoder's.
        stack: sections of a stack.
        skips: whether finer maps are used; if not, only the bottleneck (Y-Net).
        attention: whether skips pass an attention gate.
    """

    def __init__(
        self,
        levels: Sequence[_Level],
        base_channels: int,
        stack: int,
        *,
        skips: bool = True,
        attention: bool = False,
    ) -> None:
        super().__init__(stack)
        self.levels = tuple(reversed(levels[:-1]))
        self.coarsest = levels[-1].stride
        widths = [base_channels * 2**level for level in reversed(range(len(self.levels)))]
        windows = [(level.pooled, 2, 2) for level in self.levels]
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(2 * width, width, window, stride=window)
            for width, window in zip(widths, windows, strict=True)
        )
        self.blocks = nn.ModuleList(
            _convolutions(width * (1 + skips), width, level.kernel)
            for width, level in zip(widths, self.levels, strict=True)
        )
        self.gates = (
            nn.ModuleList(AttentionGate(width) for width in widths) if attention and skips else None
        )
        self.skips = skips

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps f_0 ... f_L to (B * stack) x base_channels x H x W."""
        x = as_volumes(maps[-1], self.stack // self.coarsest)
        for i, (up, block) in enumerate(zip(self.up, self.blocks, strict=True)):
            x = up(x)
            if self.skips:
                skip = maps[-2 - i]
                if self.gates is not None:
                    skip = self.gates[i](skip, as_sections(x))
                skip = as_volumes(skip, self.stack // self.levels[i].stride)
                x = torch.cat([skip, x], dim=1)
            x = block(x)
        return as_sections(x)


@networks.register("unet_3d")
class UNet3d(UShaped):
    """3-D U-Net that sees stacks of sections; coarse levels alone where sections lie far apart.

    Çiçek et al. 2016, with the kernels and poolings of nnU-Net (Isensee et al. 2021) for sections
    that lie further apart than pixels, and batch normalisation per domain.
    """

    citations = ("cicek2016",)
    dimensions = 3

    class Settings(UShaped.Settings):
        """Settings of the 3-D U-Net."""

        # Halved without a remainder as often as `_FEWEST` allows.
        sections: int = Field(
            16,
            ge=8,
            le=128,
            multiple_of=8,
            title="sections of a patch",
            description="How many consecutive sections the network learns from at once. More "
            "take proportionally more time and memory: reduce the patches per step.",
            json_schema_extra=advanced(8),
        )

    profiles: ClassVar = {
        "test": {"base_channels": 8},
        "standard": {"base_channels": 32, "depth": 4, "sections": 32},
    }

    def __init__(
        self,
        classes: int,
        settings: Any = None,
        channels: int = 1,
        section_ratio: float = 1.0,
    ) -> None:
        if channels > 1:
            raise SettingsError(
                "The network unet_3d sees neighbouring sections itself: set context to 0, or "
                "choose the network unet."
            )
        super().__init__(classes, settings, channels, section_ratio)
        s = self.settings
        self._levels = _levels(s.depth, section_ratio, s.sections)
        self.encoder = Encoder(self._levels, s.base_channels, s.dropout, s.sections)
        self.decoder = Decoder(self._levels, s.base_channels, s.sections, attention=s.attention)
        self.head = nn.Conv2d(s.base_channels, classes, 1)
        initialise(self)

    @property
    def section_stride(self) -> int:
        """Sections of the input in one of the bottleneck."""
        return self._levels[-1].stride

    @property
    def section_halo(self) -> int:
        """As `halo`, along z."""
        # Two convolutions at each level, on the way down and again up, once at the bottleneck.
        reach = sum(
            (level.kernel // 2) * 2 * level.stride * (2 if level is not self._levels[-1] else 1)
            for level in self._levels
        )
        # Poolings reach less than a cell of the bottleneck further by their grid.
        reach += self.section_stride - 1
        return -(-reach // self.section_stride) * self.section_stride

    @property
    def bytes_per_pixel(self) -> int:
        """Determined by the first level, whose maps are the largest; see `_LIVE_MAPS`."""
        return int(self.settings.base_channels * _LIVE_MAPS * _FLOAT32)

    def make_decoder(self, *, skips: bool = True) -> Decoder:
        """Another decoder, for stacks as they are now."""
        stack = cast(Encoder, self.encoder).stack
        return Decoder(self._levels, self.settings.base_channels, stack, skips=skips)

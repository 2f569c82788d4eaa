"""Contrastive unpaired translation of grey values and texture (CUT, Park et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import DomainBatchNorm2d


def _layer(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, padding_mode="reflect", bias=False),
        DomainBatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _layer(width, width, 3),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect", bias=False),
            DomainBatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W to the same."""
        return x + self.body(x)


class Generator(nn.Module):
    """Residual generator: it changes the appearance of an image and keeps its content.

    Normalised by running statistics, not by those of the image, so that blocks of a volume are
    translated as the whole volume would be.

    Args:
        width: channels at full resolution.
        blocks: number of residual blocks at a quarter of the resolution.
    """

    def __init__(self, width: int = 16, blocks: int = 6) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                _layer(1, width, 7),
                _layer(width, 2 * width, 3, 2),
                _layer(2 * width, 4 * width, 3, 2),
                nn.Sequential(*(ResidualBlock(4 * width) for _ in range(blocks // 2))),
                nn.Sequential(*(ResidualBlock(4 * width) for _ in range(blocks - blocks // 2))),
            ]
        )
        self.widths = [width, 2 * width, 4 * width, 4 * width, 4 * width]
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            _layer(4 * width, 2 * width, 3),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            _layer(2 * width, width, 3),
        )
        self.head = nn.Conv2d(width, 1, 7, padding=3, padding_mode="reflect")
        # The output is added to the input. With zeros, training starts from the identity, which
        # keeps all content.
        assert self.head.bias is not None
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        # Two convolutions halve the resolution.
        self.stride = 4
        # In float32, as `Network.bytes_per_pixel`: the first and the last map at full resolution,
        # each before and after its normalisation, and as much again for the coarser maps.
        self.bytes_per_pixel = 8 * 4 * width
        # Receptive field in pixels, layer by layer: 7 x 7 convolution, two strided convolutions,
        # two convolutions per residual block at a quarter of the resolution, twice a bilinear
        # upsampling and a convolution, 7 x 7 convolution.
        self.reach = 3 + (1 + 2) + 4 * 2 * blocks + (4 + 2) + (2 + 1) + 3

    def encode(self, x: Tensor) -> list[Tensor]:
        """Maps after each of the five stages, for `PatchContrast`."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Translate B x 1 x H x W; the sides must be multiples of 4."""
        return x + self.head(self.up(self.encode(x)[-1]))

    def sections(self, x: Tensor) -> Tensor:
        """Translate each of the sections B x channels x H x W by itself."""
        if x.shape[1] == 1:
            translated: Tensor = self(x)
            return translated
        return self(x.flatten(0, 1).unsqueeze(1)).view_as(x)


class PatchContrast(nn.Module):
    """PatchNCE: a position of the translation must resemble the same position of the input most.

    More than it resembles other positions of the same patch (Park et al. 2020, eq. 3). Positions
    are drawn anew in every call.

    Args:
        widths: channels of the generator's maps.
        dimensions: of the embedding.
        positions: number of positions per patch; 256 as in the paper.
        temperature: of the softmax; 0.07 as in the paper.
    """

    def __init__(
        self,
        widths: list[int],
        dimensions: int = 64,
        positions: int = 256,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, dimensions),
                nn.ReLU(inplace=True),
                nn.Linear(dimensions, dimensions),
            )
            for width in widths
        )
        self.positions = positions
        self.temperature = temperature

    def forward(self, translated: list[Tensor], original: list[Tensor]) -> Tensor:
        """Mean cross-entropy over maps, patches and positions, without gradient for the original.

        Args:
            translated: maps B x C x H x W of the translated image, one per stage.
            original: maps of the input image.
        """
        losses = []
        for embed, result, given in zip(self.embeddings, translated, original, strict=True):
            query_rows, key_rows = (m.flatten(2).transpose(1, 2).float() for m in (result, given))
            chosen = torch.randperm(query_rows.shape[1], device=result.device)[: self.positions]
            query = F.normalize(embed(query_rows[:, chosen]), dim=-1)
            key = F.normalize(embed(key_rows[:, chosen]), dim=-1).detach()
            # The class of position i is i: all other positions of the patch are negatives.
            logits = query @ key.transpose(1, 2) / self.temperature
            truth = torch.arange(len(chosen), device=result.device).expand(len(logits), -1)
            losses.append(F.cross_entropy(logits.flatten(0, 1), truth.flatten()))
        return torch.stack(losses).mean()


class Translated(Network):
    """A segmentation network behind a generator: the input is translated, then segmented.

    Args:
        generator: translates the image.
        network: segments the translation.
    """

    def __init__(self, generator: Generator, network: Network) -> None:
        super().__init__(network.classes, network.settings, network.channels, network.section_ratio)
        self.generator = generator
        self.network = network
        self.offset = network.offset  # one tensor, so that calibration changes both

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the segmentation network's maps."""
        return self.network.widths

    @property
    def stride(self) -> int:
        """The least common multiple of both strides."""
        return math.lcm(self.network.stride, self.generator.stride)

    @property
    def halo(self) -> int:
        """Sum of both receptive fields, rounded up to a multiple of `stride`."""
        return -(-(self.network.halo + self.generator.reach) // self.stride) * self.stride

    @property
    def stack(self) -> int:
        """The segmentation network's."""
        return self.network.stack

    @property
    def section_stride(self) -> int:
        """The segmentation network's."""
        return self.network.section_stride

    @property
    def section_halo(self) -> int:
        """The segmentation network's: the generator sees single sections."""
        return self.network.section_halo

    @property
    def bytes_per_pixel(self) -> int:
        """The larger of both."""
        # The generator's maps are freed before the network computes its own.
        generating = self.channels * self.generator.bytes_per_pixel
        return max(self.network.bytes_per_pixel, generating)

    @property
    def reusable(self) -> int:
        """Number of the segmentation network's maps that do not depend on dropout."""
        return self.network.reusable

    def encode(self, x: Tensor, reused: Sequence[Tensor] = ()) -> list[Tensor]:
        """The segmentation network's maps of the translated image."""
        # With reused maps the network does not look at the image.
        return self.network.encode(x if reused else self.generator.sections(x), reused)

    def features(self, maps: list[Tensor]) -> list[Tensor]:
        """The segmentation network's features."""
        return self.network.features(maps)

    def classify(self, features: list[Tensor]) -> list[Tensor]:
        """The segmentation network's logits."""
        return self.network.classify(features)

    @property
    def maps_objects(self) -> bool:
        """Whether the segmentation network predicts maps of objects."""
        return self.network.maps_objects

    def object_maps(self, features: Tensor) -> Tensor:
        """The segmentation network's maps of objects."""
        return self.network.object_maps(features)

    def make_decoder(self, *, skips: bool = True) -> nn.Module:
        """A further decoder of the segmentation network's maps."""
        return self.network.make_decoder(skips=skips)

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
    """Residual generator: an image in one look to the same content in another.

    Normalised by running statistics, not by those of the image, so that blocks of a volume agree with the whole.

    Args:
        width: channels at full resolution.
        blocks: residual blocks at a quarter of the resolution.
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
        nn.init.zeros_(
            self.head.weight
        )  # training starts from the identity: content is never lost to begin with
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
        self.stride = 4
        # in float32, as `Network.bytes_per_pixel`: the first and the last map at full resolution,
        # each before and after its normalisation, and as much again at half of it
        self.bytes_per_pixel = 8 * 4 * width
        self.reach = 3 + 2 * 1 + 4 * (2 * blocks + 1) + 2 * 2 + 2 + 3

    def encode(self, x: Tensor) -> list[Tensor]:
        """Maps after each of the five stages, for the contrast of patches."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """B x 1 x H x W, sides multiples of 4, to the other look."""
        return x + self.head(self.up(self.encode(x)[-1]))


class PatchContrast(nn.Module):
    """PatchNCE: a place of the translation must resemble the same place of the input more than other places.

    Park et al. 2020, eq. 3; positions are drawn anew at every call.

    Args:
        widths: channels of the generator's maps.
        dimensions: of the embedding.
        positions: number of places a patch.
        temperature: of the softmax.
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
                nn.Linear(w, dimensions), nn.ReLU(inplace=True), nn.Linear(dimensions, dimensions)
            )
            for w in widths
        )
        self.positions, self.temperature = positions, temperature

    def forward(self, translated: list[Tensor], original: list[Tensor]) -> Tensor:
        """Mean cross-entropy over maps, patches and places; the original's side gets no gradient."""
        losses = []
        for embed, a, b in zip(self.embeddings, translated, original, strict=True):
            flat_a, flat_b = (maps.flatten(2).transpose(1, 2).float() for maps in (a, b))
            chosen = torch.randperm(flat_a.shape[1], device=a.device)[: self.positions]
            query = F.normalize(embed(flat_a[:, chosen]), dim=-1)
            key = F.normalize(embed(flat_b[:, chosen]), dim=-1).detach()
            logits = query @ key.transpose(1, 2) / self.temperature
            truth = torch.arange(len(chosen), device=a.device).expand(len(logits), -1)
            losses.append(F.cross_entropy(logits.flatten(0, 1), truth.flatten()))
        return torch.stack(losses).mean()


class Translated(Network):
    """A segmentation network that sees the translation of its input.

    Args:
        generator: translates.
        network: segments.
    """

    def __init__(self, generator: Generator, network: Network) -> None:
        super().__init__(network.classes, network.settings, network.channels)
        self.generator = generator
        self.network = network
        self.offset = network.offset  # one tensor: what calibrates the one calibrates the other

    @property
    def widths(self) -> tuple[int, ...]:
        """Those of the network."""
        return self.network.widths

    @property
    def stride(self) -> int:
        """Of the finest grid that is one of both."""
        return math.lcm(self.network.stride, self.generator.stride)

    @property
    def halo(self) -> int:
        """How far the network and then the generator see."""
        return -(-(self.network.halo + self.generator.reach) // self.stride) * self.stride

    @property
    def bytes_per_pixel(self) -> int:
        """Of the one that takes more; the generator's maps are gone when the network's come."""
        return max(self.network.bytes_per_pixel, self.generator.bytes_per_pixel)

    @property
    def reusable(self) -> int:
        """Of the network's maps."""
        return self.network.reusable

    def encode(self, x: Tensor, reused: Sequence[Tensor] = ()) -> list[Tensor]:
        """The network's maps of the translation."""
        return self.network.encode(x if reused else self.generator(x), reused)

    def features(self, maps: list[Tensor]) -> list[Tensor]:
        """The network's."""
        return self.network.features(maps)

    def classify(self, features: list[Tensor]) -> list[Tensor]:
        """As the network does."""
        return self.network.classify(features)

    def make_decoder(self, *, skips: bool = True) -> nn.Module:
        """The network's."""
        return self.network.make_decoder(skips=skips)

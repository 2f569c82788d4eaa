"""A 2-D U-Net whose normalisation keeps one set of statistics per domain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_emda.data.volume import Domain

DOMAINS: tuple[Domain, ...] = ("source", "target")


class DomainBatchNorm2d(nn.Module):
    """Batch normalisation with shared scale and shift but running statistics of each domain of its own.

    Source and target pass as separate batches (`domain` says which); mixed batches would give averages that fit
    neither.

    Args:
        features: channels C of the B x C x H x W input.
    """

    def __init__(self, features: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.running_mean: Tensor
        self.running_var: Tensor
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(len(DOMAINS), features))
        self.register_buffer("running_var", torch.ones(len(DOMAINS), features))
        self.momentum, self.eps, self.domain = momentum, eps, 0

    def forward(self, x: Tensor) -> Tensor:
        """Normalise B x C x H x W."""
        return F.batch_norm(
            x,
            self.running_mean[self.domain],
            self.running_var[self.domain],
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )


class AttentionGate(nn.Module):
    """Additive attention gate on a skip connection (Oktay et al. 2018, eq. 1).

    Args:
        features: channels of the skip and of the gating map, both B x C x H x W.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        inner = max(features // 2, 4)
        self.skip = nn.Conv2d(features, inner, 1, bias=False)
        self.gate = nn.Conv2d(features, inner, 1)
        self.score = nn.Conv2d(inner, 1, 1)

    def forward(self, skip: Tensor, gate: Tensor) -> Tensor:
        """The skip, weighted between 0 and 1 at each pixel."""
        return skip * torch.sigmoid(self.score(F.relu(self.skip(skip) + self.gate(gate))))


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        DomainBatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        DomainBatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Doubling(nn.ConvTranspose2d):
    """Transposed convolution, 2 x 2 with stride 2: B x C x H x W to B x C' x 2H x 2W.

    Its windows do not overlap, so it is one product of matrices: in bfloat16 on a processor faster than torch's own.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 2, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Every pixel to a square of four."""
        b, c, height, width = x.shape
        assert self.bias is not None
        pixels = F.linear(
            x.movedim(1, -1), self.weight.permute(2, 3, 1, 0).reshape(-1, c), self.bias.repeat(4)
        )
        squares = pixels.view(b, height, width, 2, 2, self.out_channels).transpose(2, 3)
        return squares.reshape(b, 2 * height, 2 * width, self.out_channels).movedim(-1, 1)


class Encoder(nn.Module):
    """Convolutions and pooling; returns the maps f_0 (full resolution) ... f_L (bottleneck)."""

    def __init__(self, inputs: int, base_channels: int, depth: int, dropout: float) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(depth + 1)]
        self.blocks = nn.ModuleList(map(_convolutions, [inputs, *widths[:-1]], widths))
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor, known: Sequence[Tensor] = ()) -> list[Tensor]:
        """B x C x H x W, sides multiples of 2^L, to L + 1 maps; the first of them may be ``known`` already."""
        maps = list(known)
        for level in range(len(maps), len(self.blocks)):
            x = self.blocks[level](F.max_pool2d(maps[-1], 2) if level else x)
            if level >= self.first_dropout:
                x = self.dropout(x)
            maps.append(x)
        return maps

    @property
    def first_dropout(self) -> int:
        """The first level whose map passes dropout: the last but one."""
        return len(self.blocks) - 2


class Decoder(nn.Module):
    """From the encoder's maps back to full resolution.

    Args:
        base_channels, depth: as the encoder's.
        skips: whether the finer maps are used; without, only the bottleneck carries information (Y-Net).
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


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) with batch normalisation per domain.

    Args:
        classes: channels of the logits.
        base_channels: feature maps at full resolution, doubled at each level.
        depth: number of poolings L (3 to 5).
        dropout: share of maps dropped at the two deepest levels.
        attention: attention gates on the skips.
    """

    def __init__(
        self,
        classes: int,
        base_channels: int = 16,
        depth: int = 3,
        dropout: float = 0.25,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.config = {
            "classes": classes,
            "base_channels": base_channels,
            "depth": depth,
            "dropout": dropout,
            "attention": attention,
        }
        self.classes, self.base_channels, self.depth = classes, base_channels, depth
        self.encoder = Encoder(1, base_channels, depth, dropout)
        self.decoder = Decoder(base_channels, depth, attention=attention)
        self.head = nn.Conv2d(base_channels, classes, 1)
        self.offset: Tensor
        self.register_buffer("offset", torch.zeros(classes))
        _initialise(self)

    @property
    def stride(self) -> int:
        """Sides of the input must be multiples of this."""
        return int(2**self.depth)

    @property
    def halo(self) -> int:
        """Pixels around a block beyond which nothing can change its logits, a multiple of `stride`.

        Per level l, two 3 x 3 convolutions reach 2 * 2^l pixels on the way down and again on the way up; pooling and
        transposed convolution reach up to 2^(l+1) - 1 more by their grid.
        """
        reach = (
            sum(2 * 2**level for level in range(self.depth)) * 2 + 2 * 2**self.depth + 2**self.depth
        )
        return -(-reach // self.stride) * self.stride

    def encode(self, x: Tensor) -> list[Tensor]:
        """B x 1 x H x W to the maps f_0 ... f_L."""
        maps: list[Tensor] = self.encoder(x)
        return maps

    def decode(self, maps: list[Tensor]) -> Tensor:
        """Encoder maps to logits B x C x H x W.

        In evaluation ``offset`` is added, see `napari_emda.training.prior_matching`.
        """
        logits: Tensor = self.head(self.decoder(maps))
        return logits if self.training else logits + self.offset.view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """B x 1 x H x W, standardised, to logits B x C x H x W."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def absorb_offset(self) -> None:
        """Make ``offset`` part of what is learnt: logits in evaluation stay, training goes on from them."""
        assert self.head.bias is not None
        self.head.bias += self.offset
        self.offset.zero_()


def _initialise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def norms(module: nn.Module) -> Iterator[DomainBatchNorm2d]:
    """All per-domain normalisation layers of a module."""
    return (layer for layer in module.modules() if isinstance(layer, DomainBatchNorm2d))


@contextmanager
def in_domain(module: nn.Module, domain: Domain) -> Iterator[None]:
    """Within it, batch normalisation uses (in training: updates) the statistics of this domain."""
    layers = list(norms(module))
    before = [layer.domain for layer in layers]
    for layer in layers:
        layer.domain = DOMAINS.index(domain)
    try:
        yield
    finally:
        for layer, index in zip(layers, before, strict=True):
            layer.domain = index


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every submodule's own mode is restored afterwards."""
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode


def measure_statistics(module: nn.Module, batches: Iterator[Tensor], domain: Domain) -> None:
    """Set the running statistics of a domain to those of ``batches``, B x 1 x H x W each (AdaBN, Li et al. 2017).

    Cumulative averages over the batches, dropout off, no gradients; weights and the other domain stay as they are.
    """
    layers = list(norms(module))
    momenta = [layer.momentum for layer in layers]
    with evaluating(module), in_domain(module, domain):
        for layer in layers:
            layer.training = True
        try:
            for count, batch in enumerate(batches, 1):
                for layer in layers:
                    layer.momentum = 1 / count
                module(batch)
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum


def mix_statistics(module: nn.Module, share: float) -> None:
    """Move the target's running statistics towards the source's: share * target + (1 - share) * source.

    Statistics of the target make up for another contrast, but also take away that there is more, or less, of the
    structure in it; those of the source do neither (Schneider et al. 2020, section 3).

    Args:
        module: its source statistics stay as they are.
        share: of the target's own, 0 to 1.
    """
    source, target = DOMAINS.index("source"), DOMAINS.index("target")
    with torch.no_grad():
        for layer in norms(module):
            for statistics in (layer.running_mean, layer.running_var):
                statistics[target] = torch.lerp(statistics[source], statistics[target], share)


class WithSoftmax(nn.Module):
    """A network as other programs take it: class probabilities, one domain's statistics.

    Args:
        network: gives logits.
        domain: whose normalisation statistics to use, for good.
    """

    def __init__(self, network: UNet, domain: Domain) -> None:
        super().__init__()
        self.network = network
        for layer in norms(network):
            layer.domain = DOMAINS.index(domain)

    def forward(self, x: Tensor) -> Tensor:
        """B x 1 x H x W, standardised, to probabilities B x C x H x W."""
        return self.network(x).softmax(1)

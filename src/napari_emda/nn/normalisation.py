"""Batch normalisation with statistics of its own for each domain, and what is done with them.

All functions here also take networks without such layers, and then change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        self.momentum = momentum
        self.eps = eps
        self.domain = 0

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
def in_evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put every submodule into evaluation mode; afterwards each is in its own mode again.

    This includes layers whose mode is changed within, such as dropout that draws samples.
    """
    modes = [(layer, layer.training) for layer in module.modules()]
    # Compared before it is set: the attributes of modules are slow to set, this runs for every
    # block, and most layers are in the wanted mode already.
    for layer, training in modes:
        if training:
            layer.training = False
    try:
        yield
    finally:
        for layer, training in modes:
            if layer.training != training:
                layer.training = training


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every submodule's own mode is restored afterwards."""
    with in_evaluation_mode(module), torch.no_grad():
        yield


def measure_statistics(module: nn.Module, batches: Iterator[Tensor], domain: Domain) -> None:
    """Set the running statistics of a domain to those of ``batches``, B x 1 x H x W each (AdaBN, Li et al. 2017).

    Cumulative averages over the batches, dropout off, no gradients; weights and the other domain stay as they are.
    """
    layers = list(norms(module))
    if not layers:
        return
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

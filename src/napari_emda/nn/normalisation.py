"""Batch normalisation with statistics per domain, and their measurement and mixing.

All functions also take networks without such layers, and then change nothing.
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
    """Batch normalisation with shared scale and shift, and separate running statistics per domain.

    Source and target pass as separate batches; `domain` is the index of the current one. Mixed
    batches would give averages that fit neither.

    Args:
        features: channels C of the B x C x H x W input.
        momentum: weight of a batch in the running statistics; torch's default.
        eps: added to variances; torch's default.
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
    """All normalisation layers with statistics per domain."""
    return (layer for layer in module.modules() if isinstance(layer, DomainBatchNorm2d))


@contextmanager
def in_domain(module: nn.Module, domain: Domain) -> Iterator[None]:
    """Batch normalisation uses the statistics of this domain, and updates them in training."""
    layers = list(norms(module))
    previous = [layer.domain for layer in layers]
    for layer in layers:
        layer.domain = DOMAINS.index(domain)
    try:
        yield
    finally:
        for layer, index in zip(layers, previous, strict=True):
            layer.domain = index


@contextmanager
def in_evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put every submodule into evaluation mode, and restore all modes afterwards.

    This includes layers whose mode is changed inside the block, such as dropout for sampling.
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
    """Evaluation mode without gradients; the mode of every submodule is restored afterwards."""
    with in_evaluation_mode(module), torch.no_grad():
        yield


def measure_statistics(
    module: nn.Module, batches: Iterator[Tensor], domain: Domain
) -> Iterator[int]:
    """Replace the running statistics of a domain by those of batches (AdaBN, Li et al. 2017).

    Without dropout and gradients. Weights and the statistics of the other domain do not change.

    Args:
        module: the network.
        batches: B x channels x H x W each.
        domain: whose statistics are replaced.

    Yields:
        The number of batches so far, after each. The statistics are those of these batches.
    """
    layers = list(norms(module))
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for count, batch in enumerate(batches, 1):
        # Within each turn, so that whoever stops here, or does something else, finds the modes as
        # they were.
        with evaluating(module), in_domain(module, domain):
            for layer in layers:
                layer.training = True
                # The running statistics become the mean over all batches. The first batch, with
                # momentum 1, replaces the old statistics.
                layer.momentum = 1 / count
            try:
                module(batch)
            finally:
                for layer, momentum in zip(layers, momenta, strict=True):
                    layer.momentum = momentum
        yield count


def mix_statistics(module: nn.Module, share: float) -> None:
    """Replace the target's running statistics by share * target + (1 - share) * source.

    The target's statistics compensate for another contrast. But they also hide that the target
    contains more or less of the structure; the source's do neither (Schneider et al. 2020,
    section 3).

    Args:
        module: the network; its source statistics do not change.
        share: weight of the target's statistics, 0 to 1.
    """
    source = DOMAINS.index("source")
    target = DOMAINS.index("target")
    with torch.no_grad():
        for layer in norms(module):
            for statistics in (layer.running_mean, layer.running_var):
                statistics[target] = torch.lerp(statistics[source], statistics[target], share)


def fill_statistics(module: nn.Module, domain: Domain) -> None:
    """Take the statistics of the other domain where those of this one were never measured.

    Args:
        module: the network.
        domain: whose statistics may still be those with which layers begin.
    """
    index = DOMAINS.index(domain)
    with torch.no_grad():
        for layer in norms(module):
            # No image keeps a mean of exactly 0 in all channels.
            if not layer.running_mean[index].any():
                for statistics in (layer.running_mean, layer.running_var):
                    statistics[index] = statistics[1 - index]

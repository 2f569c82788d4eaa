"""A running average of a network, and what it teaches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from napari_emda.data.volume import Domain
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import evaluating, in_domain, norms


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Average <- momentum * average + (1 - momentum) * network, for all parameters; buffers are copied.

    Tarvainen & Valpola 2017.
    """
    get_ema_multi_avg_fn(momentum)(list(average.parameters()), list(network.parameters()), 0)
    for mine, other in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(other)


def predict_as_teacher(teacher: Network, image: Tensor, domain: Domain = "target") -> Tensor:
    """Class probabilities of patches, B x C x H x W float32, by the statistics of the batch, without dropout."""
    with evaluating(teacher), in_domain(teacher, domain):
        for layer in norms(teacher):
            layer.training = True
        probabilities: Tensor = teacher(image).float().softmax(1)
    return probabilities


class PriorAlignment(nn.Module):
    """Draws pseudo-labels towards known class shares (distribution alignment, Berthelot et al. 2020).

    p <- normalise(p * clip((prior / running mean of p)^strength, 1/2, 2)).

    Args:
        prior: share of each class.
        strength: 0 leaves p as it is.
        momentum: of the running mean.
    """

    def __init__(self, prior: Sequence[float], strength: float, momentum: float = 0.98) -> None:
        super().__init__()
        self.prior: Tensor
        self.running: Tensor
        self.register_buffer("prior", torch.tensor(prior, dtype=torch.float32).clamp(min=1e-4))
        self.register_buffer("running", self.prior.clone())
        self.strength, self.momentum = strength, momentum

    @torch.no_grad()
    def forward(self, p: Tensor) -> Tensor:
        """Aligned probabilities, B x C x H x W."""
        self.running.lerp_(p.mean((0, 2, 3)), 1 - self.momentum)
        ratio = (self.prior / self.running.clamp(min=1e-4)).pow(self.strength).clamp(0.5, 2)
        aligned = p * ratio.view(1, -1, 1, 1)
        return aligned / aligned.sum(1, keepdim=True)

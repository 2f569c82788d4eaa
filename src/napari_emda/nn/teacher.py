"""A running average of a network, its predictions and their alignment with class proportions."""

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
    """Set all parameters to momentum * average + (1 - momentum) * network; copy the buffers.

    The exponential moving average of Tarvainen & Valpola 2017.
    """
    # torch's function updates all tensors in few kernels.
    get_ema_multi_avg_fn(momentum)(list(average.parameters()), list(network.parameters()), 0)
    for buffer, current in zip(average.buffers(), network.buffers(), strict=True):
        buffer.copy_(current)


def predict_as_teacher(teacher: Network, image: Tensor, domain: Domain = "target") -> Tensor:
    """Class probabilities B x C x H x W (float32) of patches, without dropout and gradients.

    Args:
        teacher: the network.
        image: B x channels x H x W, standardised.
        domain: of the patches.
    """
    with evaluating(teacher), in_domain(teacher, domain):
        # Normalised by the statistics of the batch, as the student is.
        for layer in norms(teacher):
            layer.training = True
        probabilities: Tensor = teacher(image).float().softmax(1)
    return probabilities


class PriorAlignment(nn.Module):
    """Moves pseudo-labels towards known class proportions.

    p <- normalise(p * clip((prior / running mean of p)^strength, 1/2, 2)): the distribution
    alignment of Berthelot et al. 2020, with an exponent and limits.

    Args:
        prior: proportion of each class.
        strength: exponent; 0 changes nothing.
        momentum: of the running mean.
    """

    def __init__(self, prior: Sequence[float], strength: float, momentum: float = 0.98) -> None:
        super().__init__()
        self.prior: Tensor
        self.running: Tensor
        # Not 0, as the running mean below, so that their ratio starts at 1 for absent classes too.
        self.register_buffer("prior", torch.tensor(prior, dtype=torch.float32).clamp(min=1e-4))
        self.register_buffer("running", self.prior.clone())
        self.strength = strength
        self.momentum = momentum

    @torch.no_grad()
    def forward(self, p: Tensor) -> Tensor:
        """Aligned probabilities, B x C x H x W."""
        self.running.lerp_(p.mean((0, 2, 3)), 1 - self.momentum)
        # Limited, because a few batches without a rare class would otherwise make it dominate.
        ratio = (self.prior / self.running.clamp(min=1e-4)).pow(self.strength).clamp(0.5, 2)
        aligned = p * ratio.view(1, -1, 1, 1)
        return aligned / aligned.sum(1, keepdim=True)

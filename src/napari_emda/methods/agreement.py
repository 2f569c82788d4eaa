"""Agreement of the predictions of unlabelled patches with those of their changed copies."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from napari_emda.data.volume import Domain
from napari_emda.nn.losses import divergence
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import in_domain
from napari_emda.nn.teacher import predict_as_teacher
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.randaugment import RandAugment, turn_back
from napari_emda.settings import base

# Of RandAugment, as in the comparative study of docs/benchmark-few-labels.md.
CHANGES = 2
MAGNITUDE = 5.0

# A probability of 0 has no logarithm; rotating back mixes in zeros at the edges.
_LEAST = 1e-6


class Agreement(base.Settings):
    """Setting of methods that learn from annotated patches and from the others as well."""

    agreement: float = Field(
        0.0,
        ge=0,
        le=10,
        title="weight of unlabelled patches",
        description="How much the network also learns from target patches without labels: its "
        "prediction shall stay the same when contrast, blur, noise or orientation of a patch "
        "change. 0 learns from labels alone; 1 counts as much as these, and makes a step 1.3 to "
        "1.4 times as long. Raise it if few patches are annotated.",
        json_schema_extra={"step": 0.1},
    )


def anywhere(image: Tensor, stack: int) -> Tensor:
    """The second half of a batch, which does not lie around labels.

    Args:
        image: B x channels x H x W.
        stack: consecutive entries that belong together.
    """
    return image[len(image) // stack // 2 * stack :]


def predict_changed(
    network: Network, strong: RandAugment, image: Tensor, domain: Domain
) -> tuple[Tensor, Tensor]:
    """Predict strongly changed copies of patches.

    Args:
        network: that predicts.
        strong: how the copies are changed.
        image: B x channels x H x W, standardised.
        domain: of the patches.

    Returns:
        Class probabilities B x C x H x W in the frame of the patches; and B x H x W booleans, False
        where the copy did not show a pixel.
    """
    # Seeded from torch's generator, which the trainer seeds in every step.
    seed = int(torch.randint(2**31, ()))
    augment = Augmentation("none", seed, image.device, network.stack)
    changed, angle = strong(image, augment)
    with in_domain(network, domain):
        return turn_back(network(changed).float().softmax(1), angle)


def disagreement(p: Tensor, q: Tensor, inside: Tensor) -> Tensor:
    """KL(p || q) of predictions of patches and of their copies (Xie et al. 2020, eq. 1).

    No gradient flows through p.

    Args:
        p: class probabilities of the patches, B x C x H x W.
        q: of the copies, see `predict_changed`.
        inside: which pixels count, B x H x W booleans.
    """
    return divergence(p.clamp(min=_LEAST).log(), q.clamp(min=_LEAST).log(), inside)


def agreement_loss(network: Network, image: Tensor, domain: Domain = "target") -> Tensor:
    """`disagreement` on the patches of a batch, B x channels x H x W, that lie anywhere."""
    image = anywhere(image, network.stack)
    q, inside = predict_changed(network, RandAugment(CHANGES, MAGNITUDE), image, domain)
    return disagreement(predict_as_teacher(network, image, domain), q, inside)

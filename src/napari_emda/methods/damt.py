"""DAMT-Net: reconstruction and two discriminators."""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from napari_emda.methods.base import DataSummary, Method, methods, ramp
from napari_emda.nn.discriminators import DomainClassifier, PatchDiscriminator
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import in_domain
from napari_emda.nn.reconstruction import Reconstruction, psnr
from napari_emda.sampling.patches import Batch
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements

# Roles of parameters: the network with its reconstruction; the discriminators.
NETWORK = "network"
CRITICS = "critics"


@methods.register("damt")
class DAMT(Method):
    """Aligns the volumes by reconstruction and two discriminators: strong on a GPU, slow otherwise.

    DAMT-Net (Peng et al. 2020, as used by Franco-Barranco et al. 2022): segmentation of the
    source, reconstruction of both volumes, and adversarial losses on the target's softmax map
    (label space) and on its last decoder features (feature space). The discriminators see
    source as 1 and target as 0.
    """

    citations = ("peng2020", "francobarranco2022")
    requirements = Requirements(domains=("source", "target"), labels="needed")

    class Settings(base.Settings):
        """Settings of DAMT-Net."""

        # Published: 5e-4, for up to 100 000 steps.
        reconstruction: float = Field(
            0.05,
            ge=0,
            le=10,
            title="weight of reconstruction",
            description="How much reconstructing both images counts. Raise it if the target is "
            "noisy and structures get lost.",
            json_schema_extra={"step": 0.01},
        )
        # Published: 1e-3, for up to 100 000 steps.
        adversarial: float = Field(
            0.005,
            ge=0,
            le=1,
            title="strength of adaptation",
            description="How strongly the network is kept from telling the two volumes apart "
            "(weight of each adversarial loss). Lower it if the training collapses.",
            json_schema_extra={"step": 0.001},
        )
        # With the default rate of 1e-3 the discriminators learn at 2e-4; published is 1e-4.
        critic_rate: float = Field(
            0.2,
            ge=0.001,
            le=10,
            title="speed of the critics",
            description="How fast the critics, which tell the two volumes apart, learn in "
            "comparison with the network (learning rate). Lower it if the losses swing.",
            json_schema_extra={"step": 0.05},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        self.reconstruction = Reconstruction(network)
        self.label_critic = PatchDiscriminator(network.classes)
        self.feature_critic = DomainClassifier(network.head.in_channels)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Losses of the network and, as ``critics``, of the discriminators.

        Neither gets gradients from the losses of the other.
        """
        losses: dict[str, Tensor] = {}
        source = batch["source"]
        target = batch["target"]
        with in_domain(self, "source"):
            maps = self.network.encode(source.image)
            source_features = self.network.features(maps)
            source_logits = self.network.classify(source_features)
            source_error = self.reconstruction.error(maps, source.clean)
        with in_domain(self, "target"):
            maps = self.network.encode(target.image)
            target_features = self.network.features(maps)
            target_logits = self.network.classify(target_features)
            target_error = self.reconstruction.error(maps, target.clean)
        losses["segmentation"] = self.supervised_by(source_logits, source_features, source)
        if self.summary.annotated:
            losses["target_segmentation"] = self.supervised_by(
                target_logits, target_features, target
            )
        losses["reconstruction"] = (
            self.settings.reconstruction * 0.5 * (source_error + target_error)
        )
        source_labels = source_logits[0].softmax(1)
        target_labels = target_logits[0].softmax(1)
        # At first the discriminators know nothing, so that their gradients would be noise.
        weight = self.settings.adversarial * ramp(progress, 0.05, 0.25)
        losses["adversarial"] = weight * self._adversarial(target_labels, target_features[0])
        losses["critics"] = self._discrimination(
            source_labels, target_labels, source_features[0], target_features[0]
        )
        self.report("target_psnr", psnr(target_error))
        return losses

    def _adversarial(self, labels: Tensor, features: Tensor) -> Tensor:
        """Loss of the network: the discriminators should take the target for the source."""
        critics = [*self.label_critic.parameters(), *self.feature_critic.parameters()]
        # The gradient flows through the discriminators to the network, and does not train them.
        for parameter in critics:
            parameter.requires_grad_(False)
        try:
            decisions = self.label_critic(labels).float()
            logits = self.feature_critic(features).float()
        finally:
            for parameter in critics:
                parameter.requires_grad_(True)
        return _domain_loss(decisions, logits, 1)

    def _discrimination(
        self,
        source_labels: Tensor,
        target_labels: Tensor,
        source_features: Tensor,
        target_features: Tensor,
    ) -> Tensor:
        """Loss of the discriminators: source 1, target 0."""
        total = torch.zeros((), device=source_labels.device)
        accuracies = []
        for labels, features, domain in (
            (source_labels, source_features, 1),
            (target_labels, target_features, 0),
        ):
            decisions = self.label_critic(labels.detach()).float()
            logits = self.feature_critic(features.detach()).float()
            total = total + 0.5 * _domain_loss(decisions, logits, domain)
            accuracies.append((logits.argmax(1) == domain).float().mean())
        self.report("domain_accuracy", torch.stack(accuracies).mean())
        return total

    def learning_rate(self, progress: float, role: str = "") -> float:
        """The base schedule, scaled for the discriminators."""
        factor = self.settings.critic_rate if role == CRITICS else 1.0
        return factor * super().learning_rate(progress)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The network with its reconstruction; the discriminators."""
        return {
            NETWORK: [*self.network.parameters(), *self.reconstruction.parameters()],
            CRITICS: [*self.label_critic.parameters(), *self.feature_critic.parameters()],
        }


def _domain_loss(decisions: Tensor, logits: Tensor, truth: int) -> Tensor:
    """Sum of the cross-entropies of both discriminators.

    Args:
        decisions: of the label discriminator, one per region, B x 1 x h x w.
        logits: of the feature discriminator, B x 2.
        truth: 1 for source, 0 for target.
    """
    classes = torch.full((len(logits),), truth, dtype=torch.long, device=logits.device)
    maps = torch.full_like(decisions, float(truth))
    return F.binary_cross_entropy_with_logits(decisions, maps) + F.cross_entropy(logits, classes)

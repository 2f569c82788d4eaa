"""DAMT-Net: reconstruction and two discriminators."""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from napari_emda.methods.base import DataSummary, Method, methods, ramp
from napari_emda.nn.discriminators import DomainClassifier, PatchDiscriminator
from napari_emda.nn.losses import deep_supervision
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import in_domain
from napari_emda.nn.reconstruction import Reconstruction, psnr
from napari_emda.sampling.sampler import Batch
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements

NETWORK, CRITICS = "network", "critics"


@methods.register("damt")
class DAMT(Method):
    """Aligns the volumes by reconstruction and two discriminators: strong on a GPU, slow otherwise.

    DAMT-Net (Peng et al. 2020, as used by Franco-Barranco et al. 2022): segmentation of the
    source, reconstruction of both volumes, and adversarial losses on the target's softmax map
    (label space) and on its last decoder features (feature space). The discriminators see
    source as 1 and target as 0.
    """

    requirements = Requirements(domains=("source", "target"), labels="needed")

    class Settings(base.Settings):
        """Settings of DAMT-Net."""

        reconstruction: float = Field(
            0.05,
            ge=0,
            le=10,
            description="Weight of the reconstruction loss.",
            json_schema_extra={"step": 0.01},
        )
        adversarial: float = Field(
            0.005,
            ge=0,
            le=1,
            description="Weight of each adversarial loss.",
            json_schema_extra={"step": 0.001},
        )
        critic_rate: float = Field(
            0.2,
            ge=0.001,
            le=10,
            description="Learning rate of the discriminators, as a fraction of the network's.",
            json_schema_extra={"step": 0.05},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        self.reconstruction = Reconstruction(network)
        self.label_critic = PatchDiscriminator(network.classes)
        self.feature_critic = DomainClassifier(network.head.in_channels)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The network's four losses and the discriminators' two; neither side's gradients reach the other."""
        losses: dict[str, Tensor] = {}
        source, target = batch["source"], batch["target"]
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
        losses["segmentation"] = deep_supervision(self.criterion, source_logits, source.labels)
        if self.summary.annotated:
            losses["target_segmentation"] = deep_supervision(
                self.criterion, target_logits, target.labels
            )
        losses["reconstruction"] = (
            self.settings.reconstruction * 0.5 * (source_error + target_error)
        )
        source_labels = source_logits[0].softmax(1)
        target_labels = target_logits[0].softmax(1)
        weight = self.settings.adversarial * ramp(progress, 0.05, 0.25)
        losses["adversarial"] = weight * self._fooled(target_labels, target_features[0])
        losses["critics"] = self._critics(
            source_labels, target_labels, source_features[0], target_features[0]
        )
        self.report("target_psnr", psnr(target_error))
        return losses

    def _fooled(self, labels: Tensor, features: Tensor) -> Tensor:
        """How far the discriminators are from taking the target for the source; they do not learn from it."""
        critics = [*self.label_critic.parameters(), *self.feature_critic.parameters()]
        for parameter in critics:
            parameter.requires_grad_(False)
        try:
            decisions, logits = (
                self.label_critic(labels).float(),
                self.feature_critic(features).float(),
            )
        finally:
            for parameter in critics:
                parameter.requires_grad_(True)
        return _decided(decisions, logits, 1)

    def _critics(self, *maps: Tensor) -> Tensor:
        """What the discriminators learn: source 1, target 0."""
        source_labels, target_labels, source_features, target_features = (m.detach() for m in maps)
        total = torch.zeros((), device=source_labels.device)
        right = []
        for labels, features, truth in (
            (source_labels, source_features, 1),
            (target_labels, target_features, 0),
        ):
            decisions, logits = (
                self.label_critic(labels).float(),
                self.feature_critic(features).float(),
            )
            total = total + 0.5 * _decided(decisions, logits, truth)
            right.append((logits.argmax(1) == truth).float().mean())
        self.report("domain_accuracy", torch.stack(right).mean())
        return total

    def learning_rate(self, progress: float, role: str = "") -> float:
        """The discriminators have a rate of their own."""
        return super().learning_rate(progress) * (
            self.settings.critic_rate if role == CRITICS else 1.0
        )

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The network with its reconstruction; the discriminators."""
        critics = [*self.label_critic.parameters(), *self.feature_critic.parameters()]
        return {
            NETWORK: [*self.network.parameters(), *self.reconstruction.parameters()],
            CRITICS: critics,
        }


def _decided(decisions: Tensor, logits: Tensor, truth: int) -> Tensor:
    """Cross-entropy of both discriminators against one truth, source 1 or target 0."""
    classes = torch.full((len(logits),), truth, dtype=torch.long, device=logits.device)
    maps = torch.full_like(decisions, float(truth))
    return F.binary_cross_entropy_with_logits(decisions, maps) + F.cross_entropy(logits, classes)

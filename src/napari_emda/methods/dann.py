"""Domain-adversarial training."""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from napari_emda.methods.base import DataSummary, methods
from napari_emda.methods.features import FeatureMethod
from napari_emda.nn.alignment import adversarial_ramp, level_weights, reverse_gradient
from napari_emda.nn.discriminators import DomainClassifier
from napari_emda.nn.network import Network
from napari_emda.settings import base


@methods.register("dann")
class DANN(FeatureMethod):
    """Learns features that look alike in both volumes, by an adversarial loss: can be unstable.

    Roels et al. 2019, eq. 1 with a domain classifier at each encoder level behind a gradient
    reversal (Ganin & Lempitsky 2015). The curve ``domain_accuracy`` should lie between 0.5 and
    0.7; near 1 nothing is aligned.
    """

    citations = ("roels2019domain", "ganin2015")

    class Settings(base.Settings):
        """Settings of DANN."""

        weight: float = Field(
            0.1,
            ge=0,
            le=10,
            title="strength of adaptation",
            description="How strongly the network is kept from telling the two volumes apart, at "
            "the deepest level and the end of the training (reversed gradient). Lower it if the "
            "training collapses, with everything or nothing detected.",
            json_schema_extra={"step": 0.05},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        self.weights = level_weights(len(network.widths) - 1)
        # A ModuleList: classifiers in a plain list would neither be trained nor moved to a GPU.
        self.classifiers = nn.ModuleList(
            DomainClassifier(width)
            for width, weight in zip(network.widths, self.weights, strict=True)
            if weight
        )

    def align(
        self, source: list[Tensor], target: list[Tensor], progress: float
    ) -> dict[str, Tensor]:
        """Cross-entropies of the classifiers; the encoder gets reversed and weighted gradients."""
        strength = self.settings.weight * adversarial_ramp(progress)
        weighted = [(w, s, t) for w, s, t in zip(self.weights, source, target, strict=True) if w]
        losses = []
        accuracies = []
        for classifier, (weight, s, t) in zip(self.classifiers, weighted, strict=True):
            # The weight is in the reversal and not in the loss: every classifier learns at full
            # speed, and only the encoder's gradient is weighted.
            features = reverse_gradient(torch.cat([s, t]), strength * weight)
            logits = classifier(features).float()
            # Source is 0, target is 1.
            domain = (torch.arange(len(logits), device=logits.device) >= len(s)).long()
            losses.append(F.cross_entropy(logits, domain))
            accuracies.append((logits.argmax(1) == domain).float().mean())
        self.report("domain_accuracy", torch.stack(accuracies).mean())
        return {"domain": torch.stack(losses).sum()}

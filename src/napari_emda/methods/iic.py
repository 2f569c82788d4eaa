"""Clusters of pixels that need no labels at all."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from napari_emda.data.volume import Domain, Volume
from napari_emda.methods.base import DataSummary, Method, methods
from napari_emda.nn.information import joint, mutual_information
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import in_domain
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.randaugment import turn, turn_back
from napari_emda.sampling.sampler import Batch, Patches
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements
from napari_emda.settings.training import TrainSettings

_LEAST_INFORMATION = 0.05
"""Share of log k below which the clusters say nothing of the image."""
_LARGEST_SHARE = 0.95
_PACE = 0.05
_NEVER = -1e4
"""Logit of a class that no pixel may have."""
_SHARPNESS = 4
"""Of the first clusters: undecided answers hold next to no information, and teach next to nothing for a long time."""


@methods.register("iic")
class IIC(Method):
    """Needs no labels: finds clusters of pixels that you name and correct. Only a start.

    Invariant information clustering (Ji, Henriques & Vedaldi 2019, section 3.3). A patch and
    its copy, changed in contrast and rotated by any angle, must get clusters with maximal
    mutual information, at the same pixel and at pixels a little apart. A second clustering with
    more clusters is trained at the same time and stabilises the features. Mutual information is
    at most the entropy of the cluster proportions. So clusters of equal size are preferred, and
    two clusters cannot find a rare structure; with many clusters, some can.
    """

    requirements = Requirements(optional_domains=("source", "target"), labels="unused")

    class Settings(base.Settings):
        """Settings of invariant information clustering."""

        renamed: ClassVar = {"finer": "overclustering"}

        clusters: int = Field(
            8,
            ge=2,
            le=64,
            description="Number of clusters. Rare structures need many: 8 to 24 in electron "
            "microscopy; 2 are enough to separate bright from dark.",
        )
        overclustering: int = Field(
            3,
            ge=1,
            le=5,
            description="A second, auxiliary clustering has this many times as many clusters; it "
            "is not shown.",
        )
        displacement: int = Field(
            1,
            ge=0,
            le=10,
            description="Also relates pixels up to this far apart: larger values give smoother "
            "clusters and slower training.",
        )
        balance: float = Field(
            1.0,
            ge=0.5,
            le=2,
            description="How strongly clusters of equal size are preferred; with lower values "
            "small clusters may survive, or all may collapse into one.",
            json_schema_extra={"step": 0.1},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        k = settings.clusters
        self.overclustering_head = nn.Conv2d(
            network.head.in_channels, k * settings.overclustering, 1
        )
        self.register_load_state_dict_pre_hook(_read_old_names)
        self.joint: Tensor
        self.register_buffer("joint", torch.eye(k) / k)
        network.offset[0] = _NEVER
        with torch.no_grad():
            for head in (network.head, self.overclustering_head):
                head.weight *= _SHARPNESS

    @classmethod
    def learns_from(cls, volume: Volume, settings: Any, training: TrainSettings) -> Volume:
        """The image alone, so that not even the choice of patches depends on labels."""
        return replace(volume, labels=None, annotations=None, annotated=())

    @classmethod
    def predicted_classes(cls, settings: Any, classes: tuple[str, ...]) -> tuple[str, ...]:
        """The clusters, from 1; there is no background, and no pixel gets class 0."""
        return ("none", *(f"cluster {k}" for k in range(1, settings.clusters + 1)))

    def prepare(self, batch: Batch, augment: Augmentation, progress: float) -> Batch:
        """Two views: ``clean`` is the patch, turned and flipped; ``image`` the same with other contrast and noise."""
        moved = {domain: augment.geometric(patches) for domain, patches in batch.items()}
        return {
            d: Patches(augment.photometric(p.image, share=1), p.labels, p.image)
            for d, p in moved.items()
        }

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Minus the information of each head, mean over displacements and domains, in nats where balance is 1."""
        pairs = [self._joints(patches, domain) for domain, patches in batch.items()]
        main, finer = (torch.stack(joints) for joints in zip(*pairs, strict=True))
        self._watch(main)
        return {
            "clusters": -mutual_information(main, self.settings.balance).mean(),
            "finer_clusters": -mutual_information(finer, self.settings.balance).mean(),
        }

    def _joints(self, patches: Patches, domain: Domain) -> list[Tensor]:
        """Joint distributions of the clusters of both views, of the main and of the finer head."""
        # The trainer has seeded torch for this step
        angle = 2 * math.pi * torch.rand(len(patches.image)).to(patches.image.device)
        with in_domain(self.network, domain):
            first = self._answers(patches.clean)
            second = self._answers(turn(patches.image, angle, padding="reflection"))
        back = [turn_back(q, angle) for q in second]
        return [
            joint(p, q, inside, self.settings.displacement)
            for p, (q, inside) in zip(first, back, strict=True)
        ]

    def _answers(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the main and of the finer clusters, B x k x H x W each."""
        features = self.network.features(self.network.encode(image))[:1]
        (logits,) = self.network.classify(features)
        finer = self.overclustering_head(features[0])
        return logits[:, 1:].float().softmax(1), finer.float().softmax(1)

    def _watch(self, joints: Tensor) -> None:
        d = self.settings.displacement
        now = joints.detach()[:, d, d].mean(0)
        self.joint.lerp_(now, _PACE)
        self.report("information", mutual_information(now))
        self.report("largest_cluster", now.sum(0).max())

    def alarm(self) -> str:
        """Whether the clusters say nothing of the image, or one has swallowed the others."""
        k = self.settings.clusters
        shares = self.joint.sum(0)
        largest = int(shares.argmax())
        remedy = "try a smaller learning rate, another seed, or fewer clusters."
        if shares[largest] > _LARGEST_SHARE:
            return f"The clusters have collapsed: cluster {largest + 1} takes {shares[largest]:.0%} of all; {remedy}"
        information = float(mutual_information(self.joint))
        if information < _LEAST_INFORMATION * math.log(k):
            return (
                f"The clusters have collapsed: they hold {information:.2f} of at most {math.log(k):.2f} nats of "
                f"information on the image; {remedy}"
            )
        return ""


def _read_old_names(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: object) -> None:
    """The over-clustering head was called ``finer`` up to checkpoint format 2."""
    old = f"{prefix}finer."
    for key in [key for key in state if key.startswith(old)]:
        state[f"{prefix}overclustering_head.{key.removeprefix(old)}"] = state.pop(key)

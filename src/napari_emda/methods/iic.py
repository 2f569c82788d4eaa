"""Invariant information clustering: clusters of pixels without labels."""

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
from napari_emda.nn.stacks import of_each_section
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Batch, Patches
from napari_emda.sampling.randaugment import turn, turn_back
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements
from napari_emda.settings.training import TrainSettings

# The clusters have collapsed if their information is below this fraction of log k, or if one of
# them takes more than this fraction of all pixels.
_LEAST_INFORMATION = 0.05
_LARGEST_CLUSTER = 0.95
# Weight of a step in the running joint distribution from which collapse is detected: it averages
# over about 20 steps, because single batches vary.
_JOINT_MOMENTUM = 0.05
# Added to the logits of class 0, which no pixel may get: its probability is exactly 0 in float32.
_IMPOSSIBLE = -1e4
# Factor of the initial weights of the heads. Nearly uniform probabilities have almost no mutual
# information, and hardly any gradient, for a long time.
_INITIAL_SCALE = 4


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

    citations = ("ji2019",)
    requirements = Requirements(optional_domains=("source", "target"), labels="unused")
    finds_clusters = True

    recommended = 5

    class Settings(base.Settings):
        """Settings of invariant information clustering."""

        renamed: ClassVar = {"finer": "overclustering"}

        clusters: int = Field(
            8,
            ge=2,
            le=64,
            title="clusters",
            description="Number of clusters. Rare structures need many: 8 to 24 in electron "
            "microscopy; 2 are enough to separate bright from dark. Raise it if your structure "
            "shares a cluster with others.",
        )
        overclustering: int = Field(
            3,
            ge=1,
            le=5,
            title="helping clusters",
            description="A second clustering, which only helps and is not shown, has this many "
            "times as many clusters.",
        )
        # The authors use 5 or 10; the time grows with (2 d + 1)^2.
        displacement: int = Field(
            1,
            ge=0,
            le=10,
            title="smoothness",
            description="Also relates pixels up to this far apart: larger values give smoother "
            "clusters and slower training. Raise it if clusters look speckled.",
        )
        # As in the authors' code, which uses 1.5 only with three classes.
        balance: float = Field(
            1.0,
            ge=0.5,
            le=2,
            title="equal sizes",
            description="How strongly clusters of equal size are preferred; with lower values "
            "small clusters may survive, or all may collapse into one. Lower it if your structure "
            "is rare.",
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
        # The running joint distribution starts with perfect clusters, so that it raises no alarm.
        self.register_buffer("joint", torch.eye(k) / k)
        network.offset[0] = _IMPOSSIBLE
        with torch.no_grad():
            for head in (network.head, self.overclustering_head):
                head.weight *= _INITIAL_SCALE

    @classmethod
    def learns_from(cls, volume: Volume, settings: Any, training: TrainSettings) -> Volume:
        """The volume without labels, so that not even the choice of patches depends on them."""
        return replace(volume, labels=None, ids=None, annotations=None, annotated=())

    @classmethod
    def predicted_classes(cls, settings: Any, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Clusters from 1; there is no background, and no pixel gets class 0."""
        return ("none", *(f"cluster {k}" for k in range(1, settings.clusters + 1)))

    def prepare(self, batch: Batch, augment: Augmentation, progress: float) -> Batch:
        """Two views: ``clean`` is the transformed patch, ``image`` has other contrast and noise."""
        moved = {domain: augment.geometric(patches) for domain, patches in batch.items()}
        return {
            domain: replace(view, image=augment.photometric(view.image, share=1))
            for domain, view in moved.items()
        }

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Minus the mutual information of each head, mean over displacements and domains.

        In nats if ``balance`` is 1.
        """
        joints = [self._joints(patches, domain) for domain, patches in batch.items()]
        clusters, overclustering = (torch.stack(of_head) for of_head in zip(*joints, strict=True))
        self._track(clusters)
        return {
            "clusters": -mutual_information(clusters, self.settings.balance).mean(),
            "overclustering": -mutual_information(overclustering, self.settings.balance).mean(),
        }

    def _joints(self, patches: Patches, domain: Domain) -> list[Tensor]:
        """Joint distributions of the clusters of both views, one per head."""
        # From torch's generator, which the trainer seeds in every step.
        stack = self.network.stack
        angle = 2 * math.pi * torch.rand(len(patches.image) // stack).to(patches.image.device)
        angle = of_each_section(angle, stack)
        with in_domain(self.network, domain):
            first = self._probabilities(patches.clean)
            second = self._probabilities(turn(patches.image, angle, padding="reflection"))
        joints = []
        for p, rotated in zip(first, second, strict=True):
            q, inside = turn_back(rotated, angle)
            joints.append(joint(p, q, inside, self.settings.displacement))
        return joints

    def _probabilities(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of clusters and auxiliary clusters, B x k x H x W each."""
        features = self.network.features(self.network.encode(image))[:1]
        (logits,) = self.network.classify(features)
        auxiliary = self.overclustering_head(features[0])
        return logits[:, 1:].float().softmax(1), auxiliary.float().softmax(1)

    def _track(self, joints: Tensor) -> None:
        """Update the running joint distribution, and report information and largest cluster."""
        d = self.settings.displacement
        # [d, d] is the displacement (0, 0).
        undisplaced = joints.detach()[:, d, d].mean(0)
        self.joint.lerp_(undisplaced, _JOINT_MOMENTUM)
        self.report("information", mutual_information(undisplaced))
        self.report("largest_cluster", undisplaced.sum(0).max())

    def alarm(self) -> str:
        """A warning if the clusters have collapsed."""
        k = self.settings.clusters
        proportions = self.joint.sum(0)
        largest = int(proportions.argmax())
        remedy = "train again with another seed, fewer clusters or a smaller learning rate."
        if proportions[largest] > _LARGEST_CLUSTER:
            return (
                f"Cluster {largest + 1} takes {proportions[largest]:.0%} of all pixels, so that "
                f"the clusters tell little apart: {remedy}"
            )
        if float(mutual_information(self.joint)) < _LEAST_INFORMATION * math.log(k):
            return f"The clusters hardly depend on the image: {remedy}"
        return ""


def _read_old_names(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: object) -> None:
    """Rename the over-clustering head, which was ``finer`` up to checkpoint format 2."""
    old = f"{prefix}finer."
    for key in [key for key in state if key.startswith(old)]:
        state[f"{prefix}overclustering_head.{key.removeprefix(old)}"] = state.pop(key)

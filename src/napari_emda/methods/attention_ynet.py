"""Attention Y-Net: attention gates and reconstruction in three stages."""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from napari_emda.data.volume import Domain
from napari_emda.methods.base import DataSummary, Method, cosine, methods
from napari_emda.nn.histogram import HistogramMatch
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import in_domain
from napari_emda.nn.reconstruction import Reconstruction, psnr
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Batch
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements

# Roles of parameters: encoder and reconstruction; decoder and head of the segmentation.
SHARED = "shared"
SEGMENTS = "segments"


@methods.register("attention_ynet")
class AttentionYNet(Method):
    """Reconstructs both volumes before it segments: three stages, with attention gates.

    Franco-Barranco et al. 2022 (Attention Y-Net): first mostly reconstruction with a little
    segmentation, then reconstruction alone with histogram-matched source patches, then
    segmentation alone with a frozen encoder.
    """

    citations = ("francobarranco2022",)
    requirements = Requirements(domains=("source", "target"), labels="needed")
    architecture: ClassVar[dict[str, Any]] = {"attention": True}

    class Settings(base.Settings):
        """Settings of Attention Y-Net."""

        # Published stages are 50, 40 and 100 epochs: about a quarter, a quarter and half.
        first_stage: float = Field(
            0.25,
            ge=0,
            le=0.45,
            title="share of the first stage",
            description="Fraction of the training for the first stage, which reconstructs both "
            "volumes.",
            json_schema_extra={"step": 0.05},
        )
        second_stage: float = Field(
            0.25,
            ge=0,
            le=0.45,
            title="share of the second stage",
            description="Fraction of the training for the second stage, reconstruction alone.",
            json_schema_extra={"step": 0.05},
        )
        # As published, 0.02 to 0.98.
        segmentation: float = Field(
            0.02,
            ge=0,
            le=1,
            title="weight of the labels",
            description="How much the labels count in the first stage; reconstructing the images "
            "has the rest.",
            json_schema_extra={"step": 0.01},
        )
        encoder_rate: float = Field(
            0.0,
            ge=0,
            le=1,
            title="change of features at the end",
            description="How far the features may change in the third stage, as a fraction of the "
            "decoder's step (learning rate of the encoder); 0 as published. Raise it if the "
            "segmentation stays poor.",
            json_schema_extra={"step": 0.05},
        )
        # As published.
        matched: float = Field(
            0.5,
            ge=0,
            le=1,
            title="share with target greys",
            description="Fraction of source patches that get the target's grey values, from the "
            "second stage on.",
            json_schema_extra={"step": 0.1},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        self.reconstruction = Reconstruction(network)
        self.match = HistogramMatch(
            summary.quantiles_of("source"), summary.quantiles_of("target"), summary.padding
        )

    def stage(self, progress: float) -> int:
        """Stage 1, 2 or 3 at a progress."""
        if progress < self.settings.first_stage:
            return 1
        return 2 if progress < self.settings.first_stage + self.settings.second_stage else 3

    def prepare(self, batch: Batch, augment: Augmentation, progress: float) -> Batch:
        """Match grey values of some source patches from the second stage on, then augment."""
        if self.stage(progress) > 1:
            source = batch["source"]
            chosen = augment.coin(len(source.image), self.settings.matched).view(-1, 1, 1, 1)
            image = torch.where(chosen, self.match(source.image), source.image)
            batch = {**batch, "source": source.with_image(image)}
        return super().prepare(batch, augment, progress)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Losses of the stage."""
        stage = self.stage(progress)
        losses = {}
        # alpha MSE + beta L_seg with (alpha, beta) = (0.98, 0.02), (1, 0), (0, 1) in the stages of
        # Franco-Barranco et al. 2022.
        segmentation = {1: self.settings.segmentation, 2: 0.0, 3: 1.0}[stage]
        reconstruction = 1 - segmentation
        names: dict[Domain, str] = {"source": "segmentation", "target": "target_segmentation"}
        for domain, name in names.items():
            labelled = domain == "source" or self.summary.annotated
            if stage == 3 and not labelled:
                continue
            with in_domain(self, domain):
                maps = self.network.encode(batch[domain].image)
                if labelled and segmentation:
                    losses[name] = segmentation * self.supervised(maps, batch[domain])
                if reconstruction:
                    error = self.reconstruction.error(maps, batch[domain].clean)
                    losses[f"{domain}_reconstruction"] = 0.5 * reconstruction * error
                    self.report(f"{domain}_psnr", psnr(error))
        return losses

    def learning_rate(self, progress: float, role: str = "") -> float:
        """One cosine for the first two stages, another for the third with a slow encoder."""
        end = self.settings.first_stage + self.settings.second_stage
        if self.stage(progress) < 3:
            # To a tenth only: the third stage continues with these features.
            return cosine(1.0, 0.1, progress / end)
        factor = self.settings.encoder_rate if role == SHARED else 1.0
        return factor * cosine(1.0, 0.01, (progress - end) / (1 - end))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Encoder and reconstruction; decoder and head of the segmentation."""
        shared = [*self.network.encoder.parameters(), *self.reconstruction.parameters()]
        return {SHARED: shared, SEGMENTS: self.network.decoding_parameters}

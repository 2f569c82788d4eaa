"""Attention Y-Net: attention gates, reconstruction, three stages."""

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
from napari_emda.sampling.sampler import Batch, Patches
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements

SHARED, SEGMENTS = "shared", "segments"


@methods.register("attention_ynet")
class AttentionYNet(Method):
    """Reconstructs both volumes before it segments: three stages, with attention gates.

    Franco-Barranco et al. 2022 (Attention Y-Net): first mostly reconstruction with a little
    segmentation, then reconstruction alone with histogram-matched source patches, then
    segmentation alone with a frozen encoder.
    """

    requirements = Requirements(domains=("source", "target"), labels="needed")
    architecture: ClassVar[dict[str, Any]] = {"attention": True}

    class Settings(base.Settings):
        """Settings of Attention Y-Net."""

        first_stage: float = Field(
            0.25,
            ge=0,
            le=0.45,
            description="Fraction of the training for the first stage.",
            json_schema_extra={"step": 0.05},
        )
        second_stage: float = Field(
            0.25,
            ge=0,
            le=0.45,
            description="Fraction of the training for the second stage, reconstruction alone.",
            json_schema_extra={"step": 0.05},
        )
        segmentation: float = Field(
            0.02,
            ge=0,
            le=1,
            description="Weight of the segmentation loss in the first stage; the reconstruction "
            "loss has the rest.",
            json_schema_extra={"step": 0.01},
        )
        encoder_rate: float = Field(
            0.0,
            ge=0,
            le=1,
            description="Learning rate of the encoder in the third stage, as a fraction of the "
            "decoder's; 0 as published.",
            json_schema_extra={"step": 0.05},
        )
        matched: float = Field(
            0.5,
            ge=0,
            le=1,
            description="Fraction of source patches matched to the target's grey values, from the "
            "second stage on.",
            json_schema_extra={"step": 0.1},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        self.reconstruction = Reconstruction(network)
        quantiles = (summary.quantiles_of("source"), summary.quantiles_of("target"))
        self.match = HistogramMatch(*quantiles, summary.padding)

    def stage(self, progress: float) -> int:
        """1, 2 or 3."""
        first, second = self.settings.first_stage, self.settings.second_stage
        return 1 if progress < first else 2 if progress < first + second else 3

    def prepare(self, batch: Batch, augment: Augmentation, progress: float) -> Batch:
        """Match grey values of the source from the second stage on."""
        if self.stage(progress) > 1:
            source = batch["source"]
            chosen = augment.coin(len(source.image), self.settings.matched).view(-1, 1, 1, 1)
            image = torch.where(chosen, self.match(source.image), source.image)
            batch = {**batch, "source": Patches(image, source.labels, image)}
        return super().prepare(batch, augment, progress)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Those of the stage."""
        stage, losses = self.stage(progress), {}
        weights = {
            1: (self.settings.segmentation, 1 - self.settings.segmentation),
            2: (0.0, 1.0),
            3: (1.0, 0.0),
        }[stage]
        names: dict[Domain, str] = {"source": "segmentation", "target": "target_segmentation"}
        for domain, name in names.items():
            labelled = domain == "source" or self.summary.annotated
            if stage == 3 and not labelled:
                continue
            with in_domain(self, domain):
                maps = self.network.encode(batch[domain].image)
                if labelled and weights[0]:
                    losses[name] = weights[0] * self.supervised(maps, batch[domain].labels)
                if weights[1]:
                    error = self.reconstruction.error(maps, batch[domain].clean)
                    losses[f"{domain}_reconstruction"] = 0.5 * weights[1] * error
                    self.report(f"{domain}_psnr", psnr(error))
        return losses

    def learning_rate(self, progress: float, role: str = "") -> float:
        """A cosine over the first two stages, another over the third, in which what is shared (almost) rests."""
        end = self.settings.first_stage + self.settings.second_stage
        if self.stage(progress) < 3:
            return cosine(1.0, 0.1, progress / end)
        rest = self.settings.encoder_rate if role == SHARED else 1.0
        return rest * cosine(1.0, 0.01, (progress - end) / (1 - end))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Encoder and reconstruction; the segmentation's decoder."""
        shared = [*self.network.encoder.parameters(), *self.reconstruction.parameters()]
        return {
            SHARED: shared,
            SEGMENTS: self.network.decoding_parameters,
        }

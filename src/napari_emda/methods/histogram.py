"""Pooled histogram matching of the source to the target."""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from napari_emda.methods.base import DataSummary, Method, methods
from napari_emda.nn.histogram import HistogramMatch
from napari_emda.nn.network import Network
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Batch
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements


@methods.register("histogram")
class Histogram(Method):
    """Gives source patches the grey values of the target: fast, for different brightness.

    Pooled histogram matching (Franco-Barranco et al. 2022, section 3), applied with a
    probability, so that the network learns both appearances.
    """

    citations: ClassVar[tuple[str, ...]] = ("francobarranco2022",)
    requirements = Requirements(domains=("source", "target"), labels="needed")

    class Settings(base.Settings):
        """Settings of histogram matching."""

        # As published (Franco-Barranco et al. 2022).
        matched: float = Field(
            0.5,
            ge=0,
            le=1,
            title="share with target greys",
            description="Fraction of source patches that get the target's grey values. Raise it "
            "if brightness and contrast of the volumes differ much; below 1 the network also sees "
            "the source as it is.",
            json_schema_extra={"step": 0.1},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        # Of whole volumes: matching single patches would change their content, and a patch of
        # nucleus would get the grey values of cytoplasm.
        self.match = HistogramMatch(
            summary.quantiles_of("source"), summary.quantiles_of("target"), summary.padding
        )

    def prepare(self, batch: Batch, augment: Augmentation, progress: float) -> Batch:
        """Match grey values of some source patches, then augment."""
        source = batch["source"]
        chosen = augment.coin(len(source.image), self.settings.matched).view(-1, 1, 1, 1)
        unmatched = self.unmatched(source.image, augment)
        image = torch.where(chosen, self.match(source.image), unmatched)
        batch = {**batch, "source": source.with_image(image)}
        return super().prepare(batch, augment, progress)

    def unmatched(self, image: Tensor, augment: Augmentation) -> Tensor:
        """Patches B x channels x H x W that keep the source's grey values; unchanged by default."""
        return image

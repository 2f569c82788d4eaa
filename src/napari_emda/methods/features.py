"""Common base of mmd, coral and dann: a distance of encoder maps is added to the loss."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from napari_emda.methods.base import Method
from napari_emda.nn.normalisation import in_domain
from napari_emda.sampling.patches import Batch
from napari_emda.settings.requirements import Requirements


class FeatureMethod(Method):
    """L = L_seg(source) + sum over encoder levels l of weight_l * distance(f_l source, f_l target).

    Roels et al. 2019, eq. 1: only encoder maps, with weights that increase with depth.
    """

    requirements = Requirements(domains=("source", "target"), labels="needed")

    @abstractmethod
    def align(
        self, source: list[Tensor], target: list[Tensor], progress: float
    ) -> dict[str, Tensor]:
        """Weighted losses from the maps f_0 ... f_L of both domains, B x C_l x H_l x W_l each."""

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Segmentation of the source and of annotated target patches, and the alignment."""
        # Two passes and not one with both domains: each is normalised by its statistics.
        with in_domain(self.network, "source"):
            source = self.network.encode(batch["source"].image)
            losses = {"segmentation": self.supervised(source, batch["source"])}
        with in_domain(self.network, "target"):
            target = self.network.encode(batch["target"].image)
            if self.summary.annotated:
                losses["target_segmentation"] = self.supervised(target, batch["target"])
        return {**losses, **self.align(source, target, progress)}

"""Y-Net: one encoder, a segmentation decoder and a reconstruction decoder."""

from typing import Any

from pydantic import Field
from torch import Tensor

from napari_emda.methods.base import DataSummary, Method, cosine, methods
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import DOMAINS, in_domain
from napari_emda.nn.reconstruction import Reconstruction, psnr
from napari_emda.sampling.patches import Batch
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements


@methods.register("ynet")
class YNet(Method):
    """Also learns to reconstruct the unlabelled target, so that its features fit both volumes.

    Roels et al. 2019, eq. 2: segmentation loss on the source plus the mean squared error of
    reconstructing source and target from the bottleneck (a decoder without skip connections,
    otherwise the task is trivial). The input is the augmented patch, the target of the
    reconstruction the clean one, and the weight falls along a cosine. If some of the target is
    annotated, a second stage without reconstruction follows: the labels of both volumes at a
    smaller learning rate.
    """

    citations = ("roels2019domain",)
    requirements = Requirements(domains=("source", "target"), labels="needed")

    class Settings(base.Settings):
        """Settings of Y-Net."""

        # As in the later code of Roels et al., where it is constant.
        reconstruction: float = Field(
            0.1,
            ge=0,
            le=10,
            title="weight of reconstruction, start",
            description="How much reconstructing both images counts at the start. Raise it if the "
            "volumes look very different.",
            json_schema_extra={"step": 0.01},
        )
        reconstruction_end: float = Field(
            0.01,
            ge=0,
            le=10,
            title="weight of reconstruction, end",
            description="How much reconstructing both images counts at the end; less leaves more "
            "of the network for segmenting.",
            json_schema_extra={"step": 0.01},
        )
        second_stage: float = Field(
            0.3,
            ge=0,
            le=0.9,
            title="share for both labels",
            description="Fraction of the training, at its end, on the labels of both volumes; "
            "skipped while nothing of the target is annotated.",
            json_schema_extra={"step": 0.05},
        )
        fine_rate: float = Field(
            0.3,
            ge=0.01,
            le=1,
            title="size of a step at the end",
            description="How far one step of the second stage changes the network, as a fraction "
            "of that of the first (learning rate). Lower it if few patches are annotated.",
            json_schema_extra={"step": 0.05},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        self.reconstruction = Reconstruction(network)

    def _in_second_stage(self, progress: float) -> bool:
        return self.summary.annotated and progress >= 1 - self.settings.second_stage

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Segmentation of the source, reconstruction of both; in the second stage segmentation."""
        if self._in_second_stage(progress):
            return super().losses(batch, progress)
        end = 1 - self.settings.second_stage if self.summary.annotated else 1.0
        # Falling: in the end the encoder should serve segmentation alone.
        weight = cosine(
            self.settings.reconstruction, self.settings.reconstruction_end, progress / end
        )
        losses: dict[str, Tensor] = {}
        for domain in DOMAINS:
            patches = batch[domain]
            with in_domain(self, domain):
                maps = self.network.encode(patches.image)
                if domain == "source":
                    losses["segmentation"] = self.supervised(maps, patches)
                error = self.reconstruction.error(maps, patches.clean)
            losses[f"{domain}_reconstruction"] = weight * error
            self.report(f"{domain}_psnr", psnr(error))
        return losses

    def learning_rate(self, progress: float, role: str = "") -> float:
        """The base schedule, scaled down in the second stage."""
        factor = self.settings.fine_rate if self._in_second_stage(progress) else 1.0
        return factor * super().learning_rate(progress)

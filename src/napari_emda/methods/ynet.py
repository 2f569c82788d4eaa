"""Y-Net: one encoder, a segmentation decoder and a reconstruction decoder."""

from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from napari_emda import settings as base
from napari_emda.data.sampling import Batch, Patches
from napari_emda.data.volume import Domain
from napari_emda.methods.base import Context, Method, cosine, methods
from napari_emda.nn.losses import segmentation
from napari_emda.nn.unet import Decoder, UNet, in_domain


@methods.register("ynet")
class YNet(Method):
    """Also learns to redraw the unlabelled target, so that the network knows its look.

    Roels et al. 2019, eq. 2: segmentation loss on the source plus the mean squared error of reconstructing source and
    target from the bottleneck (a decoder without skips, else the task is trivial). The input is the augmented patch,
    the goal the clean one, and the weight falls along a cosine.
    """

    domains = ("source", "target")

    class Settings(base.Settings):
        """Settings of Y-Net."""

        reconstruction: float = Field(
            0.1, ge=0, le=10, description="Weight of the reconstruction at the start.", json_schema_extra={"step": 0.01}
        )
        reconstruction_end: float = Field(
            0.01, ge=0, le=10, description="Weight of the reconstruction at the end.", json_schema_extra={"step": 0.01}
        )

    def __init__(self, settings: Any, network: UNet, context: Context) -> None:
        super().__init__(settings, network, context)
        self.reconstruction = Decoder(network.base, network.levels, skips=False)
        self.image_head = nn.Conv2d(network.base, 1, 1)

    def reconstruct(self, maps: list[Tensor]) -> Tensor:
        """Encoder maps to an image, B x 1 x H x W; only the bottleneck is used."""
        image: Tensor = self.image_head(self.reconstruction(maps))
        return image

    def _one_domain(self, patches: Patches, domain: Domain, *, labelled: bool) -> tuple[Tensor | None, Tensor]:
        with in_domain(self, domain):
            maps = self.network.encode(patches.image)
            loss = segmentation(self.network.decode(maps), patches.labels) if labelled else None
            clean = F.instance_norm(patches.clean)
            return loss, F.mse_loss(self.reconstruct(maps).float(), clean)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Segmentation of the source (and of annotated target patches), reconstruction of both."""
        weight = cosine(self.settings.reconstruction, self.settings.reconstruction_end, progress)
        losses: dict[str, Tensor] = {}
        names: dict[Domain, str] = {"source": "segmentation", "target": "target_segmentation"}
        for domain, name in names.items():
            labelled = domain == "source" or self.context.annotated
            loss, reconstruction = self._one_domain(batch[domain], domain, labelled=labelled)
            if loss is not None:
                losses[name] = loss
            losses[f"{domain}_reconstruction"] = weight * reconstruction
        return losses

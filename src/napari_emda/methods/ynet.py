"""Y-Net: one encoder, a segmentation decoder and a reconstruction decoder."""

from typing import Any

from pydantic import Field
from torch import Tensor

from napari_emda import settings as base
from napari_emda.data.sampling import Batch
from napari_emda.data.volume import Domain
from napari_emda.methods.base import Context, Method, cosine, methods
from napari_emda.nn.losses import segmentation
from napari_emda.nn.reconstruction import Reconstruction, psnr
from napari_emda.nn.unet import UNet, in_domain


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
        self.reconstruction = Reconstruction(network.base, network.levels)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Segmentation of the source (and of annotated target patches), reconstruction of both."""
        weight = cosine(self.settings.reconstruction, self.settings.reconstruction_end, progress)
        names: dict[Domain, str] = {"source": "segmentation", "target": "target_segmentation"}
        losses: dict[str, Tensor] = {}
        for domain, name in names.items():
            patches = batch[domain]
            with in_domain(self, domain):
                maps = self.network.encode(patches.image)
                if domain == "source" or self.context.annotated:
                    losses[name] = segmentation(self.network.decode(maps), patches.labels)
                error = self.reconstruction.error(maps, patches.clean)
            losses[f"{domain}_reconstruction"] = weight * error
            self.report(f"{domain}_psnr", psnr(error))
        return losses

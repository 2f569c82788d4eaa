"""Self-supervised pre-training: restoring degraded patches of all volumes."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from napari_emda.data.volume import Domain
from napari_emda.methods.base import DataSummary, Method, cosine, methods
from napari_emda.nn.layers import middle
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import in_domain
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Batch, Patches
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements

# Roles of parameters.
ENCODER = "encoder"
REST = "rest"
# Largest standard deviation of the noise, for standardised grey values: 0.3 of the range between
# the 1st and 99th percentile, which is 3.8 in VNC, Lucchi and medulla.
_NOISE = 1.15
# Side in pixels of the blocks that are hidden.
_BLOCK = 8


def corrupt(
    image: Tensor, augment: Augmentation, noise: float = _NOISE, hidden: float = 0.25
) -> Tensor:
    """Add noise, reduce the resolution and hide blocks, differently for each patch.

    Franco-Barranco et al. 2022, section 3: noise, then down- and upsampling. Hiding blocks is added
    here.

    Args:
        image: B x channels x H x W, standardised.
        augment: source of random numbers.
        noise: largest standard deviation of the noise.
        hidden: fraction of 8 x 8 blocks that are replaced by the mean grey value.
    """
    n, _, height, width = image.shape
    level = augment.uniform(n, 0, noise).view(-1, 1, 1, 1)
    noisy = image + level * torch.randn(
        image.shape, generator=augment.generator, device=image.device
    )
    # A third of the patches keeps its resolution, a third has half and a third a quarter of it.
    resolution = augment.uniform(n).view(-1, 1, 1, 1)
    for factor, (low, high) in {2: (1 / 3, 2 / 3), 4: (2 / 3, 1.0)}.items():
        small = F.interpolate(noisy, scale_factor=1 / factor, mode="bilinear", antialias=True)
        coarse = F.interpolate(small, size=(height, width), mode="bilinear")
        noisy = torch.where((resolution >= low) & (resolution < high), coarse, noisy)
    # -(-height // _BLOCK) rounds up: the last blocks may be cut off.
    blocks = (n, 1, -(-height // _BLOCK), -(-width // _BLOCK))
    # The same blocks in all sections: hidden in one alone, they could be copied from another.
    mask = torch.rand(blocks, generator=augment.generator, device=image.device) < hidden
    mask = mask.repeat_interleave(_BLOCK, 2).repeat_interleave(_BLOCK, 3)[..., :height, :width]
    # The mean of standardised grey values is 0.
    return torch.where(mask, torch.zeros_like(noisy), noisy)


@methods.register("denoising")
class Denoising(Method):
    """Pre-trains by restoring noisy, blurred patches, then segments: helps when labels are few.

    Self-supervised pre-training (Franco-Barranco et al. 2022, section 3): mean squared error of
    restoring degraded patches of source and target. Then the segmentation loss on all labels,
    with a slower encoder instead of a frozen one. If nothing is labelled, the whole training
    restores patches, and other trainings can start from its features.
    """

    citations = ("francobarranco2022",)
    requirements = Requirements(optional_domains=("source", "target"), labels="optional")

    class Settings(base.Settings):
        """Settings of denoising."""

        pretraining: float = Field(
            0.4,
            ge=0.05,
            le=0.9,
            title="share for restoring",
            description="Fraction of the training spent on restoring disturbed patches, without "
            "labels. Raise it if few labels are there.",
            json_schema_extra={"step": 0.05},
        )
        # Published is a frozen encoder, which cannot adapt its features to the classes.
        encoder_rate: float = Field(
            0.1,
            ge=0,
            le=1,
            title="change of features afterwards",
            description="How far the features that were learnt by restoring may change while "
            "segmenting, as a fraction of the decoder's step (learning rate of the encoder). "
            "Raise it if many labels are there.",
            json_schema_extra={"step": 0.05},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        self.restoration = network.make_decoder()
        self.image_head = nn.Conv2d(network.head.in_channels, 1, 1)

    @property
    def _restoring_fraction(self) -> float:
        """Fraction of the training spent on restoring; all of it if nothing is labelled."""
        return float(self.settings.pretraining) if self.summary.labelled else 1.0

    def _restores(self, progress: float) -> bool:
        return progress < self._restoring_fraction

    def prepare(self, batch: Batch, augment: Augmentation, progress: float) -> Batch:
        """Degrade the patches during the first stage, then augment them as usual."""
        if not self._restores(progress):
            return super().prepare(batch, augment, progress)
        moved = {domain: augment.geometric(patches) for domain, patches in batch.items()}
        return {
            domain: replace(patches, image=corrupt(patches.clean, augment))
            for domain, patches in moved.items()
        }

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Restoration of all domains in the first stage, then segmentation."""
        if not self._restores(progress):
            return super().losses(batch, progress)
        return {
            f"{domain}_restoration": self._restoration(patches, domain)
            for domain, patches in batch.items()
        }

    def recorded_stage(self, progress: float) -> str:
        """Two stages, each with losses of its own."""
        return "restoration" if self._restores(progress) else "segmentation"

    def _restoration(self, patches: Patches, domain: Domain) -> Tensor:
        with in_domain(self, domain):
            image = self.image_head(self.restoration(self.network.encode(patches.image)))
        return F.mse_loss(image.float(), middle(patches.clean))

    def learning_rate(self, progress: float, role: str = "") -> float:
        """One cosine per stage; the encoder is slower in the second."""
        end = self._restoring_fraction
        if self._restores(progress):
            # To a tenth only: the second stage continues with these features.
            return cosine(1.0, 0.1, progress / end)
        factor = self.settings.encoder_rate if role == ENCODER else 1.0
        return factor * cosine(1.0, 0.01, (progress - end) / (1 - end))

    def alarm(self) -> str:
        """A warning if nothing is labelled."""
        if self.summary.labelled:
            return ""
        return (
            "Nothing is labelled, so the network learns features but no classes: annotate some "
            "patches, then start a training from this run."
        )

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The encoder; everything else."""
        rest = [*self.network.decoding_parameters]
        rest += [*self.restoration.parameters(), *self.image_head.parameters()]
        return {ENCODER: list(self.network.encoder.parameters()), REST: rest}

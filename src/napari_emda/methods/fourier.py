"""Low frequencies of the target in source patches."""

from typing import Literal

import torch
from pydantic import Field

from napari_emda.methods.base import Method, methods
from napari_emda.nn.fourier import swap_amplitudes, swap_moments
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Batch
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements

# Standardised grey value that counts as black. Amplitudes are taken of the image above it, whose
# mean is positive in both patches; otherwise swapping the mean's amplitude could flip its sign.
_BLACK = -4.0


@methods.register("fourier")
class Fourier(Method):
    """Gives source patches the shading and contrast of single target patches: fast.

    Fourier domain adaptation (Yang & Soatto 2020): the amplitudes of the lowest frequencies
    come from a target patch, all phases stay. ``moments`` copies only mean and standard
    deviation (Huang & Belongie 2017).
    """

    citations = ("yang2020", "huang2017")
    requirements = Requirements(domains=("source", "target"), labels="needed")

    class Settings(base.Settings):
        """Settings of Fourier adaptation."""

        look: Literal["amplitudes", "moments"] = Field(
            "amplitudes",
            title="what is copied",
            description="What is copied from a target patch: the amplitudes of low frequencies, "
            "which carry brightness and contrast by region, or the mean and standard deviation of "
            "the grey values. Choose 'moments' if patches show artefacts.",
        )
        # The paper uses 0.01 to 0.09.
        beta: float = Field(
            0.03,
            ge=0,
            le=0.5,
            title="finest detail copied",
            description="Highest frequency that is copied, in cycles per pixel; higher "
            "frequencies carry texture and soon cause artefacts.",
            json_schema_extra={"step": 0.01},
        )
        share: float = Field(
            0.5,
            ge=0,
            le=1,
            title="share with target look",
            description="Fraction of source patches that get the appearance of a target patch.",
            json_schema_extra={"step": 0.1},
        )

    def prepare(self, batch: Batch, augment: Augmentation, progress: float) -> Batch:
        """Change the appearance of some source patches, then augment."""
        source = batch["source"]
        target = batch["target"]
        if self.settings.look == "amplitudes":
            image = source.image - _BLACK
            changed = swap_amplitudes(image, target.image - _BLACK, self.settings.beta) + _BLACK
        else:
            changed = swap_moments(source.image, target.image)
        chosen = augment.coin(len(changed), self.settings.share).view(-1, 1, 1, 1)
        image = torch.where(chosen, changed, source.image)
        batch = {**batch, "source": source.with_image(image)}
        return super().prepare(batch, augment, progress)

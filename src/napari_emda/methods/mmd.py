"""Maximum mean discrepancy between the encoder's features."""

import torch
from pydantic import Field
from torch import Tensor

from napari_emda.methods.base import methods, ramp
from napari_emda.methods.features import FeatureMethod
from napari_emda.nn.alignment import level_weights, mmd, sample_positions
from napari_emda.settings import base


@methods.register("mmd")
class MMD(FeatureMethod):
    """Aligns the distributions of the two volumes' features by a kernel distance (MMD).

    Roels et al. 2019, eq. 1 with the squared MMD of Gretton et al. 2012 between 512 sampled
    positions per level: five Gaussian kernels around the median distance, unbiased.
    """

    citations = ("roels2019domain", "gretton2012")
    unlabelled_losses = ("mmd",)

    class Settings(base.Settings):
        """Settings of MMD."""

        # The bandwidth adapts to the features, so distances are of order 1 in every network, and
        # one weight fits all.
        weight: float = Field(
            0.3,
            ge=0,
            le=10,
            title="strength of adaptation",
            description="How strongly features of both volumes are made alike, at the deepest "
            "level (weight of the feature distance). Raise it if the volumes look very different; "
            "lower it if the segmentation of the source suffers.",
            json_schema_extra={"step": 0.1},
        )

    def align(
        self, source: list[Tensor], target: list[Tensor], progress: float
    ) -> dict[str, Tensor]:
        """The weighted sum over the levels, ramped up over the first fifth of the training."""
        weights = level_weights(len(source) - 1)
        losses = []
        biased = []
        # |x|^2 + |y|^2 - 2 x y is a difference of large numbers: bfloat16 has too few digits.
        with torch.autocast(source[0].device.type, enabled=False):
            for level_weight, s, t in zip(weights, source, target, strict=True):
                if level_weight:
                    distance = mmd(sample_positions(s), sample_positions(t))
                    losses.append(level_weight * distance.unbiased)
                    biased.append(distance.biased)
        self.report("feature_distance", torch.stack(biased).mean())
        weight = self.settings.weight * ramp(progress, 0, 0.2)
        return {"mmd": weight * torch.stack(losses).sum()}

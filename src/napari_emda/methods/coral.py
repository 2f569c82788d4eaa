"""Correlation alignment of the encoder's features."""

import torch
from pydantic import Field
from torch import Tensor

from napari_emda.methods.base import methods, ramp
from napari_emda.methods.features import FeatureMethod
from napari_emda.nn.alignment import (
    coral,
    level_weights,
    mean_distance,
    normalised_rows,
    sample_positions,
)
from napari_emda.settings import base


@methods.register("coral")
class Coral(FeatureMethod):
    """Aligns the means and covariances of the two volumes' features (CORAL).

    Roels et al. 2019, eq. 1 with the distance of Sun & Saenko 2016 (eq. 1) between the channel
    covariances of 512 sampled positions per level, plus the distance of the means, which CORAL
    ignores.
    """

    citations = ("roels2019domain", "sun2016")
    unlabelled_losses = ("coral",)

    class Settings(base.Settings):
        """Settings of CORAL."""

        weight: float = Field(
            3.0,
            ge=0,
            le=100,
            title="strength of adaptation",
            description="How strongly features of both volumes are made alike, at the deepest "
            "level (weight of the feature distance). Raise it if the volumes look very different; "
            "lower it if the segmentation of the source suffers.",
            json_schema_extra={"step": 0.5},
        )

    def align(
        self, source: list[Tensor], target: list[Tensor], progress: float
    ) -> dict[str, Tensor]:
        """The weighted sum over the levels, ramped up over the first fifth of the training."""
        weight = self.settings.weight * ramp(progress, 0, 0.2)
        # Covariances are differences of large sums, for which bfloat16 has too few digits.
        with torch.autocast(source[0].device.type, enabled=False):
            total = torch.zeros((), device=source[0].device)
            weights = level_weights(len(source) - 1)
            for level_weight, s, t in zip(weights, source, target, strict=True):
                if level_weight:
                    x, y = (normalised_rows(sample_positions(maps)) for maps in (s, t))
                    # Times C it is |cov(x) - cov(y)|^2 / (4 C): a mean over channels, as the
                    # distance of the means.
                    distance = coral(x, y) * x.shape[1] + mean_distance(x, y)
                    total = total + level_weight * distance
            return {"coral": weight * total}

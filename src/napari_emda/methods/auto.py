"""The default: what has paid on real pairs of volumes, put together."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from napari_emda.data.volume import Domain
from napari_emda.methods.base import Averaging, Postprocessing, methods
from napari_emda.methods.histogram import Histogram
from napari_emda.sampling.augmentation import Augmentation


@methods.register("auto")
class Auto(Histogram):
    """Combines what worked best on real data: the first choice for any target.

    Each step uses two batches of the source. Every second patch gets the target's grey values
    (`histogram`), and every fourth another contrast. The normalisation statistics lie half-way
    between the source's and the target's (`adabn`). Predictions are calibrated so that the
    target's class proportions come near the source's (`napari_emda.training.prior_matching`),
    and averaged over flips and, as far as these agree, over neighbouring sections.
    """

    source_batches = 2

    class Settings(Averaging, Histogram.Settings):
        """Settings of the default."""

        renamed: ClassVar = {"shares": "prior_strength", "statistics": "target_statistics_weight"}

        prior_strength: float = Field(
            0.85,
            ge=0,
            le=1,
            description="How far the target's class proportions are moved towards the source's: 1 "
            "if both volumes contain the same fraction of each class, 0 if nothing is known.",
            json_schema_extra={"step": 0.05},
        )
        contrast: float = Field(
            0.5,
            ge=0,
            le=1,
            description="Fraction of the patches with the source's grey values whose brightness "
            "and contrast are changed at random.",
            json_schema_extra={"step": 0.1},
        )
        target_statistics_weight: float = Field(
            0.5,
            ge=0,
            le=1,
            description="Weight of the target's normalisation statistics; the source's have the "
            "rest. Once patches are annotated, only the target's are used.",
            json_schema_extra={"step": 0.1},
        )

    @property
    def postprocessing(self) -> Postprocessing:
        """As the settings say; a network that was trained on annotated patches of the target knows its statistics."""
        statistics = 1.0 if self.summary.annotated else self.settings.target_statistics_weight
        return Postprocessing(
            self.settings.flips, self.settings.z_smoothing, self.settings.prior_strength, statistics
        )

    def draws(self, domain: Domain) -> bool:
        """A target that nobody annotated takes no part in a step."""
        return domain == "source" or self.summary.annotated

    def unmatched(self, image: Tensor, augment: Augmentation) -> Tensor:
        """Other brightness and contrast: what the network learns must not hang on grey values alone."""
        return augment.contrast(image, self.settings.contrast)

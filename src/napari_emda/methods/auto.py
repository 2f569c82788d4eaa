"""The default: a combination of what improved results on real pairs of volumes."""

from typing import Any

from pydantic import Field
from torch import Tensor

from napari_emda.data.volume import Domain
from napari_emda.methods.agreement import Agreement, agreement_loss
from napari_emda.methods.base import DataSummary, Postprocessing, methods
from napari_emda.methods.histogram import Histogram
from napari_emda.methods.matching import Matching, check_shares, matching
from napari_emda.nn.network import Network
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Batch


@methods.register("auto")
class Auto(Histogram):
    """Combines what worked best on real data: the first choice for any target.

    Each step uses two batches of the source. Every second patch gets the target's grey values
    (`histogram`), and every fourth another contrast. The normalisation statistics lie half-way
    between the source's and the target's (`adabn`). Predictions are calibrated so that the
    target's class proportions come near the expected ones (`napari_emda.training.prior_matching`),
    and averaged over flips and, as far as these agree, over neighbouring sections.
    """

    citations = ("francobarranco2022", "li2017", "schneider2020", "saerens2002")
    recommended = 1

    # Chosen on the real pairs of docs/benchmarks.md. An unannotated target takes no part in a step,
    # so a step costs 1.8 times as much as one of source_only, about as much as with other methods.
    source_batches = 2

    class Settings(Matching, Agreement, Histogram.Settings):
        """Settings of the default."""

        # Chosen on the phantom.
        contrast: float = Field(
            0.5,
            ge=0,
            le=1,
            title="share with changed contrast",
            description="Fraction of the patches with the source's grey values whose brightness "
            "and contrast are changed at random. Raise it if the volumes differ in contrast.",
            json_schema_extra={"step": 0.1},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        check_shares(settings, network)

    @property
    def postprocessing(self) -> Postprocessing:
        """Flips, z smoothing, prior matching and mixed statistics, with weights of the settings."""
        return matching(self.settings, self.summary)

    def draws(self, domain: Domain) -> bool:
        """The source, and the target if it is annotated."""
        return domain == "source" or self.summary.annotated

    @property
    def _agrees(self) -> bool:
        """Whether unlabelled patches of the target teach the network, too."""
        return self.summary.annotated and self.settings.agreement > 0

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Source loss; with annotated patches, target loss and agreement on unlabelled ones."""
        losses = super().losses(batch, progress)
        if self._agrees:
            loss = agreement_loss(self.network, batch["target"].clean)
            losses["agreement"] = self.settings.agreement * loss
        return losses

    def recorded_stage(self, progress: float) -> str | None:
        """One stage, unless changes of patches are drawn, which happens on the host."""
        return None if self._agrees else super().recorded_stage(progress)

    def unmatched(self, image: Tensor, augment: Augmentation) -> Tensor:
        """Patches with random brightness and contrast, B x channels x H x W."""
        # So that the network does not rely on grey values alone.
        return augment.contrast(image, self.settings.contrast)

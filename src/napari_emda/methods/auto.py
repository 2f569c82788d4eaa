"""The default: a combination of what improved results on real pairs of volumes."""

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator
from torch import Tensor

from napari_emda.data.volume import Domain
from napari_emda.errors import SettingsError
from napari_emda.methods.agreement import Agreement, agreement_loss
from napari_emda.methods.base import Averaging, DataSummary, Postprocessing, methods
from napari_emda.methods.histogram import Histogram
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

    recommended = 1

    # Chosen on the real pairs of docs/benchmarks.md. An unannotated target takes no part in a step,
    # so a step costs 1.8 times as much as one of source_only, about as much as with other methods.
    source_batches = 2

    class Settings(Averaging, Agreement, Histogram.Settings):
        """Settings of the default."""

        renamed: ClassVar = {"shares": "prior_strength", "statistics": "target_statistics_weight"}

        # These defaults were chosen on the pairs of docs/benchmarks.md: the proportions on VNC and
        # Lucchi, contrast and statistics on the phantom.
        amounts: Literal["source", "unknown", "measured"] = Field(
            "source",
            title="amount of each class",
            description="How much of each class the target is expected to contain: as much as the "
            "source; unknown, if it may be much more or less; measured, by the check points that "
            "are answered in the project. Once patches are annotated, these decide, unless the "
            "amounts are measured.",
        )
        measured_shares: str = Field(
            "",
            title="measured shares",
            description="Fraction of the target that each class but the background takes up, for "
            "measured amounts: 0.07, or 0.07,0.02 for two classes. Left empty, the check points of "
            "the project say it.",
            json_schema_extra={"advanced": True},
        )
        prior_strength: float = Field(
            0.85,
            ge=0,
            le=1,
            title="weight of the amounts",
            description="How far the amount of each class in the target is moved towards the "
            "expected one: 1 if that is certain, 0 if nothing is known. Lower it if the target may "
            "have clearly more or less of the structure.",
            json_schema_extra={"step": 0.05},
        )
        contrast: float = Field(
            0.5,
            ge=0,
            le=1,
            title="share with changed contrast",
            description="Fraction of the patches with the source's grey values whose brightness "
            "and contrast are changed at random. Raise it if the volumes differ in contrast.",
            json_schema_extra={"step": 0.1},
        )
        target_statistics_weight: float = Field(
            0.5,
            ge=0,
            le=1,
            title="adjustment to the target",
            description="How far brightness and contrast in the network are adjusted to the "
            "target (weight of its normalisation statistics); the source's have the rest. Once "
            "patches are annotated, only the target's are used. Lower it if the target has hardly "
            "any of the structure.",
            json_schema_extra={"step": 0.1},
        )

        @field_validator("measured_shares")
        @classmethod
        def _is_shares(cls, text: str) -> str:
            _shares_in(text)
            return text

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        shares = _shares_in(settings.measured_shares)
        if shares and len(shares) != network.classes:
            raise SettingsError(
                f"measured_shares={settings.measured_shares} gives {len(shares) - 1} fractions "
                f"for the {network.classes - 1} classes beside the background: give one for each."
            )

    @property
    def postprocessing(self) -> Postprocessing:
        """Flips, z smoothing, prior matching and mixed statistics, with weights of the settings."""
        settings = self.settings
        shares = _shares_in(settings.measured_shares) if settings.amounts == "measured" else ()
        strength = 0.0 if settings.amounts == "unknown" else settings.prior_strength
        statistics = settings.target_statistics_weight
        if self.summary.annotated:
            # Annotated patches train the network with the target's statistics, so it needs only
            # these; and they show how much of each class there is, which the source cannot.
            strength = strength if shares else 0.0
            statistics = 1.0
        return Postprocessing(settings.flips, settings.z_smoothing, strength, statistics, shares)

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


def _shares_in(text: str) -> tuple[float, ...]:
    """Share of each class, background first, in a text such as ``0.07,0.02``; empty if it is."""
    if not text.strip():
        return ()
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    # Written so that NaN is refused, too.
    if not shares or not all(0 <= share < 1 for share in shares) or not sum(shares) < 1:
        raise ValueError(
            "the fraction of each class but the background, from 0 to less than 1 in all, such as "
            "0.07 or 0.07,0.02"
        )
    return (1 - sum(shares), *shares)

"""Training on the source, then on a few labels of the target."""

from typing import Any

from pydantic import Field
from torch import Tensor

from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.methods.agreement import Agreement, agreement_loss
from napari_emda.methods.base import Averaging, Method, Postprocessing, methods
from napari_emda.sampling.label_fraction import labelled_fraction
from napari_emda.sampling.patches import Batch
from napari_emda.settings.requirements import Requirements
from napari_emda.settings.training import TrainSettings


@methods.register("finetune")
class FineTune(Method):
    """Learns from your annotated target patches and the source: for retraining after annotation.

    Roels et al. 2019 (section 3): first the source, then the target's labels at a smaller
    learning rate. If training starts from another run (``--from``), the first stage is skipped;
    without a source, all steps train on the target. A weighted source loss is replayed so that
    nothing is forgotten. With ``agreement``, unlabelled patches teach it as well. Training with a
    ``fraction`` of the labels shows how many are needed.
    """

    citations = ("roels2019domain", "xie2020")
    requirements = Requirements(
        domains=("target",), optional_domains=("source",), labels="needed", annotations=True
    )
    recommended = 2

    class Settings(Averaging, Agreement):
        """Settings of fine-tuning."""

        source_stage: float = Field(
            0.6,
            ge=0,
            le=0.95,
            title="share for the source alone",
            description="Fraction of the training spent on the source alone; skipped when "
            "training starts from another run. Lower it if many patches are annotated.",
            json_schema_extra={"step": 0.05},
        )
        # Without it, the network forgets the source and overfits a few annotated patches.
        replay: float = Field(
            0.5,
            ge=0,
            le=1,
            title="weight of the source",
            description="How much the source's labels still count while training on the target. "
            "Lower it if the source looks very different; at 0 the network may forget what few "
            "patches do not show.",
            json_schema_extra={"step": 0.1},
        )
        fraction: float = Field(
            1.0,
            ge=0.01,
            le=1,
            title="share of the annotations",
            description="Fraction of the target's annotations to learn from, in 64-voxel squares "
            "chosen by the seed; a larger fraction includes all of a smaller one. Lower it only "
            "to see how many annotations are needed.",
            json_schema_extra={"step": 0.05},
        )
        # Roels et al. use a tenth.
        fine_rate: float = Field(
            0.3,
            ge=0.01,
            le=1,
            title="size of a step on the target",
            description="How far one step on the target changes the network, as a fraction of "
            "that on the source (learning rate). Lower it if few patches are annotated.",
            json_schema_extra={"step": 0.05},
        )

    @property
    def postprocessing(self) -> Postprocessing:
        """Flips and z smoothing, if the settings ask for them."""
        # No prior matching: the class proportions follow from annotations and not from the source.
        return Postprocessing(self.settings.flips, self.settings.z_smoothing)

    @classmethod
    def learns_from(cls, volume: Volume, settings: Any, training: TrainSettings) -> Volume:
        """The target with a fraction of its annotations."""
        if volume.domain == "source":
            return volume
        box = Box.parse(training.target_box, volume.shape)
        return labelled_fraction(volume, settings.fraction, box, training.seed)

    def _on_target(self, progress: float) -> bool:
        """Whether this is the second stage, which trains on the target."""
        return self.summary.continued or progress >= self.settings.source_stage

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Source loss; in the second stage target losses and a smaller source loss."""
        losses = {}
        if "source" in batch:
            losses["segmentation"] = self.segmentation(batch["source"], "source")
        if not losses or self._on_target(progress):
            losses = {name: self.settings.replay * loss for name, loss in losses.items()}
            losses["target_segmentation"] = self.segmentation(batch["target"], "target")
            if weight := self.settings.agreement:
                losses["agreement"] = weight * agreement_loss(self.network, batch["target"].clean)
        return losses

    def recorded_stage(self, progress: float) -> str | None:
        """Two stages, each with losses of its own."""
        if not self._on_target(progress):
            return "source"
        # Changes of patches are drawn on the host.
        return None if self.settings.agreement else "target"

    def learning_rate(self, progress: float, role: str = "") -> float:
        """The base schedule, scaled down in the second stage."""
        factor = self.settings.fine_rate if self._on_target(progress) else 1.0
        return factor * super().learning_rate(progress)

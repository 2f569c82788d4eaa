"""Training without adaptation: the baseline for all methods."""

from torch import Tensor

from napari_emda.methods.base import Method, methods
from napari_emda.sampling.patches import Batch


@methods.register("source_only")
class SourceOnly(Method):
    """Trains on the source alone and never uses the target: the baseline.

    Minimises the segmentation loss on labelled source patches (Roels et al. 2019, "FT" at 0 %
    target labels).
    """

    citations = ("roels2019domain",)
    recommended = 3

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Cross-entropy + Dice on the source."""
        return {"segmentation": self.segmentation(batch["source"], "source")}

    def recorded_stage(self, progress: float) -> str:
        """One stage."""
        return "source"

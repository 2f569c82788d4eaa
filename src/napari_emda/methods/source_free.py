"""Adaptation of a model without the volume that it has learnt from."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import Field
from torch import Tensor

from napari_emda.data.volume import Domain
from napari_emda.methods.agreement import CHANGES, MAGNITUDE, disagreement, predict_changed
from napari_emda.methods.base import DataSummary, Method, Postprocessing, methods
from napari_emda.methods.matching import Matching, check_shares, matching
from napari_emda.nn.histogram import HistogramMatch
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import fill_statistics
from napari_emda.nn.teacher import predict_as_teacher
from napari_emda.sampling.patches import Batch
from napari_emda.sampling.randaugment import RandAugment
from napari_emda.settings.requirements import Requirements


@methods.register("source_free")
class SourceFree(Method):
    """Adapts a model to the target without its source: for projects that start from a model.

    The model stays as it is and teaches a copy. It sees patches of the target with the grey values
    of its source; the copy sees them as they are, changed in contrast, blur and orientation, and
    shall predict the same. Normalisation statistics and class proportions are then matched to the
    source's, as in `auto`, from what the file of the model says of them.
    """

    citations = ("francobarranco2022", "xie2020", "li2017", "schneider2020")
    requirements = Requirements(domains=("target",), model="classes")
    recommended = 4

    class Settings(Matching):
        """Settings of adaptation without a source."""

        rate: float = Field(
            0.3,
            ge=0.01,
            le=1,
            title="size of a step",
            description="How far one step changes the network, as a fraction of a step of a new "
            "training (learning rate). Lower it if the result is worse than that of the model.",
            json_schema_extra={"step": 0.05},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        check_shares(settings, network)
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        # A model of an earlier version does not know the grey values of its source: none change.
        matched_domain: Domain = "source" if "source" in summary.quantiles else "target"
        self.match = HistogramMatch(
            summary.quantiles_of("target"), summary.quantiles_of(matched_domain), summary.padding
        )

    @property
    def postprocessing(self) -> Postprocessing:
        """As of `auto`."""
        return matching(self.settings, self.summary)

    def continues(self) -> None:
        """The teacher is the model from which training starts."""
        # Of a model that learnt from annotated patches alone, all that is known is their domain.
        fill_statistics(self.network, "source")
        self.teacher.load_state_dict(self.network.state_dict())

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Agreement with the teacher, and the loss of annotated patches."""
        losses = super().losses(batch, progress)
        image = batch["target"].clean
        taught = predict_as_teacher(self.teacher, self.match(image), "source")
        changed = RandAugment(CHANGES, MAGNITUDE)
        predicted, inside = predict_changed(self.network, changed, image, "target")
        losses["agreement"] = disagreement(taught, predicted, inside)
        return losses

    def learning_rate(self, progress: float, role: str = "") -> float:
        """The base schedule, scaled down: the network has learnt already."""
        return float(self.settings.rate * super().learning_rate(progress))

"""Rank patches by the disagreement of mirrored views, or of two rounds of the model."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from napari_emda.active_learning.block_outputs import BlockOutputs, mutual_information
from napari_emda.active_learning.candidates import Pool, Scores
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements


@strategies.register("disagreement")
class Disagreement(Strategy):
    """Suggests patches whose prediction changes when mirrored, or since the last round.

    Jensen-Shannon divergence of the predictions, mean over a patch, as a fraction of log C. It
    needs no dropout.
    """

    class Settings(base.Settings):
        """Settings of disagreement."""

        between: Literal["views", "rounds"] = Field(
            "views",
            title="between",
            description="What is compared: 'views' are the image and its mirror images; 'rounds' "
            "are this model and the one from which its training started.",
        )

    @property
    def required(self) -> Requirements:
        """In addition the model of the round before, if rounds are compared."""
        between_rounds = self.settings.between == "rounds"
        return self.requirements.model_copy(update={"earlier_run": between_rounds})

    def uncertainty(self, outputs: BlockOutputs) -> Tensor:
        """Relative divergence of every pixel."""
        between_rounds = self.required.earlier_run
        return mutual_information(outputs.rounds() if between_rounds else outputs.views())

    def score(self, pool: Pool) -> Scores:
        """Mean over every patch, between 0 and 1."""
        return pool.uncertainty

"""The most uncertain patches, by an ensemble of networks drawn by dropout."""

from pydantic import Field
from torch import Tensor

from napari_emda import settings as base
from napari_emda.candidates import Pool, Scores
from napari_emda.look import Look
from napari_emda.predict import entropy
from napari_emda.query import Strategy, strategies


@strategies.register("mc_entropy")
class MonteCarloEntropy(Strategy):
    """Asks for the patches of which several variants of the model, taken together, are least sure.

    Entropy of the mean of T predictions with dropout, mean over a patch, as a share of log C. Roels & Saeys 2019
    (eq. 3) call this BALD; see `bald` for what that name means elsewhere.
    """

    class Settings(base.Settings):
        """Settings of entropy by dropout."""

        samples: int = Field(
            10,
            ge=2,
            le=100,
            description="Predictions with dropout; time grows with them.",
            json_schema_extra={"step": 1},
        )

    def uncertainty(self, look: Look) -> Tensor:
        """Relative entropy of the mean prediction of every pixel."""
        total = sum(look.dropout(self.settings.samples))
        assert isinstance(total, Tensor)
        return entropy(total / self.settings.samples)

    def score(self, pool: Pool) -> Scores:
        """Mean over every patch, between 0 and 1."""
        return pool.uncertainty

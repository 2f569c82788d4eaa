"""Rank patches by the entropy of an ensemble of networks drawn by dropout."""

from torch import Tensor

from napari_emda.active_learning.block_outputs import BlockOutputs
from napari_emda.active_learning.candidates import Pool, Scores
from napari_emda.active_learning.strategy import DropoutStrategy, strategies
from napari_emda.inference.predictor import entropy


@strategies.register("mc_entropy")
class MonteCarloEntropy(DropoutStrategy):
    """Suggests the patches where variants of the model, averaged, are least certain.

    Entropy of the mean of T predictions with dropout, mean over a patch, as a fraction of log
    C. Roels & Saeys 2019 (eq. 3) call this BALD; see `bald` for the usual meaning of that name.
    """

    citations = ("roels2019cost", "gal2016")

    def uncertainty(self, outputs: BlockOutputs) -> Tensor:
        """Relative entropy of the mean prediction of every pixel."""
        total = sum(outputs.dropout(self.settings.samples))
        assert isinstance(total, Tensor)
        return entropy(total / self.settings.samples)

    def score(self, pool: Pool) -> Scores:
        """Mean over every patch, between 0 and 1."""
        return pool.uncertainty

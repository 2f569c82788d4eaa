"""Rank patches by mutual information of label and weights."""

from torch import Tensor

from napari_emda.active_learning.block_outputs import BlockOutputs, mutual_information
from napari_emda.active_learning.candidates import Pool, Scores
from napari_emda.active_learning.strategy import DropoutStrategy, strategies


@strategies.register("bald")
class Bald(DropoutStrategy):
    """Suggests patches where variants of the model disagree, though each is confident.

    Mutual information of label and weights, H[mean p] - mean H[p] over T predictions with
    dropout, mean over a patch, as a fraction of log C (Houlsby et al. 2011; Gal, Islam and
    Ghahramani 2017).
    """

    citations = ("houlsby2011", "gal2017")

    def uncertainty(self, outputs: BlockOutputs) -> Tensor:
        """Relative mutual information of every pixel."""
        return mutual_information(outputs.dropout(self.settings.samples))

    def score(self, pool: Pool) -> Scores:
        """Mean over every patch, between 0 and 1."""
        return pool.uncertainty

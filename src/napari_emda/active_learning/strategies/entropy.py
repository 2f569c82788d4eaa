"""Rank patches by the entropy of the prediction."""

from napari_emda.active_learning.candidates import Pool, Scores
from napari_emda.active_learning.strategy import Strategy, strategies


@strategies.register("entropy")
class Entropy(Strategy):
    """Suggests the patches with the highest mean uncertainty.

    Mean entropy of the class probabilities over a patch, as a fraction of log C (Roels & Saeys
    2019, eq. 1).
    """

    citations = ("roels2019cost",)
    recommended = 1

    # The prediction stores its entropy, so that ranking costs no further pass of the network.
    needs_entropy = True

    def score(self, pool: Pool) -> Scores:
        """Mean relative entropy of every patch, between 0 and 1."""
        return pool.uncertainty

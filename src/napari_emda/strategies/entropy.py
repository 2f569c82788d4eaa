"""The most uncertain patches."""

import numpy as np

from napari_emda.data.volume import Array
from napari_emda.query import Candidates, Scores, Strategy, strategies


@strategies.register("entropy")
class Entropy(Strategy):
    """Asks for the patches in which the model is least sure of its classes.

    Mean entropy of the class probabilities over a patch, as a share of log C (Roels & Saeys 2019, eq. 1).
    """

    def score(self, candidates: Candidates, uncertainty: Array | None, seed: int) -> Scores:
        """Mean relative entropy of every patch, between 0 and 1."""
        assert uncertainty is not None
        scores = np.empty(candidates.shape)
        for z in range(candidates.sections):
            scores[z] = candidates.means(uncertainty, z) / 255
        return scores

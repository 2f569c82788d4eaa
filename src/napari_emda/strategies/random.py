"""The baseline: patches drawn by lot."""

import numpy as np

from napari_emda.data.volume import Array
from napari_emda.query import Candidates, Scores, Strategy, strategies


@strategies.register("random")
class Random(Strategy):
    """Draws patches by lot: the baseline, and the way to an unbiased score."""

    needs_prediction = False

    def score(self, candidates: Candidates, uncertainty: Array | None, seed: int) -> Scores:
        """Independent uniform numbers."""
        return np.random.default_rng(seed).random(candidates.shape)

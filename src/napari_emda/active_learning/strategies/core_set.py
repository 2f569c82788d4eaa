"""Patches that cover all there is to see."""

import numpy as np

from napari_emda.active_learning.candidates import Pool, Scores, distances_to
from napari_emda.active_learning.strategy import Strategy, strategies


@strategies.register("core_set")
class CoreSet(Strategy):
    """Asks for the patches that look least like all that is annotated, one after the other.

    Greedy k-centre in the space of the network's bottleneck, from what is annotated or skipped (Sener and Savarese
    2018): no patch is farther from the chosen ones than twice the least that is possible. With nothing annotated it
    begins with the most typical patch.
    """

    needs_embeddings = True

    def score(self, pool: Pool) -> Scores:
        """Distance to the nearest patch that is annotated or picked."""
        if pool.compared:
            return pool.distances
        return -distances_to(pool.embeddings, pool.embeddings.mean(0, dtype=np.float32))

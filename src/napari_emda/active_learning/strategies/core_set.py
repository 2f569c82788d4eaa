"""Patches that cover all there is to see."""

import numpy as np

from napari_emda.active_learning.candidates import Pool, Scores, distances_to
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.settings.requirements import Requirements


@strategies.register("core_set")
class CoreSet(Strategy):
    """Suggests the patches that differ most from everything annotated so far.

    Greedy k-centre in the space of the network's bottleneck, from what is annotated or skipped (Sener and Savarese
    2018): no patch is farther from the chosen ones than twice the least that is possible. With nothing annotated it
    begins with the most typical patch.
    """

    requirements = Requirements(model="features")
    needs_embeddings = True

    def score(self, pool: Pool) -> Scores:
        """Distance to the nearest patch that is annotated or picked."""
        if pool.compared:
            return pool.distances
        return -distances_to(pool.embeddings, pool.embeddings.mean(0, dtype=np.float32))

"""Pick patches that cover the target: greedy k-centre."""

import numpy as np

from napari_emda.active_learning.candidates import Pool, Scores, distances_to
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.settings.requirements import Requirements


@strategies.register("core_set")
class CoreSet(Strategy):
    """Suggests the patches that differ most from everything annotated so far.

    Greedy k-centre in the space of the network's bottleneck features, starting from what is
    annotated or skipped (Sener and Savarese 2018). No patch is farther from the chosen ones
    than twice the possible minimum. If nothing is annotated, it starts with the most typical
    patch.
    """

    citations = ("sener2018",)
    requirements = Requirements(model="features")
    recommended = 4
    needs_embeddings = True

    def score(self, pool: Pool) -> Scores:
        """Distance to the nearest annotated or picked patch."""
        if pool.has_reference:
            return pool.distances
        # Without a reference all distances are infinite. The patch nearest to the mean of all is
        # a better start than an outlier.
        return -distances_to(pool.embeddings, pool.embeddings.mean(0, dtype=np.float32))

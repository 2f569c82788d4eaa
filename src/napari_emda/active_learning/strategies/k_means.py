"""Pick the most typical patch of each cluster."""

import numpy as np

from napari_emda.active_learning.candidates import Pool, Scores
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.settings.requirements import Requirements

# k-means is fitted to at most this many random patches, and all are then assigned. The time of a
# fit grows with patches x clusters x channels; a much smaller sample would miss rare clusters.
_SAMPLE = 20_000
# Embeddings have length 1, so no two are further apart than this.
_FARTHEST = 2.0


@strategies.register("k_means")
class KMeansCentres(Strategy):
    """Groups all patches into clusters and suggests the most typical patch of each.

    k-means in the space of the network's bottleneck features; from each cluster the patch
    nearest to its centroid (Roels & Saeys 2019, section 3.4).
    """

    citations = ("roels2019cost",)
    requirements = Requirements(model="features")
    needs_embeddings = True

    def begin(self, pool: Pool) -> None:
        """Cluster the patches that may be suggested."""
        # It takes a second to load, and most strategies do without.
        from sklearn.cluster import KMeans

        self._cluster = np.zeros(len(pool.embeddings), np.int64)
        self._distance = np.full(len(pool.embeddings), np.nan)
        candidates = np.flatnonzero(pool.open)
        if not len(candidates):
            return
        in_random_order = candidates[np.argsort(pool.tie_breaker[candidates])]
        sample = pool.embeddings[in_random_order[:_SAMPLE]]
        # More clusters than distinct points would make KMeans warn and leave some empty.
        clusters = min(pool.count, len(np.unique(sample, axis=0)))
        k_means = KMeans(clusters, n_init=1, random_state=pool.seed).fit(sample)
        distances = k_means.transform(pool.embeddings[candidates])
        self._cluster[candidates] = distances.argmin(1)
        self._distance[candidates] = distances.min(1)

    def score(self, pool: Pool) -> Scores:
        """Nearness to the centroid; first the clusters from which least has been picked."""
        picked = np.bincount(self._cluster[pool.picks], minlength=self._cluster.max() + 1)
        # Each pick moves its cluster behind every patch of the clusters with fewer picks.
        return -self._distance - _FARTHEST * picked[self._cluster]

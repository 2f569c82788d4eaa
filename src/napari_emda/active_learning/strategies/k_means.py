"""The most typical patch of each kind."""

import numpy as np
from sklearn.cluster import KMeans

from napari_emda.active_learning.candidates import Pool, Scores
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.settings.requirements import Requirements

_FITTED = 20_000
"""Clusters are found on so many patches at most, drawn by lot; all are then assigned."""


@strategies.register("k_means")
class KMeansCentres(Strategy):
    """Groups all patches into clusters and suggests the most typical patch of each.

    k-means in the space of the network's bottleneck; of each cluster the patch nearest to its centroid (Roels & Saeys
    2019, section 3.4).
    """

    requirements = Requirements(model="features")
    needs_embeddings = True

    def begin(self, pool: Pool) -> None:
        """Find the clusters among the patches that may be asked for."""
        self._cluster = np.zeros(len(pool.embeddings), np.int64)
        self._distance = np.full(len(pool.embeddings), np.nan)
        (open_,) = np.nonzero(pool.open)
        if not len(open_):
            return
        sample = pool.embeddings[open_[np.argsort(pool.tie_breaker[open_])[:_FITTED]]]
        clusters = min(pool.count, len(np.unique(sample, axis=0)))
        fitted = KMeans(clusters, n_init=1, random_state=pool.seed).fit(sample)
        distances = fitted.transform(pool.embeddings[open_])
        self._cluster[open_], self._distance[open_] = distances.argmin(1), distances.min(1)

    def score(self, pool: Pool) -> Scores:
        """Nearness to the centroid; a cluster has its turn again when all others have had theirs."""
        turns = np.bincount(self._cluster[pool.picks], minlength=self._cluster.max() + 1)
        return -self._distance - _FARTHEST * turns[self._cluster]


_FARTHEST = 2.0
"""Vectors of length 1 are no farther apart."""

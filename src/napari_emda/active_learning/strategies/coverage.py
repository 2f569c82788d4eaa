"""Pick uncertain patches that represent many other uncertain ones."""

import numpy as np
from pydantic import Field

from napari_emda.active_learning.candidates import Embeddings, Pool, Scores
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.settings import base

# Patches by which the target is represented, drawn at random. Time and memory grow with listed
# patches x references: 16 MB for a short list of 1000.
_REFERENCES = 2000
# References between which the median distance is measured: 125 000 pairs are plenty for a median.
_MEDIAN_SAMPLE = 500


@strategies.register("coverage")
class Coverage(Strategy):
    """Suggests uncertain patches that are typical of many other uncertain patches.

    From the patches with the highest entropy, several per suggested patch, it picks those that
    maximise a facility-location function greedily. Each patch of the target counts with its
    uncertainty, multiplied by its similarity to the most similar annotated or picked patch.
    Unlike the farthest-first choice of `core_set` and `hybrid`, it does not prefer outliers,
    because these resemble no other patch.
    """

    citations = ("wei2015",)
    recommended = 2

    needs_entropy = True
    needs_embeddings = True

    class Settings(base.Settings):
        """Settings of coverage."""

        # At 1 the short list is the answer, as in `entropy`; a long one admits surer patches.
        shortlist: int = Field(
            3,
            ge=1,
            le=100,
            title="choice per patch",
            description="Number of uncertain patches to choose from, per suggested patch; 1 "
            "considers uncertainty alone. Raise it if suggested patches look alike.",
            json_schema_extra={"step": 1},
        )
        # Far below, a patch represents itself alone, and only uncertainty counts; far above, the
        # first pick represents everything, and the rest of the choice is arbitrary.
        reach: float = Field(
            0.5,
            ge=0.05,
            le=5,
            title="reach of a patch",
            description="How far a patch represents others that look alike, as a fraction of the "
            "median distance between patches. Lower it to get rare sights, too.",
            json_schema_extra={"step": 0.05},
        )

    def begin(self, pool: Pool) -> None:
        """Compare the short list and the annotated patches with a sample of all patches."""
        measured = np.flatnonzero(~np.isnan(pool.uncertainty))
        references = measured[np.argsort(pool.tie_breaker[measured])[:_REFERENCES]]
        self._weights = pool.uncertainty[references]
        self._references = pool.embeddings[references]
        sample = self._references[:_MEDIAN_SAMPLE]
        median = np.median(_distances(sample, sample))
        # Where all patches are equal the median is 0, and the kernel would divide by it.
        self._width = self.settings.reach * max(float(median), 1e-6)
        self._listed = pool.shortlist(pool.uncertainty, self.settings.shortlist * pool.count)
        self._listed_similarity = self._similarity(pool.embeddings[self._listed])
        # Similarity of each reference to the most similar annotated or picked patch.
        self._covered = np.zeros(len(references))
        if len(pool.annotated):
            self._covered = self._similarity(pool.annotated).max(0)
        self._picks_covered = 0

    def score(self, pool: Pool) -> Scores:
        """Uncertainty that the patch would newly represent; below 0 off the short list."""
        for index in pool.picks[self._picks_covered :]:
            similarity = self._similarity(pool.embeddings[index : index + 1])[0]
            self._covered = np.maximum(self._covered, similarity)
        self._picks_covered = len(pool.picks)
        # Uncertainty is at most 1: these scores come last, and in its order. They are needed where
        # random picks leave too few patches of the list.
        scores = pool.uncertainty - 1
        # Gain of the facility-location function sum_r u_r max_j s_rj, for every listed patch.
        gains = np.maximum(self._listed_similarity - self._covered, 0) @ self._weights
        scores[self._listed] = gains
        return scores

    def _similarity(self, points: Embeddings) -> Scores:
        """Gaussian kernel exp(-d^2 / (2 width^2)) of points (n x D) with the references, n x m."""
        return np.exp(-np.square(_distances(points, self._references)) / (2 * self._width**2))


def _distances(points: Embeddings, references: Embeddings) -> Scores:
    """Euclidean distances of all pairs, n x m."""
    # It takes a second to load, and most strategies do without.
    from sklearn.metrics import pairwise_distances

    return pairwise_distances(points, references).astype(np.float64)

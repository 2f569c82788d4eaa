"""The patches that stand for most of what is uncertain."""

import numpy as np
from pydantic import Field
from sklearn.metrics import pairwise_distances

from napari_emda import settings as base
from napari_emda.candidates import Embeddings, Pool, Scores
from napari_emda.query import Strategy, strategies

_REFERENCES = 2000
"""What is uncertain is represented by so many patches at most, drawn by lot."""


@strategies.register("coverage")
class Coverage(Strategy):
    """Asks for uncertain patches that stand for most of what is uncertain, and that nothing annotated stands for yet.

    Of the patches with the highest entropy, several for each that is wanted, those that greedy maximisation of a
    facility-location function chooses: each patch of the target counts with its entropy, as far as the most similar
    patch that is annotated or picked is like it. Unlike the farthest-first choice of `core_set` and `hybrid` it does
    not fall for outliers: they stand for nothing but themselves.
    """

    needs_entropy = True
    needs_embeddings = True

    class Settings(base.Settings):
        """Settings of coverage."""

        reach: float = Field(
            0.5,
            ge=0.05,
            le=5,
            description="How far a patch stands for others, as a share of the median distance between patches.",
            json_schema_extra={"step": 0.05},
        )
        shortlist: int = Field(
            3,
            ge=1,
            le=100,
            description="Uncertain patches to choose from, for each that is wanted: 1 looks at uncertainty alone.",
            json_schema_extra={"step": 1},
        )

    def begin(self, pool: Pool) -> None:
        """Compare the most uncertain patches, and what is annotated, with a sample of all."""
        known = np.flatnonzero(~np.isnan(pool.uncertainty))
        references = known[np.argsort(pool.lot[known])[:_REFERENCES]]
        self._weights = pool.uncertainty[references]
        points = pool.embeddings[references]
        width = self.settings.reach * max(float(np.median(pairwise_distances(points[:500]))), 1e-6)
        self._listed = pool.shortlist(pool.uncertainty, self.settings.shortlist * pool.count)
        self._likeness = likeness(pool.embeddings[self._listed], points, width)
        self._covered = np.zeros(len(points))
        if len(pool.annotated):
            self._covered = likeness(pool.annotated, points, width).max(0)
        self._points, self._width = points, width
        self._counted = 0

    def score(self, pool: Pool) -> Scores:
        """Uncertainty that the patch would newly stand for; below 0 (by uncertainty) for what is not listed."""
        for index in pool.picks[self._counted :]:
            own = likeness(pool.embeddings[index : index + 1], self._points, self._width)[0]
            self._covered = np.maximum(self._covered, own)
        self._counted = len(pool.picks)
        scores = pool.uncertainty - 1
        scores[self._listed] = np.maximum(self._likeness - self._covered, 0) @ self._weights
        return scores


def likeness(points: Embeddings, others: Embeddings, width: float) -> Scores:
    """Gaussian kernel exp(-d^2 / (2 width^2)) of each row (n x D) with each of the others (m x D), n x m."""
    return np.exp(-np.square(pairwise_distances(points, others).astype(np.float64)) / (2 * width**2))

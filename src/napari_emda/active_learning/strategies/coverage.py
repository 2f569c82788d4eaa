"""Uncertain patches that stand for much else that is uncertain."""

import numpy as np
from pydantic import Field
from sklearn.metrics import pairwise_distances

from napari_emda.active_learning.candidates import Embeddings, Pool, Scores
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.settings import base

_REFERENCES = 2000
"""What is uncertain is represented by so many patches at most, drawn by lot."""


@strategies.register("coverage")
class Coverage(Strategy):
    """Suggests uncertain patches that are typical of many other uncertain patches.

    Of the patches of the highest entropy, several for each that is wanted, those that greedy maximisation of a
    facility-location function chooses: each patch of the target counts with its uncertainty, as far as the most similar
    patch that is annotated or picked is like it. Unlike the farthest-first choice of `core_set` and `hybrid` it does
    not fall for outliers: they stand for nothing but themselves.
    """

    needs_entropy = True
    needs_embeddings = True

    class Settings(base.Settings):
        """Settings of coverage."""

        shortlist: int = Field(
            3,
            ge=1,
            le=100,
            description="Number of uncertain patches to choose from, per suggested patch; 1 "
            "considers uncertainty alone.",
            json_schema_extra={"step": 1},
        )
        reach: float = Field(
            0.5,
            ge=0.05,
            le=5,
            description="How far a patch represents others, as a fraction of the median distance "
            "between patches.",
            json_schema_extra={"step": 0.05},
        )

    def begin(self, pool: Pool) -> None:
        """Compare the most uncertain patches, and what is annotated, with a sample of all."""
        known = np.flatnonzero(~np.isnan(pool.uncertainty))
        references = known[np.argsort(pool.tie_breaker[known])[:_REFERENCES]]
        self._weights, self._points = pool.uncertainty[references], pool.embeddings[references]
        self._width = self.settings.reach * max(
            float(np.median(pairwise_distances(self._points[:500]))), 1e-6
        )
        self._listed = pool.shortlist(pool.uncertainty, self.settings.shortlist * pool.count)
        self._likeness = self._like(pool.embeddings[self._listed])
        self._covered = np.zeros(len(references))
        if len(pool.annotated):
            self._covered = self._like(pool.annotated).max(0)
        self._counted = 0

    def score(self, pool: Pool) -> Scores:
        """Uncertainty that the patch would newly stand for; below 0 (by uncertainty) for what is not listed."""
        for index in pool.picks[self._counted :]:
            self._covered = np.maximum(
                self._covered, self._like(pool.embeddings[index : index + 1])[0]
            )
        self._counted = len(pool.picks)
        scores = pool.uncertainty - 1
        scores[self._listed] = np.maximum(self._likeness - self._covered, 0) @ self._weights
        return scores

    def _like(self, points: Embeddings) -> Scores:
        """Gaussian kernel exp(-d^2 / (2 width^2)) of each row (n x D) with each reference (m x D), n x m."""
        distances = pairwise_distances(points, self._points).astype(np.float64)
        return np.exp(-np.square(distances) / (2 * self._width**2))

"""The baseline: randomly drawn patches."""

from napari_emda.active_learning.candidates import Pool, Scores
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.settings.requirements import Requirements


@strategies.register("random")
class Random(Strategy):
    """Draws patches at random: the baseline, and the way to an unbiased score."""

    requirements = Requirements(model="none")

    recommended = 3

    def score(self, pool: Pool) -> Scores:
        """Independent uniform numbers, one for each patch."""
        return pool.tie_breaker

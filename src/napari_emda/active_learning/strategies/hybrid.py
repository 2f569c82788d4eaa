"""Pick patches by mutual information and by distance to each other."""

import numpy as np
from pydantic import Field
from torch import Tensor

from napari_emda.active_learning.block_outputs import BlockOutputs, mutual_information
from napari_emda.active_learning.candidates import Pool, Scores
from napari_emda.active_learning.strategy import DropoutStrategy, strategies


@strategies.register("hybrid")
class Hybrid(DropoutStrategy):
    """Suggests uncertain patches that differ from each other and from what is annotated.

    From the patches with the highest mutual information (as in `bald`), several per suggested
    patch, it picks by greedy k-centre (as in `core_set`): the combination that Roels & Saeys
    2019 suggest as future work.
    """

    citations = ("roels2019cost",)
    needs_embeddings = True

    class Settings(DropoutStrategy.Settings):
        """Settings of the hybrid."""

        # At 1 the short list is the answer; the longer it is, the more the choice is that of
        # `core_set`, which is no better than `random` (docs/benchmark-active-learning.md).
        shortlist: int = Field(
            5,
            ge=1,
            le=100,
            title="choice per patch",
            description="Number of uncertain patches to choose from, per suggested patch; 1 "
            "considers uncertainty alone. Raise it if suggested patches look alike.",
            json_schema_extra={"step": 1},
        )

    def uncertainty(self, outputs: BlockOutputs) -> Tensor:
        """Relative mutual information of every pixel."""
        return mutual_information(outputs.dropout(self.settings.samples))

    def begin(self, pool: Pool) -> None:
        """Put the most uncertain patches on the short list."""
        self._listed = pool.shortlist(pool.uncertainty, self.settings.shortlist * pool.count)

    def score(self, pool: Pool) -> Scores:
        """Distance to the nearest annotated or picked patch; below 0 off the short list."""
        # Uncertainty is at most 1: these scores come last, and in its order. They are needed where
        # random picks leave too few patches of the list.
        scores = pool.uncertainty - 1
        listed_scores = pool.distances if pool.has_reference else pool.uncertainty
        scores[self._listed] = listed_scores[self._listed]
        return np.where(np.isnan(pool.uncertainty), np.nan, scores)

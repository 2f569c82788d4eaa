"""Uncertain patches that differ from each other and from what is annotated."""

import numpy as np
from pydantic import Field
from torch import Tensor

from napari_emda.active_learning.block_outputs import BlockOutputs, mutual_information
from napari_emda.active_learning.candidates import Pool, Scores
from napari_emda.active_learning.strategy import DropoutStrategy, strategies


@strategies.register("hybrid")
class Hybrid(DropoutStrategy):
    """Suggests uncertain patches that differ from each other and from what is annotated.

    Of the patches with the highest mutual information (as `bald`), several for each that is wanted, those that greedy
    k-centre chooses (as `core_set`): the combination that Roels & Saeys 2019 leave to future work.
    """

    needs_embeddings = True

    class Settings(DropoutStrategy.Settings):
        """Settings of the hybrid."""

        shortlist: int = Field(
            5,
            ge=1,
            le=100,
            description="Number of uncertain patches to choose from, per suggested patch; 1 "
            "considers uncertainty alone.",
            json_schema_extra={"step": 1},
        )

    def uncertainty(self, outputs: BlockOutputs) -> Tensor:
        """Relative mutual information of every pixel."""
        return mutual_information(outputs.dropout(self.settings.samples))

    def begin(self, pool: Pool) -> None:
        """Put the most uncertain on the short list."""
        self._listed = pool.shortlist(pool.uncertainty, self.settings.shortlist * pool.count)

    def score(self, pool: Pool) -> Scores:
        """Distance to the nearest that is annotated or picked; below 0 (by uncertainty) for what is not listed."""
        scores = pool.uncertainty - 1
        listed = pool.distances if pool.compared else pool.uncertainty
        scores[self._listed] = listed[self._listed]
        return np.where(np.isnan(pool.uncertainty), np.nan, scores)

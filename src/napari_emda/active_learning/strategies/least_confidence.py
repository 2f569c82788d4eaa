"""Rank patches by the probability of the predicted class."""

from torch import Tensor

from napari_emda.active_learning.block_outputs import BlockOutputs
from napari_emda.active_learning.candidates import Pool, Scores
from napari_emda.active_learning.strategy import Strategy, strategies


@strategies.register("least_confidence")
class LeastConfidence(Strategy):
    """Suggests the patches with the lowest confidence in the predicted class.

    One minus the probability of the most probable class, mean over a patch (Roels & Saeys 2019,
    eq. 2), as a fraction of its maximum 1 - 1 / C.
    """

    citations = ("roels2019cost",)

    def uncertainty(self, outputs: BlockOutputs) -> Tensor:
        """Relative lack of confidence of every pixel."""
        return lack_of_confidence(outputs.probabilities)

    def score(self, pool: Pool) -> Scores:
        """Mean over every patch, between 0 and 1."""
        return pool.uncertainty


def lack_of_confidence(probabilities: Tensor) -> Tensor:
    """Compute (1 - max_c p_c) / (1 - 1 / C).

    Args:
        probabilities: B x C x H x W.

    Returns:
        B x H x W between 0 (sure) and 1 (all classes equally probable).
    """
    return (1 - probabilities.amax(1)) / (1 - 1 / probabilities.shape[1])

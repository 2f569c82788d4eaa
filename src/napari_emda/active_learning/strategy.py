"""The interface of a strategy: one score for each candidate patch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from napari_emda.active_learning.block_outputs import BlockOutputs
from napari_emda.active_learning.candidates import Pool, Scores
from napari_emda.registry import Registry
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements


class Strategy(ABC):
    """Base of all strategies: settings and `score`.

    The first line of the docstring describes the strategy in the dock. A strategy declares what it
    needs and finds it in the `Pool`. One that measures uncertainty pixel by pixel overrides
    `uncertainty`, or takes the entropy of the prediction (``needs_entropy``). One that compares
    patches sets ``needs_embeddings``.

    Args:
        settings: of the class's own ``Settings``.
    """

    name: ClassVar[str]
    requirements: ClassVar[Requirements] = Requirements(model="classes")
    """Which model it asks, if any."""
    citations: ClassVar[tuple[str, ...]] = ()
    """What it implements: keys of ``reporting/references.bib``, or whole entries of BibTeX."""
    recommended: ClassVar[int] = 0
    """Place among the strategies that the dock offers first, from 1; 0 for the others."""
    needs_entropy: ClassVar[bool] = False
    """Whether it ranks by the entropy that a prediction leaves on disk."""
    needs_embeddings: ClassVar[bool] = False
    """Whether it compares patches by the network's bottleneck."""

    class Settings(base.Settings):
        """Settings of the strategy; none here."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    def required(self) -> Requirements:
        """What it needs with these settings."""
        return self.requirements

    @property
    def measures(self) -> bool:
        """Whether it overrides `uncertainty`, so that the network must be run once more."""
        return type(self).uncertainty is not Strategy.uncertainty

    def uncertainty(self, outputs: BlockOutputs) -> Tensor | None:
        """Measure the uncertainty of every pixel of a block.

        Returns:
            B x H x W between 0 and 1; None for a strategy without.
        """
        return None

    def begin(self, pool: Pool) -> None:
        """Prepare before the first score, for example by clustering the candidates."""
        return

    @abstractmethod
    def score(self, pool: Pool) -> Scores:
        """Score every candidate; the highest is picked first.

        Called before every pick, so that a score may depend on ``pool.picks`` and
        ``pool.distances``.

        Returns:
            n finite numbers; a candidate with NaN is never picked.
        """


class DropoutStrategy(Strategy):
    """Base of strategies that compare networks drawn by dropout."""

    requirements = Requirements(model="classes", dropout=True)

    class Settings(base.Settings):
        """How many networks are drawn."""

        # Roels & Saeys 2019 do not state T. Ten take eight times as long as `entropy`
        # (docs/benchmark-active-learning.md); with fewer, chance decides more of the ranking.
        samples: int = Field(
            10,
            ge=2,
            le=100,
            title="repetitions",
            description="Number of predictions with dropout; time grows with it. Raise it if the "
            "ranking changes from time to time.",
            json_schema_extra={"step": 1},
        )


strategies: Registry[type[Strategy]] = Registry(
    "strategy", "napari_emda.active_learning.strategies", "napari_emda.strategies", Strategy
)

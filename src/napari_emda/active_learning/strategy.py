"""What a strategy is: one score for each candidate patch."""

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
    """Base of all strategies: its settings plus `score`. The docstring's first line is its sentence in the dock.

    What it needs it declares, and finds it in the `Pool`: one that measures uncertainty pixel by pixel says how in
    `uncertainty` (or takes the prediction's entropy, ``needs_entropy``), one that compares patches sets
    ``needs_embeddings``.

    Args:
        settings: of the class's own ``Settings``.
    """

    name: ClassVar[str]
    requirements: ClassVar[Requirements] = Requirements(model="classes")
    """Which model it asks, if any."""
    needs_entropy: ClassVar[bool] = False
    """Whether the entropy that a prediction leaves on disk is its uncertainty."""
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
        """Whether it measures an `uncertainty` of its own."""
        return type(self).uncertainty is not Strategy.uncertainty

    def uncertainty(self, outputs: BlockOutputs) -> Tensor | None:
        """Uncertainty of every pixel of a block, B x H x W between 0 and 1; None for a strategy without."""
        return None

    def begin(self, pool: Pool) -> None:
        """Called once, before the first score."""
        return

    @abstractmethod
    def score(self, pool: Pool) -> Scores:
        """One finite score a candidate (n), the higher the sooner; NaN is never picked.

        Called before every pick, so that a score may depend on ``pool.picks`` and ``pool.distances``.
        """


class DropoutStrategy(Strategy):
    """Base of strategies that ask networks drawn by dropout."""

    requirements = Requirements(model="classes", dropout=True)

    class Settings(base.Settings):
        """How many networks are drawn."""

        samples: int = Field(
            10,
            ge=2,
            le=100,
            description="Predictions with dropout; time grows with them.",
            json_schema_extra={"step": 1},
        )


strategies: Registry[type[Strategy]] = Registry(
    "strategy", "napari_emda.active_learning.strategies", "napari_emda.strategies", Strategy
)

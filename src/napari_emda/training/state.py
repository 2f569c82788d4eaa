"""The bookkeeping of a training, which travels in its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from napari_emda.inference import checkpoint
from napari_emda.settings.training import TrainSettings


class TrainingState(BaseModel):
    """What a training must know to go on, and what it found out about its models.

    Attributes:
        settings: that it follows.
        validations: label-free scores on the target by step, so far.
        scores: those of the model in the same file; empty where it was not validated.
        losses: means of the ``supervised`` loss and of the ``total`` over the steps up to each
            validation, since the one before, by step; empty for methods that learn from labels
            alone.
        pending: sums of the same since the last validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: TrainSettings
    validations: dict[int, dict[str, float]] = {}
    scores: dict[str, float] = {}
    losses: dict[int, dict[str, float]] = {}
    pending: dict[str, float] = {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a checkpoint; JobError when it is damaged or newer than this program."""
        return checkpoint.read_part(path, "training", cls)

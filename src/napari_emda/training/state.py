"""What a checkpoint stores of a training beside weights and moments."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from napari_emda.inference import checkpoint
from napari_emda.settings.training import TrainSettings


class TrainingState(BaseModel):
    """What a training needs to continue, and the scores of its models so far.

    Attributes:
        settings: of the training.
        validations: label-free scores on the target by step.
        scores: of the model in the same file; empty if it was not validated.
        losses: by step of each validation, means of the ``supervised`` loss and of the ``total``
            over the steps since the validation before; empty for methods that use labels only.
        pending: sums of the same losses since the last validation.
        in_haste: whether the training was stopped there, so that less was measured than belongs to
            a checkpoint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: TrainSettings
    validations: dict[int, dict[str, float]] = {}
    scores: dict[str, float] = {}
    losses: dict[int, dict[str, float]] = {}
    pending: dict[str, float] = {}
    in_haste: bool = False

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read from a checkpoint; JobError if that is damaged or newer than this version."""
        return checkpoint.read_part(path, "training", cls)

"""How far a training is, read from its checkpoint without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_emda.io.tensor_file import read_tensor_header
from napari_emda.io.unchanged import while_unchanged
from napari_emda.json_text import parse_json


@dataclass(frozen=True)
class RunState:
    """Steps done and asked for; both 0 for a checkpoint that cannot be read.

    Attributes:
        step: optimiser steps that the checkpoint has done.
        steps: that the training was to do.
    """

    step: int = 0
    steps: int = 0


@while_unchanged
def state_of(checkpoint: Path) -> RunState:
    """The state of the training in a checkpoint; zeros if there is none or it is damaged."""
    try:
        values = parse_json(read_tensor_header(checkpoint).metadata["napari_emda"])
        # Before format 3, model and training were one.
        model = values.get("model", values)
        training = values.get("training", values)
        return RunState(int(model["step"]), int(training["settings"]["steps"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return RunState()

"""How far a training is, read from its checkpoint without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_emda.io.unchanged import while_unchanged

# A safetensors file begins with the length of its header, eight bytes, little-endian. The header
# is JSON and names each tensor: thousands of them take less than this.
_LENGTH = 8
_LONGEST_HEADER = 2**25


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
        values = json.loads(_header(checkpoint)["__metadata__"]["napari_emda"])
        # Before format 3, model and training were one.
        model = values.get("model", values)
        training = values.get("training", values)
        return RunState(int(model["step"]), int(training["settings"]["steps"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return RunState()


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        # A damaged file would ask for any amount of memory.
        if length > _LONGEST_HEADER:
            raise ValueError
        header: dict[str, Any] = json.loads(file.read(length))
    return header

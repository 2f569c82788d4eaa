"""A region: a patch that was suggested, drawn or annotated, and the decision on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from napari_emda.data.box import Box
from napari_emda.data.names import FileName, OptionalFileName
from napari_emda.errors import DataError

State = Literal["suggested", "accepted", "partial", "skipped", "unsure", "replaced"]
"""What the user decided.

``accepted``: all of it is annotated; ``partial``: the painted voxels alone; ``unsure``: the user
could not decide; ``replaced``: there was no decision before the next suggestions, or it was taken
back; such a patch may be suggested again.
"""
Confusion = tuple[tuple[int, ...], ...]
"""Voxels by annotated class (rows) and predicted class (columns), background first."""

# Origins of regions that no strategy has suggested; they stand in the field `Region.strategy`.
AUDIT = "audit"
"""Drawn at random, to measure the model."""
OWN = "own"
"""Drawn by the user."""
IMPORTED = "imported"
"""Read from a label image."""
OBJECT = "object"
"""Taught by a decision on an object."""
CHECKED = "check points"
"""Single voxels that check points were answered for."""
# On these, a score is an unbiased estimate of the score on the whole volume.
RANDOMLY_DRAWN = (AUDIT, "random")
ANNOTATED: tuple[State, ...] = ("accepted", "partial")
"""States of regions that training learns from."""


# z0:z1,y0:y1,x0:x1. No axis of any volume needs more than ten digits (`io.read.LARGEST_AXIS`).
_BOX = re.compile(",".join(["([0-9]{1,10}):([0-9]{1,10})"] * 3))


class Region(BaseModel):
    """A patch of a volume.

    Attributes:
        id: unique in its project.
        volume: name of the volume.
        box: z0:z1,y0:y1,x0:x1 in voxels.
        state: what the user decided.
        score: by the strategy; the highest comes first.
        strategy: the strategy that suggested it, or `AUDIT`, `OWN`, `IMPORTED`, `OBJECT`,
            `CHECKED`.
        run: the run that was asked, and whose prediction is compared with the annotation.
        round: counts from 1.
        time: of the last change, in seconds since 1970.
        seconds: how long the user worked on it.
        changed: voxels in which the annotation differs from the prediction (from background if
            there was none).
        confusion: the annotation against the prediction of ``run``, which had not been trained on
            it; empty without a prediction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: FileName
    volume: FileName
    box: str
    state: State = "suggested"
    score: float = 0.0
    strategy: str = ""
    run: OptionalFileName = ""
    round: int = 0
    time: float = 0.0
    seconds: float = 0.0
    changed: int = 0
    confusion: Confusion = ()

    @field_validator("box")
    @classmethod
    def _is_box(cls, text: str) -> str:
        match = _BOX.fullmatch(text)
        low_high = [int(bound) for bound in match.groups()] if match else []
        if not match or any(a >= b for a, b in zip(low_high[::2], low_high[1::2], strict=True)):
            raise ValueError("It is not a box")
        return text

    def lies_in(self, shape: Sequence[int]) -> bool:
        """Whether the box lies in a volume of this shape (z, y, x)."""
        return all(stop <= side for stop, side in zip(self.voxels.stop, shape, strict=True))

    @property
    def voxels(self) -> Box:
        """The box as numbers."""
        bounds = [int(bound) for axis in self.box.split(",") for bound in axis.split(":")]
        return Box.from_bounds(bounds)

    @property
    def decided(self) -> bool:
        """Whether the user has seen all of it, so that it need not be suggested again."""
        # Of the voxels in the box that are not labelled, nobody knows which were looked at:
        # imported labels span the whole volume, and those of an object the box around it.
        if not self.is_patch and self.state == "partial":
            return False
        return self.state not in ("suggested", "replaced")

    @property
    def is_patch(self) -> bool:
        """Whether it is a patch that a person goes to, and not the box of other labels."""
        return self.strategy not in (IMPORTED, OBJECT, CHECKED)

    @property
    def annotated(self) -> bool:
        """Whether training learns from it."""
        return self.state in ANNOTATED


def outside(region: Region) -> DataError:
    """The error for a region that does not lie in its volume."""
    return DataError(
        f"The patch {region.box} does not lie in '{region.volume}': put the image back that it was "
        "suggested for."
    )

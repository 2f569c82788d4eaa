"""A region: a patch that was suggested, drawn or annotated, and what was decided on it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from napari_emda.data.box import Box

State = Literal["suggested", "accepted", "partial", "skipped", "unsure", "replaced"]
"""``unsure``: the user looked and could not tell; ``replaced``: nobody decided on it before the next suggestions came,
or it was taken back; it may be suggested again."""
Confusion = tuple[tuple[int, ...], ...]
"""Voxels by annotated class (rows) and predicted class (columns), background first."""

AUDIT, OWN, IMPORTED = "audit", "own", "imported"
"""Where regions come from that no strategy has suggested: drawn by lot to measure the model, by the user, by a file."""
RANDOMLY_DRAWN = (AUDIT, "random")
ANNOTATED: tuple[State, ...] = ("accepted", "partial")


class Region(BaseModel):
    """A patch of a volume.

    Attributes:
        id: unique in its project.
        volume: its name.
        box: z0:z1,y0:y1,x0:x1 in voxels.
        state: what the user decided.
        score: of the strategy, the higher the sooner.
        strategy: what suggested it, or `AUDIT`, `OWN`, `IMPORTED`.
        run: the run whose model was asked, and whose prediction is compared with what the user drew.
        round: counts from 1.
        time: of the last change, in seconds since 1970.
        seconds: how long the user worked on it.
        changed: voxels in which the user's answer differs from the model's (from background, where there was none).
        confusion: the user's answer against the model's before it saw the patch; empty without a prediction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    volume: str
    box: str
    state: State = "suggested"
    score: float = 0.0
    strategy: str = ""
    run: str = ""
    round: int = 0
    time: float = 0.0
    seconds: float = 0.0
    changed: int = 0
    confusion: Confusion = ()

    @property
    def voxels(self) -> Box:
        """The box as numbers."""
        bounds = [int(v) for part in self.box.split(",") for v in part.split(":")]
        return Box.from_bounds(bounds)

    @property
    def decided(self) -> bool:
        """Whether all of it was seen to; of imported labels that leave voxels open it is not known which were."""
        open_states = (
            "suggested",
            "replaced",
            *(("partial",) if self.strategy == IMPORTED else ()),
        )
        return self.state not in open_states

    @property
    def annotated(self) -> bool:
        """Whether it holds annotations that training learns from."""
        return self.state in ANNOTATED

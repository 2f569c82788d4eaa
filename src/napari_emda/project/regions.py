"""Regions: patches that were suggested, drawn or annotated, and the file that remembers their states."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_emda.data.box import Box
from napari_emda.io.atomic import append_line

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


class RegionLog:
    """``regions.jsonl``: one line per change of a region, only ever added to; the last line of a region counts.

    Args:
        path: of the file; made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Region]:
        """All regions in their latest state, in the order in which they were first suggested."""
        text = self._path.read_text("utf-8", "replace") if self._path.exists() else ""
        latest: dict[str, Region] = {}
        for line in text.splitlines():
            try:
                region = Region.model_validate_json(line)
            except ValidationError:
                continue  # the last line of a computer that lost power while it was written
            latest[region.id] = region
        return list(latest.values())

    def add(self, region: Region) -> Region:
        """Append a region's new state, on disk when this returns."""
        region = region.model_copy(update={"time": time.time()})
        append_line(self._path, region.model_dump_json())
        return region


def latest_round(regions: Sequence[Region]) -> int:
    """Number of the latest round, 0 before the first."""
    return max((region.round for region in regions), default=0)

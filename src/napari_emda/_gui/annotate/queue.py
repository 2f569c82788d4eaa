"""The order in which patches are annotated: plain functions of their list."""

from __future__ import annotations

from collections.abc import Sequence

from napari_emda.project.region import Region, State
from napari_emda.project.regions import latest_round

# The state of patches that are not decided yet.
OPEN: State = "suggested"


def queue_of(regions: Sequence[Region]) -> list[Region]:
    """The patches of the latest round, without imported labels and replaced patches."""
    # Earlier rounds are not asked again; their patches stay visible as rectangles.
    latest = latest_round(regions)
    return [
        region
        for region in regions
        if region.round == latest and region.is_patch and region.state != "replaced"
    ]


def index_of(queue: Sequence[Region], region: str | None) -> int | None:
    """The index of the patch with that id; None if it is not in the queue."""
    return next((index for index, other in enumerate(queue) if other.id == region), None)


def next_open(queue: Sequence[Region], start: int) -> Region | None:
    """The first open patch from an index on, wrapping around; None if all are decided."""
    order = [*queue[start:], *queue[:start]]
    return next((region for region in order if region.state == OPEN), None)

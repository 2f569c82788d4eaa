"""What counts as foreground and as an object."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_emda.settings.base import Settings

# Declared once, for the exports, the scores, the jobs and the dock's spin boxes.
Threshold = Annotated[
    float,
    Field(
        gt=0,
        lt=1,
        description="Probability from which a voxel counts as foreground. With several classes it is "
        "that of the most probable one against background alone; at 0.5 the most probable class wins.",
        json_schema_extra={"step": 0.05},
    ),
]
MinimumSize = Annotated[
    int,
    Field(
        ge=0,
        le=2**31 - 1,
        description="Objects with fewer voxels are dropped.",
        json_schema_extra={"step": 100},
    ),
]


class ObjectSettings(Settings):
    """What counts as an object."""

    threshold: Threshold = 0.5
    minimum_size: MinimumSize = 0
    connectivity: Literal[1, 2, 3] = Field(
        1,
        description="Voxels are connected if they share a face (1), an edge (2) or a corner (3).",
        json_schema_extra={"advanced": True},
    )

"""Which voxels count as foreground, and which of them as an object."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_emda.settings.base import MOST_INT32, Settings

# Declared once, for the exports, the scores, the jobs and the dock's spin boxes. 0 and 1 are no
# thresholds: they would make everything or nothing foreground.
Threshold = Annotated[
    float,
    Field(
        gt=0,
        lt=1,
        description="Probability from which a voxel counts as foreground. With several classes, "
        "that of the most probable one is compared with background alone; at 0.5 the most probable "
        "class wins.",
        json_schema_extra={"step": 0.05},
    ),
]
MinimumSize = Annotated[
    int,
    Field(
        ge=0,
        le=MOST_INT32,
        description="Objects with fewer voxels are dropped.",
        json_schema_extra={"step": 100},
    ),
]


class ObjectSettings(Settings):
    """Which voxels form an object."""

    threshold: Threshold = 0.5
    minimum_size: MinimumSize = 0
    # As in scikit-image. With 1, the default, objects that only touch at a corner stay apart.
    connectivity: Literal[1, 2, 3] = Field(
        1,
        description="Voxels are connected if they share a face (1), an edge (2) or a corner (3).",
        json_schema_extra={"advanced": True},
    )

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

Separate = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="Objects that touch are separated where their neck is narrower than this share "
        "of the narrower part; 0 separates none. Round objects, such as nuclei, want about 0.8, "
        "long ones with constrictions, such as mitochondria, 0.5 to 0.7.",
        json_schema_extra={"step": 0.05},
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


class SeparationSettings(ObjectSettings):
    """Which voxels form an object, and where touching objects are separated."""

    separate: Separate = 0.0

"""Which patches to suggest for annotation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_emda.settings.base import ADVANCED, MOST_INT32, Settings, advanced

SMALLEST_PATCH = 16
"""Pixels: smaller ones show nothing that could be recognised."""


class QuerySettings(Settings):
    """Which patches to suggest for annotation."""

    strategy: str = Field("entropy", description="How candidate patches are ranked.")
    # As in docs/benchmark-active-learning.md. With many more, most are ranked by a model that has
    # not seen the annotations of the first.
    count: int = Field(
        5, ge=1, le=1000, description="How many patches to suggest.", json_schema_extra={"step": 1}
    )
    patch: int = Field(
        128,
        ge=SMALLEST_PATCH,
        le=2048,
        description="Side of a suggested patch, in pixels of the target.",
        json_schema_extra={"step": 16, "unit": "pixels"},
    )
    box: str = Field(
        "",
        title="part of the target",
        description="Part of the target to choose from: z0:z1,y0:y1,x0:x1 in voxels; empty means "
        "all of it. Use it to annotate one region first.",
        json_schema_extra=ADVANCED,
    )
    # Neighbouring sections look alike, and a second patch at the same place adds little. Ten
    # sections were no better than three (docs/benchmark-active-learning.md).
    section_distance: int = Field(
        3,
        ge=0,
        le=1000,
        title="sections between",
        description="Minimum number of sections between suggestions at the same place. Raise it "
        "if suggested patches look alike.",
        json_schema_extra=advanced(1),
    )
    random_share: float = Field(
        0,
        ge=0,
        le=1,
        title="share of random patches",
        description="Fraction of the patches that are drawn at random instead, to see how good "
        "the model is in the whole volume.",
        json_schema_extra=advanced(0.1),
    )
    # At 512 bottleneck channels the embeddings of this many patches take half a gigabyte.
    positions: int = Field(
        120_000,
        ge=100,
        le=10_000_000,
        title="patches to rank",
        description="Maximum number of candidate patches; of larger volumes, a sample from all "
        "sections is ranked.",
        json_schema_extra=advanced(10_000),
    )
    # Two cores took 180 CPU seconds for 64 million (docs/benchmark-scale.md). With these, the
    # volume of Lucchi et al. 2012 (165 x 768 x 1024) is ranked as a whole.
    voxels: int = Field(
        130,
        ge=1,
        le=1_000_000,
        title="million voxels",
        description="Maximum number of voxels in which the network looks for patches, in millions, "
        "at its own pixel size. In larger volumes, it looks at squares that are spread evenly over "
        "all sections. Choose fewer if suggesting takes too long.",
        json_schema_extra=advanced(10),
    )
    seed: int = Field(
        0,
        ge=0,
        le=MOST_INT32,
        title="random seed",
        description="Starts all random choices; another number may suggest other patches.",
        json_schema_extra=advanced(1),
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto",
        title="compute on",
        description="Where to compute; 'auto' uses a GPU if there is one.",
        json_schema_extra=ADVANCED,
    )

    @property
    def random_count(self) -> int:
        """How many patches are drawn at random; at least one if ``random_share`` is above 0."""
        # A share of 0.1 of five patches would round to none.
        return max(round(self.random_share * self.count), int(self.random_share > 0))

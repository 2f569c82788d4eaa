"""How a volume is predicted, block by block."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from napari_emda.settings.base import ADVANCED, Settings, advanced


class PredictSettings(Settings):
    """How a volume is predicted, block by block."""

    renamed: ClassVar = {"neighbours": "z_smoothing"}

    uncertainty: bool = Field(
        True, description="Also write the uncertainty of the prediction (its entropy)."
    )
    flips: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Average the predictions of four flipped copies: a little better, four times "
        "slower; 'auto' does so for methods that ask for it.",
    )
    z_smoothing: bool = Field(
        True,
        description="Average each section's prediction with those of its neighbours, if the "
        "method asks for it.",
        json_schema_extra=ADVANCED,
    )
    # At 32 base channels, 8192 x 8192 pixels take 64 GiB, the largest value of `memory`.
    block: int = Field(
        0,
        ge=0,
        le=8192,
        description="Side of a block without the margin that the network sees around it, in "
        "pixels of the network's pixel size. Blocks of 512 voxels or more end where the chunks of "
        "the stored prediction do. 0 chooses the fastest blocks that fit into the memory budget.",
        json_schema_extra=advanced(64, "pixels"),
    )
    memory: float = Field(
        1.0,
        ge=0.05,
        le=64,
        description="Memory for computing one block, in GiB.",
        json_schema_extra=advanced(0.25, "GiB"),
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to compute.", json_schema_extra=ADVANCED
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "auto", description="Number format.", json_schema_extra=ADVANCED
    )

"""How a volume is predicted, block by block."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from napari_emda.settings.base import ADVANCED, Settings, advanced


class PredictSettings(Settings):
    """How a volume is predicted, block by block."""

    renamed: ClassVar = {"neighbours": "z_smoothing"}

    uncertainty: bool = Field(
        True,
        title="also the uncertainty",
        description="Also store how unsure the model is at each voxel (its entropy). Turn it "
        "off to save disk space.",
    )
    flips: Literal["auto", "on", "off"] = Field(
        "auto",
        title="average over flips",
        description="Average the predictions of four flipped copies: a little better, four times "
        "slower; 'auto' does so for methods that ask for it.",
    )
    z_smoothing: bool = Field(
        True,
        title="average over sections",
        description="Average each section's prediction with those of its neighbours, if the "
        "method asks for it. Turn it off if sections are not aligned.",
        json_schema_extra=ADVANCED,
    )
    # At 32 base channels, 8192 x 8192 pixels take 64 GiB, the largest value of `memory`.
    block: int = Field(
        0,
        ge=0,
        le=8192,
        title="side of a block",
        description="Side of a block without the margin that the network sees around it, in "
        "pixels of the network's pixel size. Blocks of 512 voxels or more end where the chunks of "
        "the stored prediction do. 0 chooses the fastest blocks that fit into the memory budget.",
        json_schema_extra=advanced(64, "pixels"),
    )
    memory: float = Field(
        1.0,
        ge=0.05,
        le=64,
        title="memory for a block",
        description="Memory for computing one block, in GiB. Lower it if the computer runs out of "
        "memory.",
        json_schema_extra=advanced(0.25, "GiB"),
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto",
        title="compute on",
        description="Where to compute; 'auto' uses a GPU if there is one.",
        json_schema_extra=ADVANCED,
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "auto",
        title="precision of numbers",
        description="Number format; 'auto' uses bfloat16 where it is faster: on most GPUs, "
        "processors with matrix units (AMX), and AMD's with AVX-512.",
        json_schema_extra=ADVANCED,
    )
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        title="compute with",
        description="Program that computes the network on a processor; 'auto' uses OpenVINO for "
        "large volumes if it is installed (napari-emda[openvino]), faster here, and finds the "
        "same as torch but for 0.2 % of the voxels of a block.",
        json_schema_extra=ADVANCED,
    )

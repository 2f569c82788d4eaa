"""How long and on what a network is trained, whichever the method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from napari_emda.errors import SettingsError
from napari_emda.registry import did_you_mean
from napari_emda.settings.base import ADVANCED, Settings, advanced

Profile = Literal["test", "fast", "standard"]


LOSSES = ("supervised", "total")
"""By what of the losses a model may be kept."""

_OF_THE_UNET = {
    "base": "base_channels",
    "base_channels": "base_channels",
    "levels": "depth",
    "depth": "depth",
    "dropout": "dropout",
    "attention": "attention",
}
"""Today's name by name, of the U-Net's settings that stood among those of every training while there
was no other network."""


def split_network(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings as files of the first version hold them: those of the training, and of its U-Net."""
    network = {_OF_THE_UNET[key]: value for key, value in values.items() if key in _OF_THE_UNET}
    return {key: value for key, value in values.items() if key not in _OF_THE_UNET}, network


class TrainSettings(Settings):
    """How a network is trained, whichever the method."""

    steps: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Optimiser steps; each uses one batch of patches per domain.",
        json_schema_extra={"step": 100},
    )
    profile: Profile = Field(
        "fast",
        description="Trades quality for speed: 'fast' suits a laptop, 'standard' a GPU; 'test' is "
        "only for trying things out. Sets the size of network and patches.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="Seed of all random choices; runs with the same seed draw the same patches.",
        json_schema_extra=advanced(1),
    )
    patch: int = Field(
        128,
        ge=32,
        le=1024,
        multiple_of=32,
        description="Side of a training patch, in pixels of the common pixel size.",
        json_schema_extra=advanced(32, "pixels"),
    )
    batch: int = Field(
        8,
        ge=1,
        le=256,
        description="Patches per domain in one step.",
        json_schema_extra=advanced(1),
    )
    network: str = Field(
        "unet",
        description="The network that is trained; its own settings depend on it.",
        json_schema_extra=ADVANCED,
    )
    learning_rate: float = Field(
        1e-3,
        ge=1e-6,
        le=0.1,
        description="Learning rate of AdamW; it falls along a cosine to a hundredth of this.",
        json_schema_extra=advanced(1e-4),
    )
    weight_decay: float = Field(
        1e-4, ge=0, le=0.1, description="Weight decay of AdamW.", json_schema_extra=advanced(1e-4)
    )
    augmentation: Literal["none", "weak", "strong"] = Field(
        "strong",
        description="'weak': flips and quarter turns; 'strong': also scale, rotation, contrast, "
        "gamma, blur and noise.",
        json_schema_extra=ADVANCED,
    )
    pixel_size: float = Field(
        0,
        ge=0,
        le=1e6,
        description="In-plane pixel size at which the network works, in the volumes' unit (nm); 0 "
        "uses that of the coarsest volume.",
        json_schema_extra=advanced(1, "nm"),
    )
    source_box: str = Field(
        "",
        description="Part of the source to train on: z0:z1,y0:y1,x0:x1 in voxels; empty means all "
        "of it.",
        json_schema_extra=ADVANCED,
    )
    target_box: str = Field(
        "",
        description="Part of the target to adapt to: z0:z1,y0:y1,x0:x1 in voxels; empty means all "
        "of it.",
        json_schema_extra=ADVANCED,
    )
    target_statistics: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Measure the network's normalisation statistics on the target at every "
        "checkpoint (AdaBN); 'auto' does so for methods that use the target.",
        json_schema_extra=ADVANCED,
    )
    validations: int = Field(
        20,
        ge=0,
        le=1000,
        description="Number of validations without labels on the target, from which the model to "
        "keep is chosen. Short trainings validate less often, so that it takes at most a tenth of "
        "the time. 0 turns validation off.",
        json_schema_extra=advanced(5),
    )
    keep: Literal["last", "best", "average", "supervised", "total"] = Field(
        "average",
        description="The model to use afterwards: 'last' is that of the last step, 'best' the one "
        "with the best label-free score in the last third of the steps, 'average' the mean of the "
        "best three there. For methods that also learn from unlabelled data, 'supervised' and "
        "'total' choose the model with the lowest supervised or total loss in the second half.",
        json_schema_extra=ADVANCED,
    )
    checkpoints_kept: int = Field(
        3,
        ge=1,
        le=1000,
        description="How many of the best models are kept in the run's folder; choose one with "
        "--checkpoint.",
        json_schema_extra=advanced(1),
    )
    stop_when_flat: int = Field(
        0,
        ge=0,
        le=1000,
        description="Stop after this many validations without improvement in the second half of "
        "the training; 0 never stops early. Use keep=average with it, because the learning rate "
        "is still high at that point.",
        json_schema_extra=advanced(1),
    )
    save_every: int = Field(
        200,
        ge=1,
        le=100_000,
        description="Steps between checkpoints; a crash loses at most this many.",
        json_schema_extra=advanced(50),
    )
    report_every: int = Field(
        10,
        ge=1,
        le=1000,
        description="Steps between points of the loss curve.",
        json_schema_extra=advanced(5),
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto",
        description="Where to compute; 'auto' uses a GPU if there is one.",
        json_schema_extra=ADVANCED,
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "auto",
        description="Number format; 'auto' uses bfloat16 where the processor supports it.",
        json_schema_extra=ADVANCED,
    )

    @classmethod
    def for_profile(cls, profile: str, **values: Any) -> TrainSettings:
        """The profile's settings with ``values`` on top; SettingsError as `parse`."""
        if profile not in PROFILES:
            raise SettingsError(
                f"There is no profile '{profile}'. {did_you_mean(profile, PROFILES)}"
            )
        return cls.parse({**PROFILES[profile], **values, "profile": profile})


# What a profile means for a network, the network says: `nn.network.Network.profiles`.
# Strong augmentation pays in long trainings; within a thousand steps it cost 0.03 to 0.08 IoU on the phantom and on
# VNC -> Lucchi (docs/benchmarks.md), and larger learning rates paid.
PROFILES: dict[str, dict[str, Any]] = {
    "test": {
        "steps": 250,
        "patch": 64,
        "save_every": 50,
        "augmentation": "weak",
    },
    "fast": {
        "steps": 1000,
        "patch": 128,
        "augmentation": "weak",
        "learning_rate": 3e-3,
    },
    "standard": {"steps": 10_000, "patch": 256, "save_every": 500},
}

"""How a network is trained: settings that all methods share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from napari_emda.errors import SettingsError
from napari_emda.registry import did_you_mean
from napari_emda.settings.base import ADVANCED, MOST_INT32, Settings, advanced

Profile = Literal["test", "fast", "standard"]

MOST_CONTEXT = 5
"""Largest value of ``context``: eleven sections are read for each patch."""

LOSSES = ("supervised", "total")
"""Values of ``keep`` that choose a model by a loss."""

# The first version knew the U-Net alone, and its settings stood among those of the training. They
# are listed by old and by new name.
_UNET_NAMES = {
    "base": "base_channels",
    "base_channels": "base_channels",
    "levels": "depth",
    "depth": "depth",
    "dropout": "dropout",
    "attention": "attention",
}


def split_network(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the settings in a file of the first version into those of training and U-Net."""
    network = {_UNET_NAMES[key]: value for key, value in values.items() if key in _UNET_NAMES}
    return {key: value for key, value in values.items() if key not in _UNET_NAMES}, network


class TrainSettings(Settings):
    """How a network is trained, with any method."""

    steps: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="How often the network is improved; each step looks at one batch of patches of "
        "each volume. More steps take longer and are usually better.",
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
        le=MOST_INT32,
        title="random seed",
        description="Starts all random choices. Runs with the same seed draw the same patches; "
        "change it to see how much of a result is chance.",
        json_schema_extra=advanced(1),
    )
    # Multiples of 32, so that networks of up to five poolings halve it without a remainder.
    patch: int = Field(
        128,
        ge=32,
        le=1024,
        multiple_of=32,
        title="side of a patch",
        description="Side of the squares that the network learns from, in pixels of the common "
        "pixel size. Choose a larger one if structures do not fit in; it needs more memory and "
        "time.",
        json_schema_extra=advanced(32, "pixels"),
    )
    batch: int = Field(
        8,
        ge=1,
        le=256,
        title="patches per step",
        description="Patches of source and of target in one step. Choose fewer if the memory does "
        "not suffice.",
        json_schema_extra=advanced(1),
    )
    # Off: without labels, where most begin, it costs up to .03 IoU; with all of them it gains that
    # (docs/benchmarks.md, "What depth is worth").
    context: int = Field(
        0,
        ge=0,
        le=MOST_CONTEXT,
        title="neighbouring sections",
        description="How many sections on each side the network also sees (2.5-D). Labels are "
        "needed in the middle one only. 0 looks at single sections. 1 pays where a whole region is "
        "labelled; without labels, or with a few patches of thick sections, it does not. The "
        "distance is that of the volume whose sections lie furthest apart.",
        json_schema_extra=advanced(1),
    )
    objects: Literal["off", "contour"] = Field(
        "off",
        title="objects",
        description="Whether the network also learns where objects end: 'contour' adds maps of "
        "their contours and of the distance to them, by which objects that touch are separated. "
        "It needs labels that number objects; of other labels, connected voxels are one object.",
        json_schema_extra=ADVANCED,
    )
    network: str = Field(
        "unet",
        title="network",
        description="The network that is trained; its own settings depend on it.",
        json_schema_extra=ADVANCED,
    )
    # 1e-3 is usual for AdamW. In 1000 steps 3e-3 is better (see PROFILES).
    learning_rate: float = Field(
        1e-3,
        ge=1e-6,
        le=0.1,
        title="size of a step",
        description="How far one step changes the network (learning rate of AdamW): too high is "
        "unstable, too low is slow. It falls along a cosine to a hundredth of this. Lower it if "
        "the loss curve jumps.",
        json_schema_extra=advanced(1e-4),
    )
    weight_decay: float = Field(
        1e-4,
        ge=0,
        le=0.1,
        title="simplicity",
        description="How strongly the network is kept simple (weight decay of AdamW). Raise it if "
        "the model fits the source and fails elsewhere.",
        json_schema_extra=advanced(1e-4),
    )
    augmentation: Literal["none", "weak", "strong"] = Field(
        "strong",
        title="variation of patches",
        description="How much patches are varied at random, so that the network learns to see "
        "past such differences. 'weak': flips and quarter turns; 'strong': also scale, rotation, "
        "contrast, gamma, blur and noise, which pays in long trainings.",
        json_schema_extra=ADVANCED,
    )
    # The coarsest volume sets it: enlarging that would not add detail, only pixels.
    pixel_size: float = Field(
        0,
        ge=0,
        le=1e6,
        title="pixel size",
        description="In-plane pixel size at which the network works, in the volumes' unit (nm); 0 "
        "uses that of the coarsest volume. Choose a larger one if structures are large: it is "
        "faster.",
        json_schema_extra=advanced(1, "nm"),
    )
    source_box: str = Field(
        "",
        title="part of the source",
        description="Part of the source to train on: z0:z1,y0:y1,x0:x1 in voxels; empty means all "
        "of it. Use it if only a part is labelled well.",
        json_schema_extra=ADVANCED,
    )
    target_box: str = Field(
        "",
        title="part of the target",
        description="Part of the target to adapt to: z0:z1,y0:y1,x0:x1 in voxels; empty means all "
        "of it. Use it to leave out other tissue.",
        json_schema_extra=ADVANCED,
    )
    # The most dependable single step of adaptation: 0.02 to 0.24 IoU for `source_only` with weak
    # augmentation (docs/benchmarks.md).
    target_statistics: Literal["auto", "on", "off"] = Field(
        "auto",
        title="adjust to the target",
        description="Whether the network's brightness and contrast are adjusted to the target at "
        "every checkpoint (AdaBN); 'auto' does so for methods that use the target. Turn it off "
        "only for comparisons.",
        json_schema_extra=ADVANCED,
    )
    # What was measured of it: docs/benchmarks.md, "Common spectrum".
    spectrum: Literal["auto", "common", "own"] = Field(
        "auto",
        title="fine detail",
        description="Whether fine detail and noise that only one of the volumes shows are "
        "filtered away in both, so that they look alike: 'common' does, 'own' leaves each volume "
        "as it is; 'auto' does as the run that training starts from, and else leaves them. Choose "
        "'common' if one volume is sharper or noisier than the other.",
        json_schema_extra=ADVANCED,
    )
    validations: int = Field(
        20,
        ge=0,
        le=1000,
        title="checks on the target",
        description="How often the model is judged on the target, without labels, to choose the "
        "one to keep. Short trainings are judged less often, so that the scoring takes at most a "
        "tenth of the time. 0 turns it off.",
        json_schema_extra=advanced(5),
    )
    # 'average' loses 0.011 IoU on average against the best model, 'last' 0.014 (docs/stopping.md).
    # Only late models count: early ones can have a good score by chance.
    keep: Literal["last", "best", "average", "supervised", "total"] = Field(
        "average",
        title="model to keep",
        description="The model to use afterwards: 'last' is that of the last step, 'best' the one "
        "with the lowest estimated error in the target in the last third of the steps, 'average' "
        "the mean of the best three there. For methods that also learn from unlabelled data, "
        "'supervised' and 'total' choose the model with the lowest supervised or total loss in "
        "the second half. Change it if a later model looks better than the one that was kept.",
        json_schema_extra=ADVANCED,
    )
    # Three, because keep=average takes the mean of three.
    checkpoints_kept: int = Field(
        3,
        ge=1,
        le=1000,
        title="models to store",
        description="How many of the best models are kept in the run's folder, to choose another "
        "one when predicting.",
        json_schema_extra=advanced(1),
    )
    stop_when_flat: int = Field(
        0,
        ge=0,
        le=1000,
        title="stop early after",
        description="Stop after this many checks on the target without improvement in the second "
        "half of the training; 0 never stops early. Use it with 'average' as the model to keep, "
        "because the steps are still large at that point.",
        json_schema_extra=advanced(1),
    )
    save_every: int = Field(
        200,
        ge=1,
        le=100_000,
        title="save every",
        description="Steps between checkpoints; a crash loses at most this many.",
        json_schema_extra=advanced(50, "steps"),
    )
    report_every: int = Field(
        10,
        ge=1,
        le=1000,
        title="draw every",
        description="Steps between points of the loss curve.",
        json_schema_extra=advanced(5, "steps"),
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto",
        title="compute on",
        description="Where to compute; 'auto' uses a GPU if there is one. Choose 'cpu' if the "
        "memory of the GPU does not suffice.",
        json_schema_extra=ADVANCED,
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "auto",
        title="precision of numbers",
        description="Number format; 'auto' uses bfloat16 where it is faster: on most GPUs, "
        "processors with matrix units (AMX), and AMD's with AVX-512. Choose '32' if the loss "
        "becomes infinite.",
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


# What a profile means for the network is declared by `nn.network.Network.profiles`.
#
# Strong augmentation pays in long trainings. Within a thousand steps it cost 0.03 to 0.08 IoU on
# the phantom and on VNC -> Lucchi. In as many steps a learning rate of 0.003 beat 0.001 and
# 0.006 (IoU 0.554, 0.522 and 0.534 on Lucchi -> VNC, docs/benchmarks.md).
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

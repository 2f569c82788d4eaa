"""One frozen model per step is form, command line, JSON and documentation at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_emda.errors import SettingsError
from napari_emda.registry import did_you_mean

Profile = Literal["test", "fast", "standard"]
LOSSES = ("supervised", "total")
"""By what of the losses a model may be kept."""


class Settings(BaseModel):
    """Base of all settings: flat, frozen, unknown keys forbidden, every number bounded.

    A field's description is its tooltip and its line in the documentation; ``json_schema_extra={"advanced": True}``
    puts it under *Advanced* in the form, ``"step"`` is the step of its spin box, ``"unit"`` is shown beside its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _text(cls, values: Any) -> Any:
        """``--set precision=32`` means the text '32'."""
        if not isinstance(values, dict):
            return values
        text = {key for key, field in cls.model_fields.items() if _is_text(field.annotation)}
        return {key: str(v) if key in text and type(v) in (int, float) else v for key, v in values.items()}

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Validate; a mistake becomes one SettingsError sentence with the limit and the remedy."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise SettingsError(_sentence(error, cls)) from None


def _is_text(annotation: Any) -> bool:
    return annotation is str or (get_origin(annotation) is Literal and isinstance(get_args(annotation)[0], str))


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or model.__name__
    if first["type"] == "extra_forbidden":
        return f"There is no setting '{key}'. {did_you_mean(key, model.model_fields)}"
    if first["type"] == "missing":
        return f"The setting '{key}' is missing: give {key}=VALUE."
    limit = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"Setting {key} = {first['input']!r} is not allowed: it should be {limit}."


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """``["steps=20", "method_name=x"]`` as a dict; values are JSON where they parse as JSON, else text."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise SettingsError(f"'{assignment}' is not KEY=VALUE: write for example --set steps=500.")
        try:
            values[key.strip()] = json.loads(text)
        except json.JSONDecodeError:
            values[key.strip()] = text
    return values


def distribute(values: Mapping[str, Any], *models: type[Settings]) -> list[dict[str, Any]]:
    """Sort flat settings to the models that declare them, one dict per model; the unknown is a SettingsError."""
    known = {key for model in models for key in model.model_fields}
    for key in values:
        if key not in known:
            raise SettingsError(f"There is no setting '{key}'. {did_you_mean(key, known)}")
    return [{key: value for key, value in values.items() if key in model.model_fields} for model in models]


_ADVANCED: dict[str, Any] = {"advanced": True}


def _advanced(step: float, unit: str = "") -> dict[str, Any]:
    return {"advanced": True, "step": step, **({"unit": unit} if unit else {})}


class TrainSettings(Settings):
    """How a network is trained, whichever the method."""

    steps: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="How long: optimiser steps, one batch per domain each.",
        json_schema_extra={"step": 100},
    )
    profile: Profile = Field(
        "fast",
        description="Speed or quality: 'fast' suits a laptop, 'standard' a GPU, "
        "'test' is for trying out. Sets network and patch size.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="Runs with the same seed draw the same patches.",
        json_schema_extra=_advanced(1),
    )
    patch: int = Field(
        128,
        ge=32,
        le=1024,
        multiple_of=32,
        description="Side of a training patch, in pixels of the common pixel size.",
        json_schema_extra=_advanced(32, "pixels"),
    )
    batch: int = Field(8, ge=1, le=256, description="Patches per domain in a step.", json_schema_extra=_advanced(1))
    base: int = Field(
        16,
        ge=8,
        le=64,
        multiple_of=8,
        description="Feature maps of the network's first level.",
        json_schema_extra=_advanced(8),
    )
    levels: int = Field(
        3, ge=3, le=5, description="How often the network halves the resolution.", json_schema_extra=_advanced(1)
    )
    dropout: float = Field(
        0.25,
        ge=0,
        le=0.9,
        description="Share of feature maps dropped at the two deepest levels.",
        json_schema_extra=_advanced(0.05),
    )
    attention: bool = Field(False, description="Attention gates on the skip connections.", json_schema_extra=_ADVANCED)
    learning_rate: float = Field(
        1e-3,
        ge=1e-6,
        le=0.1,
        description="AdamW's learning rate, decayed to a hundredth along a cosine.",
        json_schema_extra=_advanced(1e-4),
    )
    weight_decay: float = Field(
        1e-4, ge=0, le=0.1, description="AdamW's weight decay.", json_schema_extra=_advanced(1e-4)
    )
    augmentation: Literal["none", "weak", "strong"] = Field(
        "strong",
        description="'weak': flips and quarter turns; 'strong': also scale, rotation, contrast, gamma, blur and noise.",
        json_schema_extra=_ADVANCED,
    )
    pixel_size: float = Field(
        0,
        ge=0,
        le=1e6,
        description="In-plane pixel size at which the network works, in the "
        "volumes' unit (nm); 0 takes the coarsest of the volumes.",
        json_schema_extra=_advanced(1, "nm"),
    )
    source_box: str = Field(
        "",
        description="Part of the source to train on, z0:z1,y0:y1,x0:x1 in voxels; empty is all.",
        json_schema_extra=_ADVANCED,
    )
    target_box: str = Field(
        "",
        description="Part of the target to adapt to, z0:z1,y0:y1,x0:x1 in voxels; empty is all.",
        json_schema_extra=_ADVANCED,
    )
    target_statistics: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Measure the network's normalisation statistics on the target at every checkpoint (AdaBN); "
        "'auto' does so for methods that use the target.",
        json_schema_extra=_ADVANCED,
    )
    validations: int = Field(
        20,
        ge=0,
        le=1000,
        description="How often a training looks at the target, without labels, to find the model to keep; fewer in "
        "short trainings, so that it takes a tenth of the time at most; 0 is never.",
        json_schema_extra=_advanced(5),
    )
    keep: Literal["last", "best", "average", "supervised", "total"] = Field(
        "average",
        description="The model to use afterwards: that of the last step or, of the last third of the steps, the one "
        "whose answer in the target looks best or the average of the best three. Where a method also learns from what "
        "nobody labelled, 'supervised' takes the one of the second half with the least loss on labels, 'total' with "
        "the least sum.",
        json_schema_extra=_ADVANCED,
    )
    checkpoints_kept: int = Field(
        3,
        ge=1,
        le=1000,
        description="How many of the best models stay in the run's folder, to be used with --checkpoint.",
        json_schema_extra=_advanced(1),
    )
    stop_when_flat: int = Field(
        0,
        ge=0,
        le=1000,
        description="Stop when so many looks at the target in the second half of the training found nothing better; "
        "0 is never. The learning rate has not come down then: keep the average.",
        json_schema_extra=_advanced(1),
    )
    save_every: int = Field(
        200,
        ge=1,
        le=100_000,
        description="Steps between checkpoints; a crash loses no more.",
        json_schema_extra=_advanced(50),
    )
    report_every: int = Field(
        10, ge=1, le=1000, description="Steps between points of the loss curve.", json_schema_extra=_advanced(5)
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to compute; 'auto' takes a GPU when there is one.", json_schema_extra=_ADVANCED
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "auto",
        description="Number format; 'auto' takes bfloat16 where the processor has it.",
        json_schema_extra=_ADVANCED,
    )

    @classmethod
    def for_profile(cls, profile: str, **values: Any) -> TrainSettings:
        """The profile's settings with ``values`` on top; SettingsError as `parse`."""
        if profile not in PROFILES:
            raise SettingsError(f"There is no profile '{profile}'. {did_you_mean(profile, PROFILES)}")
        return cls.parse({**PROFILES[profile], **values, "profile": profile})


# Strong augmentation pays in long trainings; within a thousand steps it cost 0.03 to 0.08 IoU on the phantom and on
# VNC -> Lucchi (docs/benchmarks.md), and larger learning rates paid.
PROFILES: dict[str, dict[str, Any]] = {
    "test": {"steps": 250, "patch": 64, "base": 8, "levels": 3, "save_every": 50, "augmentation": "weak"},
    "fast": {
        "steps": 1000,
        "patch": 128,
        "base": 16,
        "levels": 3,
        "augmentation": "weak",
        "learning_rate": 3e-3,
    },
    "standard": {"steps": 10_000, "patch": 256, "base": 32, "levels": 4, "save_every": 500},
}


class PredictSettings(Settings):
    """How a volume is segmented in blocks."""

    uncertainty: bool = Field(True, description="Also write the entropy of the prediction.")
    flips: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Average over four flipped copies: four times slower, a little better; 'auto' does so for methods "
        "that ask for it.",
    )
    neighbours: bool = Field(
        True,
        description="Where the method asks for it, average each section with those before and after it.",
        json_schema_extra=_ADVANCED,
    )
    block: int = Field(
        0,
        ge=0,
        le=8192,
        description="Side of a block in working pixels; 0 takes the largest that fits the memory budget.",
        json_schema_extra=_advanced(64, "pixels"),
    )
    memory: float = Field(
        1.0,
        ge=0.05,
        le=64,
        description="Memory for one block's feature maps, in GiB.",
        json_schema_extra=_advanced(0.25, "GiB"),
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to compute.", json_schema_extra=_ADVANCED
    )
    precision: Literal["auto", "32", "bf16"] = Field("auto", description="Number format.", json_schema_extra=_ADVANCED)


class QuerySettings(Settings):
    """Which patches to suggest for annotation."""

    strategy: str = Field("entropy", description="How candidate patches are ranked.")
    count: int = Field(5, ge=1, le=1000, description="How many patches to suggest.", json_schema_extra={"step": 1})
    patch: int = Field(
        128,
        ge=16,
        le=2048,
        description="Side of a suggested patch, in pixels of the target.",
        json_schema_extra={"step": 16, "unit": "pixels"},
    )
    box: str = Field(
        "",
        description="Part of the target to choose from, z0:z1,y0:y1,x0:x1 in voxels; empty is all.",
        json_schema_extra=_ADVANCED,
    )
    section_distance: int = Field(
        3,
        ge=0,
        le=1000,
        description="Sections to keep between suggestions at the same place.",
        json_schema_extra=_advanced(1),
    )
    random_share: float = Field(
        0,
        ge=0,
        le=1,
        description="Share of the patches drawn by lot instead, to measure the model without favour.",
        json_schema_extra=_advanced(0.1),
    )
    positions: int = Field(
        120_000,
        ge=100,
        le=10_000_000,
        description="Most patch positions to weigh up; of a larger volume, evenly spaced sections are looked at.",
        json_schema_extra=_advanced(10_000),
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of random choices.", json_schema_extra=_advanced(1))
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to compute.", json_schema_extra=_ADVANCED
    )

    @property
    def by_lot(self) -> int:
        """How many of the patches are drawn by lot: at least one where a share is asked for."""
        return max(round(self.random_share * self.count), int(self.random_share > 0))

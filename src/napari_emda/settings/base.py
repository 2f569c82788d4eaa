"""Base of all settings: limits, old names, `--set KEY=VALUE`, and errors in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from napari_emda.errors import SettingsError
from napari_emda.json_text import parse_json
from napari_emda.registry import did_you_mean


class Settings(BaseModel):
    """Flat, frozen settings: unknown keys are forbidden, and every number has limits.

    A field's title is its label in the dock, by default its name; the description is its tooltip
    and its line in the documentation. In
    ``json_schema_extra``, ``"advanced"`` puts it under *Advanced* in the form, ``"step"`` is the
    step of its spin box, and ``"unit"`` is shown beside its name.
    """

    # extra="forbid": a misspelt key must not silently leave the default in place.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        field_title_generator=lambda name, info: name.replace("_", " "),
    )

    renamed: ClassVar[Mapping[str, str]] = {}
    """New name by old name of this class's settings, so that old files and scripts still work."""

    @classmethod
    def new_names(cls) -> dict[str, str]:
        """``renamed`` of this class and of its base classes."""
        return {
            old: new for base in cls.__mro__ for old, new in vars(base).get("renamed", {}).items()
        }

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, values: Any) -> Any:
        """Read old names, and take ``--set precision=32`` as the text '32'."""
        if not isinstance(values, dict):
            return values
        values = with_new_names(values, cls.new_names())
        text_keys = {key for key, field in cls.model_fields.items() if _is_text(field.annotation)}
        # type() and not isinstance(): True is an int, but 'True' would be no sensible text.
        return {
            key: str(value) if key in text_keys and type(value) in (int, float) else value
            for key, value in values.items()
        }

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Validate values.

        Raises:
            SettingsError: one sentence with the mistake, the limit and the remedy.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise SettingsError(_sentence(error, cls)) from None


def with_new_names(values: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Bring values to today's names.

    Args:
        values: by old or new names; where both are given, the new one counts.
        renamed: new name by old name.
    """
    old = {renamed[key]: value for key, value in values.items() if key in renamed}
    return old | {key: value for key, value in values.items() if key not in renamed}


def _is_text(annotation: Any) -> bool:
    is_choice = get_origin(annotation) is Literal
    return annotation is str or (is_choice and isinstance(get_args(annotation)[0], str))


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    # Only the first mistake: several in one sentence are hard to read in the dock's one line.
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or model.__name__
    if first["type"] == "extra_forbidden":
        return f"There is no setting '{key}'. {did_you_mean(key, model.model_fields)}"
    if first["type"] == "missing":
        return f"The setting '{key}' is missing: give {key}=VALUE."
    limit = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"Setting {key} = {first['input']!r} is not allowed: it should be {limit}."


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Read ``["steps=20", "network=unet"]`` as a dict.

    Args:
        assignments: values are JSON, or text if they are no JSON, so that text needs no quotes.

    Raises:
        SettingsError: an entry is not KEY=VALUE.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise SettingsError(
                f"'{assignment}' is not KEY=VALUE: write for example --set steps=500."
            )
        try:
            values[key.strip()] = parse_json(text)
        # Also a number of thousands of digits, and what is nested too deep.
        except ValueError:
            values[key.strip()] = text
    return values


def distribute(values: Mapping[str, Any], *models: type[Settings]) -> list[dict[str, Any]]:
    """Split flat settings into one dict for each model that declares them.

    Raises:
        SettingsError: no model declares a setting.
    """
    for model in models:
        values = with_new_names(values, model.new_names())
    declared = {key for model in models for key in model.model_fields}
    for key in values:
        if key not in declared:
            raise SettingsError(f"There is no setting '{key}'. {did_you_mean(key, declared)}")
    return [
        {key: value for key, value in values.items() if key in model.model_fields}
        for model in models
    ]


ADVANCED: dict[str, Any] = {"advanced": True}
"""``json_schema_extra`` of a setting without a number, under *Advanced*."""

# Largest whole number of a setting: the spin boxes of Qt hold signed 32-bit integers.
MOST_INT32 = 2**31 - 1


def advanced(step: float, unit: str = "") -> dict[str, Any]:
    """``json_schema_extra`` of a number under *Advanced*.

    Args:
        step: of its spin box.
        unit: shown beside its name.
    """
    return {**ADVANCED, "step": step, **({"unit": unit} if unit else {})}

"""A settings model, given as JSON schema, as a magicgui form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from magicgui.widgets import Container, create_widget
from magicgui.widgets.bases import ValueWidget

from napari_emda.errors import SettingsError

_TYPES = {"integer": int, "number": float, "string": str, "boolean": bool}


@dataclass(frozen=True)
class Field:
    """One setting: everything that its widget shows."""

    name: str
    kind: type
    default: Any
    description: str = ""
    advanced: bool = False
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    unit: str = ""

    @property
    def label(self) -> str:
        """The name in words, with the unit."""
        return self.name.replace("_", " ") + (f" ({self.unit})" if self.unit else "")

    @property
    def decimals(self) -> int:
        """Digits behind the point that show the default and every step exactly."""
        numbers = [n for n in (self.default, self.step, self.minimum) if n]
        return max([1, *(_digits(float(n)) for n in numbers)])


def _digits(number: float) -> int:
    """Decimal places of a number as it is written."""
    text = f"{number:.12f}".rstrip("0")
    return len(text.partition(".")[2])


def fields(schema: Mapping[str, Any]) -> list[Field]:
    """The settings of a model, in its order; SettingsError for what a form cannot show."""
    return [_field(name, entry) for name, entry in schema.get("properties", {}).items()]


def _field(name: str, entry: Mapping[str, Any]) -> Field:
    kind = _TYPES.get(entry.get("type", ""))
    if kind is None or "default" not in entry:
        raise SettingsError(
            f"The setting '{name}' cannot be shown in a form: give it one plain type and a default."
        )
    step = entry.get("step") or entry.get("multipleOf")
    low = entry.get("minimum", entry.get("exclusiveMinimum"))
    high = entry.get("maximum", entry.get("exclusiveMaximum"))
    if kind in (int, float) and (low is None or high is None):
        raise SettingsError(f"The setting '{name}' has no limits: give it a minimum and a maximum.")
    if kind is float and not step:
        step = 10.0 ** math.floor(math.log10(entry["default"] or high))
    if kind is float and "exclusiveMinimum" in entry:
        low += step
    if kind is float and "exclusiveMaximum" in entry:
        high -= step
    return Field(
        name,
        kind,
        kind(entry["default"]),
        entry.get("description", ""),
        bool(entry.get("advanced")),
        tuple(entry.get("enum", ())),
        low,
        high,
        step,
        entry.get("unit", ""),
    )


def make_widget(field: Field) -> ValueWidget[Any]:
    """The widget of one setting; its tooltip is the setting's description."""
    options: dict[str, Any] = {"tooltip": field.description}
    if field.choices:
        options["choices"] = list(field.choices)
        kind = "ComboBox"
    elif field.kind in (int, float):
        options |= {"min": field.minimum, "max": field.maximum, "step": field.step or 1}
        kind = "SpinBox" if field.kind is int else "FloatSpinBox"
    else:
        kind = "CheckBox" if field.kind is bool else "LineEdit"
    widget: Any = create_widget(
        name=field.name, label=field.label, widget_type=kind, options=options
    )
    if kind == "FloatSpinBox":
        widget.native.setDecimals(field.decimals)
        widget.min = field.minimum  # both were rounded to two digits
        widget.max = field.maximum
    widget.value = field.default
    result: ValueWidget[Any] = widget
    return result


class SettingsForm(Container[ValueWidget[Any]]):
    """The settings of a model below each other.

    Args:
        schema: JSON schema of the model.
        keep: which settings to show; by default all.
    """

    def __init__(
        self, schema: Mapping[str, Any], keep: Callable[[Field], bool] = lambda field: True
    ) -> None:
        self.fields = {field.name: field for field in fields(schema) if keep(field)}
        super().__init__(
            widgets=[make_widget(field) for field in self.fields.values()], labels=True
        )
        self.margins = (0, 0, 0, 0)

    def values(self) -> dict[str, Any]:
        """What is set."""
        return {name: field.kind(self[name].value) for name, field in self.fields.items()}

    def changed_values(self) -> dict[str, Any]:
        """What is set to something else than the default."""
        return {
            name: value
            for name, value in self.values().items()
            if value != self.fields[name].default
        }

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Set some; names that the form does not have are passed over."""
        for name, value in values.items():
            if name in self.fields:
                self[name].value = value

    def lock(self, names: Iterable[str]) -> None:
        """Grey out these settings, and no others."""
        for name in self.fields:
            self[name].enabled = name not in set(names)

    def reset(self, names: Iterable[str] | None = None) -> None:
        """Back to the defaults."""
        self.set_values(
            {
                name: self.fields[name].default
                for name in (names or self.fields)
                if name in self.fields
            }
        )

"""A magicgui form from the JSON schema of a settings model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from magicgui.backends import _qtpy
from magicgui.widgets import Container, create_widget
from magicgui.widgets.bases import RangedWidget, ValueWidget

from napari_emda._gui.common.number_boxes import DecimalBox, WholeNumberBox
from napari_emda.errors import SettingsError

# The types of JSON schema that have a widget.
_TYPES = {"integer": int, "number": float, "string": str, "boolean": bool}


@dataclass(frozen=True)
class Field:
    """One setting, with all that its widget shows."""

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
    title: str = ""

    @property
    def label(self) -> str:
        """The title, or the name with spaces, and the unit."""
        title = self.title or self.name.replace("_", " ")
        return title + (f" ({self.unit})" if self.unit else "")

    @property
    def tip(self) -> str:
        """What it does, and its name on the command line."""
        return f"{self.description} On the command line: --set {self.name}=…"

    @property
    def decimals(self) -> int:
        """Decimal places that show the default and every step exactly."""
        numbers = [n for n in (self.default, self.step, self.minimum) if n]
        return max([1, *(_digits(float(n)) for n in numbers)])


def _digits(number: float) -> int:
    """Decimal places of a number in decimal notation."""
    # Twelve places, because str() would write 1e-05, and more would show rounding errors.
    text = f"{number:.12f}".rstrip("0")
    return len(text.partition(".")[2])


def fields(schema: Mapping[str, Any]) -> list[Field]:
    """The settings of a model, in its order; SettingsError if a form cannot show one."""
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
    # Without a step, the power of ten of the default: 0.001 is changed in steps of 0.001.
    if kind is float and not step:
        step = 10.0 ** math.floor(math.log10(entry["default"] or high))
    # A spin box includes its limits; one step inside is the nearest value that the user can choose.
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
        entry.get("title", ""),
    )


def make_widget(field: Field) -> ValueWidget[Any]:
    """The widget of one setting; its tooltip says what the setting does."""
    options: dict[str, Any] = {"tooltip": field.tip}
    widget: Any
    if field.kind in (int, float) and not field.choices:
        widget = _number_widget(field, options)
    else:
        if field.choices:
            options["choices"] = list(field.choices)
        kind = "ComboBox" if field.choices else "CheckBox" if field.kind is bool else "LineEdit"
        widget = create_widget(
            name=field.name, label=field.label, widget_type=kind, options=options
        )
    widget.value = field.default
    widget.native.setAccessibleName(field.label)
    widget.native.setAccessibleDescription(field.description)
    result: ValueWidget[Any] = widget
    return result


def _number_widget(field: Field, options: Mapping[str, Any]) -> RangedWidget[Any]:
    # `fields` refuses numbers without limits.
    assert field.minimum is not None
    assert field.maximum is not None
    widget: RangedWidget[Any] = RangedWidget(
        name=field.name,
        label=field.label,
        widget_type=_WholeNumber if field.kind is int else _Decimal,
        min=field.minimum,
        max=field.maximum,
        step=field.step or 1,
        **options,
    )
    if field.kind is float:
        # Qt rounds limits to its decimals, two by default: they are set again with enough of them.
        widget.native.setDecimals(field.decimals)
        widget.min = field.minimum
        widget.max = field.maximum
    return widget


# magicgui's own box of whole numbers clamps at every key: "64" cannot be typed where 16 is the
# minimum. Ours are Qt's, behind magicgui's interface.
class _WholeNumber(_qtpy.widgets.SpinBox):
    def __init__(self, **arguments: Any) -> None:
        _qtpy.widgets.QBaseRangedWidget.__init__(self, WholeNumberBox, **arguments)


class _Decimal(_qtpy.widgets.FloatSpinBox):
    def __init__(self, **arguments: Any) -> None:
        _qtpy.widgets.QBaseRangedWidget.__init__(self, DecimalBox, **arguments)


class SettingsForm(Container[ValueWidget[Any]]):
    """The settings of a model, one per row.

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
        """All settings with their current values."""
        return {name: field.kind(self[name].value) for name, field in self.fields.items()}

    def changed_values(self) -> dict[str, Any]:
        """The settings whose values differ from the defaults."""
        return {
            name: value
            for name, value in self.values().items()
            if value != self.fields[name].default
        }

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Set some values; names that the form does not have are ignored."""
        for name, value in values.items():
            if name in self.fields:
                self[name].value = value

    def lock(self, names: Iterable[str]) -> None:
        """Disable these settings and enable all others."""
        for name in self.fields:
            self[name].enabled = name not in set(names)

    def reset(self, names: Iterable[str] | None = None) -> None:
        """Set these settings, by default all, to their defaults."""
        self.set_values(
            {
                name: self.fields[name].default
                for name in (names or self.fields)
                if name in self.fields
            }
        )

"""Boxes for the settings of masks and objects; those of all panels show the same."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker

from napari_emda._gui.common.number_boxes import DecimalBox, WholeNumberBox
from napari_emda._gui.session import Session
from napari_emda.settings.objects import SeparationSettings

_LIMITS = SeparationSettings.model_json_schema()["properties"]


def threshold_box(session: Session) -> DecimalBox:
    """The lowest probability of a mask."""
    limits = _LIMITS["threshold"]
    # The limits themselves are excluded; the box shows two decimals.
    return _decimal_box(
        session,
        "threshold",
        limits["exclusiveMinimum"] + 0.01,
        limits["exclusiveMaximum"] - 0.01,
        "Lowest probability at which a voxel belongs to the mask. With several classes, the "
        "most probable one is compared with the background alone; at 0.5 the most probable "
        "class wins.",
    )


def smallest_box(session: Session) -> WholeNumberBox:
    """The fewest pixels of an object."""
    box = WholeNumberBox()
    box.setRange(_LIMITS["minimum_size"]["minimum"], _LIMITS["minimum_size"]["maximum"])
    box.setSingleStep(_LIMITS["minimum_size"]["step"])
    box.setSuffix(" pixels")
    box.setToolTip(
        "Smaller objects are left out. In the viewer they are measured in single sections, in "
        "exports through all sections."
    )
    _bind(session, box, "smallest")
    return box


def separate_box(session: Session) -> DecimalBox:
    """How wide a neck may be at which touching objects are separated."""
    limits = _LIMITS["separate"]
    return _decimal_box(
        session, "separate", limits["minimum"], limits["maximum"], limits["description"]
    )


def _decimal_box(session: Session, name: str, low: float, high: float, tip: str) -> DecimalBox:
    box = DecimalBox()
    box.setRange(low, high)
    box.setSingleStep(_LIMITS[name]["step"])
    box.setToolTip(tip)
    _bind(session, box, name)
    return box


def _bind(session: Session, box: DecimalBox | WholeNumberBox, name: str) -> None:
    """Show a setting, and change it."""

    def show() -> None:
        with QSignalBlocker(box):
            box.setValue(getattr(session.mask, name))

    show()
    session.mask_changed.connect(show)
    box.valueChanged.connect(lambda value: session.set_mask(**{name: value}))

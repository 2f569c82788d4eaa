"""Boxes for the settings of masks and objects; those of all panels show the same."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker

from napari_emda._gui.common.number_boxes import DecimalBox, WholeNumberBox
from napari_emda._gui.session import Session
from napari_emda.settings.objects import SeparationSettings

_LIMITS = SeparationSettings.model_json_schema()["properties"]


def threshold_box(session: Session) -> DecimalBox:
    """The lowest probability of a mask."""
    box = DecimalBox()
    # The limits themselves are excluded; the box shows two decimals.
    box.setRange(
        _LIMITS["threshold"]["exclusiveMinimum"] + 0.01,
        _LIMITS["threshold"]["exclusiveMaximum"] - 0.01,
    )
    box.setSingleStep(_LIMITS["threshold"]["step"])
    box.setToolTip(
        "Lowest probability at which a voxel belongs to the mask. With several classes, the "
        "most probable one is compared with the background alone; at 0.5 the most probable "
        "class wins."
    )
    _bind(session, box, "threshold")
    return box


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
    box = DecimalBox()
    box.setRange(_LIMITS["separate"]["minimum"], _LIMITS["separate"]["maximum"])
    box.setSingleStep(_LIMITS["separate"]["step"])
    box.setToolTip(_LIMITS["separate"]["description"])
    _bind(session, box, "separate")
    return box


def _bind(session: Session, box: DecimalBox | WholeNumberBox, name: str) -> None:
    """Show a setting, and change it."""

    def show() -> None:
        with QSignalBlocker(box):
            box.setValue(getattr(session.mask, name))

    show()
    session.mask_changed.connect(show)
    box.valueChanged.connect(lambda value: session.set_mask(**{name: value}))

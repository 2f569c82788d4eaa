"""The layers in which a training shows what it makes of the section on view."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap

from napari_emda._gui.palette import class_colour
from napari_emda._gui.session import Session
from napari_emda.data.volume import Box
from napari_emda.events import Preview


def show_preview(session: Session, event: Preview) -> None:
    """Put a section's probabilities into the preview layers, one a class; nothing while somebody paints."""
    project = session.project
    try:
        values = np.load(event.path, allow_pickle=False)
    except (OSError, ValueError):  # replaced or removed meanwhile: the next one comes soon
        return
    if project is None or values.ndim != 3 or session.annotating or session.image(event.volume) is None:
        return
    place, box = session.place(event.volume), Box.from_bounds(event.box)
    where = place.arguments(corner=box.start)
    for index, name in enumerate(project.classes[1:]):
        _show_class(session, event.volume, index, name, values[index][None], where)


def _show_class(
    session: Session, volume: str, index: int, name: str, values: np.ndarray[Any, Any], where: dict[str, Any]
) -> None:
    def make() -> Image:
        colour = Colormap(["black", class_colour(index + 1)], name=f"emda-{name}")
        return Image(
            values,
            name=f"preview {name}",
            colormap=colour,
            blending="additive",
            opacity=0.55,
            contrast_limits=(0, 255),
            **where,
        )

    layer = session.output(f"preview {index}", volume)
    if layer is None:
        session.output(f"preview {index}", volume, make)
    elif isinstance(layer, Image):
        layer.data = values
        layer.translate = where["translate"]

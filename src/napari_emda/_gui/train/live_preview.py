"""The layers in which a training shows what it makes of the section on view."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.colormaps import Colormap

from napari_emda._gui.common.palette import class_colour, cluster_colours
from napari_emda._gui.predict.layers import hide, roles
from napari_emda._gui.session import Session
from napari_emda.data.box import Box
from napari_emda.data.probabilities import class_ids
from napari_emda.events import Preview, Translated


def show_preview(session: Session, event: Preview) -> None:
    """Put a section's probabilities into the preview layers, one a class; nothing while somebody paints."""
    project = session.project
    try:
        values = np.load(event.path, allow_pickle=False)
    except (OSError, ValueError):  # replaced or removed meanwhile: the next one comes soon
        return
    if (
        project is None
        or values.ndim != 3
        or session.annotating
        or session.image(event.volume) is None
    ):
        return
    if all(
        session.output(role, event.volume) is None for role in ("preview clusters", "preview 0")
    ):
        hide(
            session, event.volume, roles(session)
        )  # of an earlier model, which would mix with this one's
    place, box = session.place(event.volume), Box.from_bounds(event.box)
    where = place.arguments(corner=box.start)
    if event.classes and event.classes != project.classes[1:]:
        _show_clusters(session, event.volume, class_ids(values)[None], len(event.classes), where)
        return
    for index, name in enumerate(project.classes[1:]):
        _show_class(session, event.volume, index, name, values[index][None], where)


def _show_clusters(
    session: Session, volume: str, ids: np.ndarray[Any, Any], count: int, where: dict[str, Any]
) -> None:
    def make() -> Labels:
        made = Labels(
            ids, name="preview of clusters", colormap=cluster_colours(count), opacity=0.4, **where
        )
        made.editable = False
        return made

    layer = session.output("preview clusters", volume)
    if layer is None:
        session.output("preview clusters", volume, make)
    elif isinstance(layer, Labels):
        layer.data, layer.translate = ids, where["translate"]


def _show_class(
    session: Session,
    volume: str,
    index: int,
    name: str,
    values: np.ndarray[Any, Any],
    where: dict[str, Any],
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


_NAMES = ("preview original look", "preview translated look")


def show_translation(session: Session, event: Translated) -> None:
    """Put both into their layers, so that what was drawn or wiped out can be seen by switching between them."""
    try:
        pair = np.load(event.path, allow_pickle=False)
    except (OSError, ValueError):  # replaced or removed meanwhile: the next one comes soon
        return
    if pair.ndim != 3 or session.annotating or session.image(event.volume) is None:
        return
    where = session.place(event.volume).arguments(corner=Box.from_bounds(event.box).start)
    for name, values in zip(_NAMES, pair[:, None], strict=True):
        # hidden at first: it would cover what the user looks at
        make = partial(Image, values, name=name, contrast_limits=(0, 255), visible=False, **where)
        layer = session.output(name, event.volume, make)
        if layer is not None and layer.data is not values:
            layer.data = values
            layer.translate = where["translate"]

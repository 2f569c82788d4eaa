"""The layers in which a training shows what it makes of the section on view."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.colormaps import Colormap
from numpy.typing import NDArray

from napari_emda._gui.common.palette import class_colour, cluster_colours
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import hide, roles
from napari_emda.data.box import Box
from napari_emda.data.probabilities import class_ids
from napari_emda.events import Preview, Translated

_TRANSLATION = ("preview original look", "preview translated look")
"""Roles, and names, of the two layers of a translated section."""


def show_preview(opened: OpenProject, event: Preview) -> None:
    """Put a section's probabilities into the preview layers, one a class; not while one paints."""
    values = _read(opened, event)
    if values is None:
        return
    volume = event.volume
    if all(opened.output(role, volume) is None for role in ("preview clusters", "preview 0")):
        # What is shown is of an earlier model, and would mix with this one's.
        hide(opened, volume, roles(opened))
    where = _where(opened, event)
    classes = opened.project.classes[1:]
    if event.classes and event.classes != classes:
        _show_clusters(opened, volume, class_ids(values)[None], len(event.classes), where)
        return
    for index, name in enumerate(classes):
        _show_class(opened, volume, index, name, values[index][None], where)


def show_translation(opened: OpenProject, event: Translated) -> None:
    """Put both into layers: switching between them shows what was drawn or wiped out."""
    pair = _read(opened, event)
    if pair is None:
        return
    where = _where(opened, event)
    for name, values in zip(_TRANSLATION, pair[:, None], strict=True):
        layer = opened.output(name, event.volume)
        if layer is None:
            # Hidden at first: it would cover what the user looks at.
            hidden = Image(values, name=name, contrast_limits=(0, 255), visible=False, **where)
            opened.add_output(name, event.volume, hidden)
        else:
            _replace(layer, values, where)


def _read(opened: OpenProject, event: Preview | Translated) -> NDArray[Any] | None:
    """The arrays of a preview, (n, y, x); None when they cannot be shown now."""
    if opened.annotating or opened.image(event.volume) is None:
        return None
    try:
        values = np.load(event.path, allow_pickle=False)
    except (OSError, ValueError):  # replaced or removed meanwhile: the next one comes soon
        return None
    return values if values.ndim == 3 else None


def _where(opened: OpenProject, event: Preview | Translated) -> dict[str, Any]:
    box = Box.from_bounds(event.box)
    return opened.place(event.volume).arguments(corner=box.start)


def _replace(layer: Any, values: NDArray[Any], where: dict[str, Any]) -> None:
    layer.data = values
    layer.translate = where["translate"]


def _show_clusters(
    opened: OpenProject, volume: str, ids: NDArray[np.uint8], count: int, where: dict[str, Any]
) -> None:
    layer = opened.output("preview clusters", volume)
    if layer is not None:
        _replace(layer, ids, where)
        return
    clusters = Labels(
        ids, name="preview of clusters", colormap=cluster_colours(count), opacity=0.4, **where
    )
    clusters.editable = False
    opened.add_output("preview clusters", volume, clusters)


def _show_class(
    opened: OpenProject,
    volume: str,
    index: int,
    name: str,
    values: NDArray[Any],
    where: dict[str, Any],
) -> None:
    layer = opened.output(f"preview {index}", volume)
    if layer is not None:
        _replace(layer, values, where)
        return
    probability = Image(
        values,
        name=f"preview {name}",
        colormap=Colormap(["black", class_colour(index + 1)], name=f"emda-{name}"),
        blending="additive",
        opacity=0.55,
        contrast_limits=(0, 255),
        **where,
    )
    opened.add_output(f"preview {index}", volume, probability)

"""The layers in which a running training shows its prediction of the current section."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_emda._gui.common.palette import cluster_colours
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import hide, roles
from napari_emda._gui.predict.lazy_layers import coloured
from napari_emda.data.box import Box
from napari_emda.data.probabilities import class_ids
from napari_emda.events import Preview, Translated

# Roles of the two layers of a section that a method translates into the other domain.
_TRANSLATION = ("preview, original look", "preview, translated look")
# The image has to stay visible below a preview.
_OPACITY = 0.5


def show_preview(opened: OpenProject, event: Preview) -> None:
    """Show a section's prediction, one layer for all classes; not while a patch is annotated."""
    values = _read(opened, event)
    if values is None:
        return
    volume = event.volume
    if opened.output("preview", volume) is None:
        # The layers of an earlier model would mix with the preview of this one.
        hide(opened, volume, roles())
    placement = _placement(opened, event)
    # A method without labels predicts clusters, whose number and names differ from the classes.
    if event.classes and event.classes != opened.project.classes[1:]:
        _show_clusters(opened, volume, class_ids(values)[None], len(event.classes), placement)
    else:
        _show_classes(opened, volume, coloured(values)[None], placement)


def show_translation(opened: OpenProject, event: Translated) -> None:
    """Show a section and its translation: switching between them shows what has changed."""
    pair = _read(opened, event)
    if pair is None:
        return
    placement = _placement(opened, event)
    for role, values in zip(_TRANSLATION, pair[:, None], strict=True):
        layer = opened.output(role, event.volume)
        if layer is None:
            # Hidden at first, because it would cover the image and the preview.
            hidden = Image(
                values,
                name=opened.called(role, event.volume),
                contrast_limits=(0, 255),
                visible=False,
                **placement,
            )
            opened.add_output(role, event.volume, hidden)
        else:
            _replace(layer, values, placement)


def _read(opened: OpenProject, event: Preview | Translated) -> NDArray[Any] | None:
    """The arrays of a preview, (n, y, x); None if they cannot be shown now."""
    if opened.annotating or opened.auditing or opened.image(event.volume) is None:
        return None
    try:
        values = np.load(event.path, allow_pickle=False)
    except (OSError, ValueError):
        # Replaced or removed meanwhile: the next preview comes soon.
        return None
    return values if values.ndim == 3 else None


def _placement(opened: OpenProject, event: Preview | Translated) -> dict[str, Any]:
    box = Box.from_bounds(event.box)
    return opened.place(event.volume).arguments(corner=box.start)


def _replace(layer: Any, values: NDArray[Any], placement: dict[str, Any]) -> None:
    # The view may have moved, so the part may lie elsewhere in the section.
    layer.data = values
    layer.translate = placement["translate"]


def _show_clusters(
    opened: OpenProject, volume: str, ids: NDArray[np.uint8], count: int, placement: dict[str, Any]
) -> None:
    layer = opened.output("preview", volume)
    if isinstance(layer, Labels):
        _replace(layer, ids, placement)
        return
    clusters = Labels(
        ids,
        name=opened.called("preview", volume),
        colormap=cluster_colours(count),
        opacity=_OPACITY,
        **placement,
    )
    clusters.editable = False
    opened.add_output("preview", volume, clusters)


def _show_classes(
    opened: OpenProject, volume: str, colours: NDArray[np.uint8], placement: dict[str, Any]
) -> None:
    layer = opened.output("preview", volume)
    if isinstance(layer, Image):
        _replace(layer, colours, placement)
        return
    classes = Image(
        colours, name=opened.called("preview", volume), rgb=True, opacity=_OPACITY, **placement
    )
    opened.add_output("preview", volume, classes)

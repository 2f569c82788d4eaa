"""The layers that show a prediction: classes with their mask, or clusters. No Qt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from napari.layers import Image, Labels
from napari.utils import DirectLabelColormap

from napari_emda._gui.common.outlined_labels import OutlinedLabels
from napari_emda._gui.common.palette import cluster_colours, mask_colours
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.lazy_layers import (
    Clusters,
    ColouredProbability,
    MaskOnView,
    NotPredicted,
)

# Opacity of filled areas, which hide the image, and of outlines, which do not.
_FILLED = 0.5
_OUTLINED = 0.9
NOT_PREDICTED = "not predicted"
"""The role of the layer that covers what a prediction leaves out."""
# Grey, as nothing else in the dock; the image can be seen through it.
_GREY = (0.5, 0.5, 0.5, 1.0)
_VEIL = 0.35
# A canvas is about as many pixels wide and high: one such share of a section is one pixel wide on
# the screen while the whole section is in view.
_CANVAS_PIXELS = 700
# Width of outlines on the screen in pixels; thinner ones vanish in the noise of a micrograph.
_LINE = 2


def roles() -> list[str]:
    """The roles of the layers that show a prediction."""
    return ["mask", "clusters", "probability", NOT_PREDICTED]


def hide(opened: OpenProject, volume: str, among: Iterable[str]) -> None:
    """Hide the layers of a volume that have one of these roles."""
    for role in among:
        layer = opened.output(role, volume)
        if layer is not None:
            layer.visible = False


def outline_width(shape: tuple[int, ...]) -> int:
    """Width in pixels of outlines that are seen while a whole section is in view.

    Args:
        shape: of the volume, (z, y, x).
    """
    return math.ceil(_LINE * max(shape[1:]) / _CANVAS_PIXELS)


def draw_outlines(layer: Labels, *, outlines: bool) -> None:
    """Show labels as outlines that are seen while a whole section is in view, or as areas."""
    layer.contour = outline_width(layer.data.shape) if outlines else 0
    layer.opacity = _OUTLINED if outlines else _FILLED


def outlined(opened: OpenProject, role: str, volume: str) -> bool:
    """Whether a layer shows outlines instead of filled areas."""
    layer = opened.output(role, volume)
    return isinstance(layer, Labels) and layer.contour > 0


def is_of(opened: OpenProject, run: str, role: str, volume: str) -> bool:
    """Whether the layer of that role shows the prediction of this run."""
    layer = opened.output(role, volume)
    return layer is not None and layer.metadata.get("run") == run


def shown_already(opened: OpenProject, run: str, volume: str) -> bool:
    """Whether the layers show a run's prediction: its clusters if it has any, else its mask."""
    prediction = opened.project.predictions.of(run, volume)
    clusters = prediction is not None and prediction.outputs.are_clusters
    role = "clusters" if clusters else "mask"
    return is_of(opened, run, role, volume)


def _wanted(opened: OpenProject, volume: str) -> bool:
    """Whether a layer over a volume may be visible.

    Not over paint, nor during an audit, nor over another volume.
    """
    image = opened.image(volume)
    hidden = opened.annotating or opened.auditing
    return not hidden and (image is None or image.visible)


def show_classes(opened: OpenProject, run: str, volume: str) -> None:
    """Show a run's mask, and its probabilities as a hidden layer; nothing for unnamed clusters."""
    for _ in showing_classes(opened, run, volume):
        pass


def showing_classes(opened: OpenProject, run: str, volume: str) -> Iterator[None]:
    """The steps of `show_classes`, for `Session.in_turns`: each adds or removes a layer.

    The mask has the colours of the paint: it shows outlines where the paint is filled, and the
    reverse. It is hidden as well while its volume is hidden or a patch is annotated.
    """
    project = opened.project
    prediction = project.predictions.of(run, volume)
    stored = None if prediction is None else prediction.classes
    if stored is None:
        return
    placement = opened.place(volume).arguments()
    mask = OutlinedLabels(
        MaskOnView(stored, opened.mask.threshold, opened.mask.smallest),
        name=opened.called("mask", volume),
        colormap=mask_colours(project.classes),
        multiscale=False,
        visible=_wanted(opened, volume),
        metadata={"run": run},
        **placement,
    )
    draw_outlines(mask, outlines=not outlined(opened, "annotations", volume))
    # It is computed from probabilities: paint would be lost.
    mask.editable = False
    opened.add_output("mask", volume, mask)
    yield
    opened.remove_output("preview", volume)
    yield
    probability = Image(
        ColouredProbability(stored),
        name=opened.called("probability", volume),
        rgb=True,
        opacity=_FILLED,
        visible=False,
        multiscale=False,
        metadata={"run": run},
        **placement,
    )
    opened.add_output("probability", volume, probability)


def show_clusters(opened: OpenProject, run: str, volume: str) -> None:
    """Show the clusters that a run has found; nothing if it predicts classes."""
    project = opened.project
    prediction = project.predictions.of(run, volume)
    if prediction is None or not prediction.outputs.are_clusters:
        return
    outputs = prediction.outputs
    # Previews are of the section at which the training ended, and would lie over the clusters.
    opened.remove_previews(volume)
    layer = OutlinedLabels(
        Clusters(prediction.stored),
        name=opened.called("clusters", volume),
        opacity=0.4,
        colormap=cluster_colours(outputs.count, outputs.cluster_names, project.classes),
        multiscale=False,
        visible=_wanted(opened, volume),
        metadata={"run": run},
        **opened.place(volume).arguments(),
    )
    # It is computed from probabilities: paint would be lost.
    layer.editable = False
    opened.add_output("clusters", volume, layer)


def show_not_predicted(opened: OpenProject, run: str, volume: str) -> None:
    """Cover the part of a volume that a run has not predicted; no layer if there is none.

    Without it, that part would look like background.
    """
    prediction = opened.project.predictions.of(run, volume)
    part = None if prediction is None else prediction.predicted
    if part is None or part.is_all:
        opened.remove_output(NOT_PREDICTED, volume)
        return
    layer: Any = opened.output(NOT_PREDICTED, volume)
    if layer is not None and is_of(opened, run, NOT_PREDICTED, volume):
        layer.data.part = part
        layer.refresh()
        return
    layer = OutlinedLabels(
        NotPredicted(part),
        name=opened.called(NOT_PREDICTED, volume),
        opacity=_VEIL,
        colormap=DirectLabelColormap(color_dict={None: _GREY, 0: (0, 0, 0, 0), 1: _GREY}),
        multiscale=False,
        visible=_wanted(opened, volume),
        metadata={"run": run},
        **opened.place(volume).arguments(),
    )
    layer.editable = False
    opened.add_output(NOT_PREDICTED, volume, layer)


def rename_classes(opened: OpenProject, run: str, volume: str) -> None:
    """Update the layers of the classes after clusters of a run were named."""
    project = opened.project
    clusters: Any = opened.output("clusters", volume)
    prediction = project.predictions.of(run, volume)
    stored = None if prediction is None else prediction.classes
    if prediction is not None and is_of(opened, run, "clusters", volume):
        outputs = prediction.outputs
        clusters.colormap = cluster_colours(outputs.count, outputs.cluster_names, project.classes)
    # All other layers show classes, which exist only as far as clusters have names.
    class_roles = [role for role in roles() if role not in ("clusters", NOT_PREDICTED)]
    if stored is None:
        for role in class_roles:
            opened.remove_output(role, volume)
    elif not all(is_of(opened, run, role, volume) for role in class_roles):
        show_classes(opened, run, volume)
    else:
        for role in class_roles:
            layer: Any = opened.output(role, volume)
            # Replaced inside the layer: a new layer would blink and lose the user's settings.
            layer.data.probabilities = stored
            layer.refresh()

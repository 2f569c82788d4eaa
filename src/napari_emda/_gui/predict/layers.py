"""The layers that show a prediction: classes with their mask, or clusters. No Qt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from napari.layers import Image, Labels
from napari.utils.colormaps import Colormap

from napari_emda._gui.common.palette import class_colour, cluster_colours, mask_colours
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.lazy_layers import Clusters, MaskOnView
from napari_emda.data.probabilities import ClassProbability


def roles(opened: OpenProject) -> list[str]:
    """The roles of the layers that show a prediction."""
    classes = range(1, len(opened.project.classes))
    return ["mask", "clusters", *(f"probability {k}" for k in classes)]


def hide(opened: OpenProject, volume: str, among: Iterable[str]) -> None:
    """Hide the layers of a volume that have one of these roles."""
    for role in among:
        layer = opened.output(role, volume)
        if layer is not None:
            layer.visible = False


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
    """Whether a layer over a volume may be visible: not over paint, nor over another volume."""
    image = opened.image(volume)
    return not opened.annotating and (image is None or image.visible)


def show_classes(opened: OpenProject, run: str, volume: str) -> None:
    """Show a run's mask, and its probabilities as hidden layers; nothing for unnamed clusters.

    The mask is hidden as well while its volume is hidden or a patch is annotated, because it has
    the colours of the paint.
    """
    project = opened.project
    prediction = project.predictions.of(run, volume)
    stored = None if prediction is None else prediction.classes
    if stored is None:
        return
    placement = opened.place(volume).arguments()
    for index, name in enumerate(project.classes[1:]):
        opened.remove_output(f"preview {index}", volume)
        probability = Image(
            ClassProbability(stored, index + 1),
            name=opened.called(f"probability of {name}", volume),
            colormap=Colormap(["black", class_colour(index + 1)], name=f"emda-{name}"),
            visible=False,
            # Black adds nothing, so the image stays visible below and classes mix.
            blending="additive",
            contrast_limits=(0, 255),
            multiscale=False,
            metadata={"run": run},
            **placement,
        )
        opened.add_output(f"probability {index + 1}", volume, probability)
    mask = Labels(
        MaskOnView(stored, opened.mask.threshold, opened.mask.smallest),
        name=f"mask {volume}",
        opacity=0.5,
        colormap=mask_colours(project.classes),
        multiscale=False,
        visible=_wanted(opened, volume),
        metadata={"run": run},
        **placement,
    )
    # It is computed from probabilities: paint would be lost.
    mask.editable = False
    opened.add_output("mask", volume, mask)


def show_clusters(opened: OpenProject, run: str, volume: str) -> None:
    """Show the clusters that a run has found; nothing if it predicts classes."""
    project = opened.project
    prediction = project.predictions.of(run, volume)
    if prediction is None or not prediction.outputs.are_clusters:
        return
    outputs = prediction.outputs
    # Previews are of the section at which the training ended, and would lie over the clusters.
    opened.remove_previews(volume)
    layer = Labels(
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
    class_roles = [role for role in roles(opened) if role != "clusters"]
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

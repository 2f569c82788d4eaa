"""The layers in which a prediction is shown: classes with their mask, or clusters. No Qt."""

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
    """Of the layers that a prediction is shown in."""
    classes = range(1, len(opened.project.classes))
    return ["mask", "clusters", *(f"probability {k}" for k in classes)]


def hide(opened: OpenProject, volume: str, among: Iterable[str]) -> None:
    """Hide what is shown of a volume in some roles."""
    for role in among:
        layer = opened.output(role, volume)
        if layer is not None:
            layer.visible = False


def is_of(opened: OpenProject, run: str, role: str, volume: str) -> bool:
    """Whether the layer of that role shows what this run predicted."""
    layer = opened.output(role, volume)
    return layer is not None and layer.metadata.get("run") == run


def shown_already(opened: OpenProject, run: str, volume: str) -> bool:
    """Whether the layers on view are those of a run: the clusters if it has any, else the mask."""
    prediction = opened.project.predictions.of(run, volume)
    clusters = prediction is not None and prediction.outputs.are_clusters
    role = "clusters" if clusters else "mask"
    return is_of(opened, run, role, volume)


def _wanted(opened: OpenProject, volume: str) -> bool:
    """Whether to show what lies over a volume: not over paint, nor over another volume."""
    image = opened.image(volume)
    return not opened.annotating and (image is None or image.visible)


def show_classes(opened: OpenProject, run: str, volume: str) -> None:
    """Show a run's probabilities (hidden at first) and its mask; nothing for clusters alone.

    The mask is hidden, too, while its volume is, or a patch is annotated: it has the colours of the
    paint.
    """
    project = opened.project
    prediction = project.predictions.of(run, volume)
    stored = None if prediction is None else prediction.classes
    if stored is None:
        return
    where = opened.place(volume).arguments()
    for index, name in enumerate(project.classes[1:]):
        opened.remove_output(f"preview {index}", volume)
        probability = Image(
            ClassProbability(stored, index + 1),
            name=opened.called(f"probability of {name}", volume),
            colormap=Colormap(["black", class_colour(index + 1)], name=f"emda-{name}"),
            visible=False,
            blending="additive",
            contrast_limits=(0, 255),
            multiscale=False,
            metadata={"run": run},
            **where,
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
        **where,
    )
    mask.editable = False
    opened.add_output("mask", volume, mask)


def show_clusters(opened: OpenProject, run: str, volume: str) -> None:
    """Show the clusters that a run has found; nothing where it has found none."""
    project = opened.project
    prediction = project.predictions.of(run, volume)
    if prediction is None or not prediction.outputs.are_clusters:
        return
    outputs = prediction.outputs
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
    layer.editable = False
    opened.add_output("clusters", volume, layer)


def rename_classes(opened: OpenProject, run: str, volume: str) -> None:
    """Bring the layers of the classes up to date after clusters of a run were named."""
    project = opened.project
    clusters: Any = opened.output("clusters", volume)
    prediction = project.predictions.of(run, volume)
    stored = None if prediction is None else prediction.classes
    if prediction is not None and is_of(opened, run, "clusters", volume):
        outputs = prediction.outputs
        clusters.colormap = cluster_colours(outputs.count, outputs.cluster_names, project.classes)
    made_of_names = [role for role in roles(opened) if role != "clusters"]
    if stored is None:
        for role in made_of_names:
            opened.remove_output(role, volume)
    elif not all(is_of(opened, run, role, volume) for role in made_of_names):
        show_classes(opened, run, volume)
    else:
        for role in made_of_names:
            layer: Any = opened.output(role, volume)
            layer.data.probabilities = stored
            layer.refresh()

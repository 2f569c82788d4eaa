"""The layers in which a prediction is shown: classes with their mask, or clusters. No Qt."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from napari.layers import Image, Labels
from napari.utils.colormaps import Colormap

from napari_emda._gui.common.palette import class_colour, cluster_colours, mask_colours
from napari_emda._gui.predict.lazy_layers import Clusters, MaskOnView
from napari_emda._gui.session import Session
from napari_emda.data.probabilities import ClassProbability


def roles(session: Session) -> list[str]:
    """Of the layers that a prediction is shown in."""
    assert session.project is not None
    return [
        "mask",
        "clusters",
        *(f"probability {k}" for k in range(1, len(session.project.classes))),
    ]


def hide(session: Session, volume: str, among: Iterable[str]) -> None:
    """Hide what is shown of a volume in some roles."""
    for role in among:
        layer = session.output(role, volume)
        if layer is not None:
            layer.visible = False


def shown_already(session: Session, run: str, volume: str) -> bool:
    """Whether the layers on view are those of a run; of clusters it takes more than the mask that is made of them."""
    project = session.project
    role = "mask" if project is None or project.clusters(run, volume) is None else "clusters"
    layer = session.output(role, volume)
    return layer is not None and layer.metadata.get("run") == run


def _wanted(session: Session, volume: str) -> bool:
    """Whether what lies over a volume is to be seen: not while paint is beneath it, nor over another volume."""
    image = session.image(volume)
    return not session.annotating and (image is None or image.visible)


def show_classes(session: Session, run: str, volume: str) -> None:
    """Show a run's probabilities (hidden at first) and the mask that follows from them; nothing for clusters alone.

    The mask is hidden, too, while its volume is, or a patch is annotated: it has the colours of the paint.
    """
    project = session.project
    assert project is not None
    stored = project.probabilities(run, volume)
    if stored is None:
        return
    where = session.place(volume).arguments()
    for index, name in enumerate(project.classes[1:]):
        session.remove_output(f"probability {index + 1}", volume)
        session.remove_output(f"preview {index}", volume)
        colour = Colormap(["black", class_colour(index + 1)], name=f"emda-{name}")
        session.output(
            f"probability {index + 1}",
            volume,
            partial(
                Image,
                ClassProbability(stored, index + 1),
                name=session.called(f"probability of {name}", volume),
                colormap=colour,
                visible=False,
                blending="additive",
                contrast_limits=(0, 255),
                multiscale=False,
                metadata={"run": run},
                **where,
            ),
        )
    session.remove_output("mask", volume)
    mask = Labels(
        MaskOnView(stored, session.threshold, session.smallest),
        name=f"mask {volume}",
        opacity=0.5,
        colormap=mask_colours(project.classes),
        multiscale=False,
        visible=_wanted(session, volume),
        metadata={"run": run},
        **where,
    )
    mask.editable = False
    session.output("mask", volume, lambda: mask)


def show_clusters(session: Session, run: str, volume: str) -> None:
    """Show the clusters that a run has found; nothing where it has found none."""
    project = session.project
    assert project is not None
    stored = project.clusters(run, volume)
    if stored is None:
        return
    session.remove_previews(volume)
    session.remove_output("clusters", volume)
    layer = Labels(
        Clusters(stored),
        name=session.called("clusters", volume),
        opacity=0.4,
        colormap=cluster_colours(stored.shape[0], project.names(run), project.classes),
        multiscale=False,
        visible=_wanted(session, volume),
        metadata={"run": run},
        **session.place(volume).arguments(),
    )
    layer.editable = False
    session.output("clusters", volume, lambda: layer)


def rename_classes(session: Session, run: str, volume: str) -> None:
    """Bring the layers of the classes up to date after clusters of a run were named."""
    project = session.project
    assert project is not None
    clusters: Any = session.output("clusters", volume)
    if clusters is not None and clusters.metadata.get("run") == run:
        count = len(clusters.colormap.color_dict) - 2  # 0 and what is no cluster
        clusters.colormap = cluster_colours(count, project.names(run), project.classes)
    stored = project.probabilities(run, volume)
    made_of_names = [role for role in roles(session) if role != "clusters"]
    layers: list[Any] = [session.output(role, volume) for role in made_of_names]
    if stored is None:
        for role in made_of_names:
            session.remove_output(role, volume)
    elif any(layer is None or layer.metadata.get("run") != run for layer in layers):
        show_classes(session, run, volume)
    else:
        for layer in layers:
            layer.data.probabilities = stored
            layer.refresh()

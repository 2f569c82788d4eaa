"""Colours of classes and scores: the same in every layer, list and button."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from napari.utils.colormaps import Colormap, DirectLabelColormap, ensure_colormap
from numpy.typing import NDArray

from napari_emda.data.class_colours import class_colour

# The golden ratio as a fraction of a turn: however many hues there are, the next one falls into the
# largest gap between them.
_GOLDEN_ANGLE = 0.618034
# Used in turn, so that clusters of similar hue differ in lightness.
_LIGHTNESS = (0.55, 0.72, 0.4)
# Opacity of clusters that have no name (45 %), as the last two digits of a colour.
_FAINT = "73"
# Of patches: green for annotated ones, grey for those that were put aside.
STATES = {"accepted": "#3fb27f", "partial": "#3fb27f", "skipped": "#a6a6a6", "unsure": "#a6a6a6"}


def annotation_colours(classes: Sequence[str]) -> DirectLabelColormap:
    """Colours of layers in which 0 is not annotated and k is class k - 1."""
    colours: dict[Any, Any] = {None: "transparent", 0: "transparent"}
    return DirectLabelColormap(
        color_dict=colours | {k + 1: class_colour(k) for k in range(len(classes))}
    )


def mask_colours(classes: Sequence[str]) -> DirectLabelColormap:
    """Colours of layers in which k is class k."""
    colours: dict[Any, Any] = {None: "transparent", 0: "transparent"}
    return DirectLabelColormap(
        color_dict=colours | {k: class_colour(k) for k in range(1, len(classes))}
    )


def cluster_colour(cluster: int) -> str:
    """The colour of a cluster, from 1: hues a golden angle apart, in three lightnesses."""
    hue = cluster * _GOLDEN_ANGLE % 1
    red, green, blue = colorsys.hls_to_rgb(hue, _LIGHTNESS[cluster % 3], 0.75)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def cluster_colours(
    count: int, names: Mapping[int, str] | None = None, classes: Sequence[str] = ()
) -> DirectLabelColormap:
    """Colours of layers in which k is cluster k.

    Args:
        count: of clusters.
        names: class by cluster. A named cluster has the colour of its class; as soon as there is
            one, the others become fainter.
        classes: of the project.
    """
    named = names or {}
    colours: dict[Any, Any] = {None: "transparent", 0: "transparent"}
    for cluster in range(1, count + 1):
        faint = _FAINT if named and cluster not in named else ""
        colours[cluster] = named_colour(cluster, named, classes) + faint
    return DirectLabelColormap(color_dict=colours)


def named_colour(cluster: int, names: Mapping[int, str], classes: Sequence[str]) -> str:
    """The colour of a cluster's class, or of the cluster if it has no name."""
    name = names.get(cluster)
    return class_colour(classes.index(name)) if name in classes else cluster_colour(cluster)


def uncertainty_colours() -> Colormap:
    """Colours of uncertainty over an image: transparent up to a usual value, then amber to red."""
    stops = [(1, 0.75, 0.1, 0), (1, 0.6, 0.05, 0.4), (0.9, 0.1, 0.1, 0.65)]
    return Colormap(stops, name="emda-uncertainty", display_name="uncertainty")


def score_colours(
    scores: Sequence[float], states: Sequence[str], limits: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """RGBA of each region: violet (low score) to yellow (high) while open, else green or grey.

    Args:
        scores: of the regions.
        states: of the regions.
        limits: the scores of the ends of the scale; by default the lowest and highest.
    """
    values = np.asarray(scores, float)
    low, high = limits or (values.min(initial=np.inf), values.max(initial=-np.inf))
    # With a single score there is no scale: it gets the colour of the highest.
    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.ones(len(values))
    # Without the first third of the colour map, whose dark blue vanishes over a micrograph.
    colours = ensure_colormap("plasma").map(0.35 + 0.6 * share)
    for index, state in enumerate(states):
        if state in STATES:
            code = STATES[state].lstrip("#")
            colours[index] = [*(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)), 1]
    return np.asarray(colours, np.float32)

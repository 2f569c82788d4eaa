"""Layers that show the files of a volume, at its place."""

from __future__ import annotations

from pathlib import Path

from napari.layers import Image

from napari_emda._gui.common.adapters import Placement
from napari_emda._gui.common.outlined_labels import OutlinedLabels
from napari_emda.io.read import open_image, open_labels


def image_layer(path: Path, name: str, place: Placement, *, visible: bool) -> Image:
    """A layer of grey values; EmdaError if the file cannot be read."""
    # Whether it has several scales is stated, because napari would guess it from the shape.
    return Image(
        open_image(path).array,
        name=name,
        multiscale=False,
        visible=visible,
        **place.arguments(),
    )


def labels_layer(path: Path, name: str, place: Placement) -> OutlinedLabels:
    """A layer of labels; hidden, because it would cover the image. EmdaError as for an image."""
    labels = OutlinedLabels(
        open_labels(path).array,
        name=name,
        multiscale=False,
        visible=False,
        **place.arguments(),
    )
    # The source labels are the user's file: painting belongs in the annotations.
    labels.editable = False
    return labels

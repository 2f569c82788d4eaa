"""Guesses that save clicks: which layers belong together, and what the labels show. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from napari.layers import Layer

from napari_emda._gui.common.layer_volumes import array_of


def class_in_name(labels: str, source: str) -> str:
    """The class name in the name of a labels layer.

    >>> class_in_name("VNC mitochondria", "VNC")
    'mitochondria'
    """
    # "VNC mitochondria" beside "VNC": what the image's name contains says nothing about the class.
    words = [
        word
        for word in labels.replace("_", " ").split()
        if word.lower() not in source.replace("_", " ").lower()
    ]
    classes = [
        word
        for word in words
        if word.isalpha() and word.lower() not in ("label", "labels", "mask", "masks", "source")
    ]
    return classes[-1].lower() if classes else "foreground"


def image_of(labels: Layer, images: Sequence[Layer]) -> Layer | None:
    """The image to which labels most likely belong; None if there are no images."""

    def likelihood(image: Layer) -> tuple[bool, int]:
        # "source_labels" belongs to "source" rather than to "target", if both have its shape.
        pairs = zip(image.name.lower(), labels.name.lower(), strict=False)
        common = takewhile(lambda pair: pair[0] == pair[1], pairs)
        return belong(image, labels), sum(1 for _ in common)

    return max(images, key=likelihood, default=None)


def labels_of(candidates: Sequence[Layer], images: Sequence[Layer]) -> Layer | None:
    """The labels to choose: the first that fit an image; None if there are none."""
    fitting = (labels for labels in candidates if any(belong(image, labels) for image in images))
    return next(fitting, next(iter(candidates), None))


def belong(image: Layer, labels: Layer) -> bool:
    """Whether labels may belong to an image, judged by their shapes."""
    return tuple(array_of(image).shape) == tuple(array_of(labels).shape)

"""The images of a layer, or of its file, that holds several: channels, times, scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer

from napari_emda._gui.common.layer_volumes import (
    PART,
    finest,
    note_source,
    source_of,
    three,
)
from napari_emda.errors import EmdaError
from napari_emda.io.axes import Layout, layout, volume_of
from napari_emda.io.location import WHOLE, Part, SeveralImages, axis_word
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.reader import volume_name

LayerData = tuple[Any, dict[str, Any], str]

# Numbers of this size are those of objects: grey values have 8 or 16 bits, or are decimal.
_OBJECT_BYTES = 4


@dataclass(frozen=True)
class Images:
    """The images of a layer.

    Attributes:
        layer: as napari has opened it.
        file: of the images; None if the layer alone has them.
        question: which of them is meant.
    """

    layer: Layer
    file: Path | None
    question: SeveralImages

    def open(self, part: Part) -> Layer:
        """A layer of one of the images, which is read where it is on view.

        Raises:
            SeveralImages: the image holds several in turn.
            DataError: the file has changed meanwhile.
        """
        if self.file is None:
            return Layer.create(*_of_array(self.layer, part))
        new = Layer.create(*of_file(self.file, part, labels=isinstance(self.layer, Labels)))
        note_source(new, self.file)
        return new


def images_of(layer: Layer) -> Images | None:
    """The images of a layer of which one has to be chosen; None if there is one.

    Headers of its file are read, perhaps over a network.
    """
    own = _in_array(layer)
    path = source_of(layer)
    if path is None:
        return None if own is None else Images(layer, None, own)
    try:
        open_image(Path(path))
    except SeveralImages as several:
        # Other readers make a layer of each channel.
        same = _without_ones(several.shape) == _without_ones(finest(layer).shape)
        if several.count > 1 and (own or same or PART in layer.metadata or not several.axes):
            return Images(layer, Path(path), several)
    except (EmdaError, OSError, ValueError):
        pass
    return None if own is None else Images(layer, None, own)


def of_file(file: Path, part: Part, *, labels: bool = False) -> LayerData:
    """What napari makes a layer of, from an image in a file.

    Args:
        file: a file that has a reader.
        part: of the file.
        labels: whether it holds labels, whatever its type is.
    """
    path = Path(f"{file}{part}")
    stored = open_labels(path) if labels else open_image(path)
    options: dict[str, Any] = {"name": volume_name(path), "metadata": {PART: str(part)}}
    # A size that is known in part is asked for in the dock, which looks into the file.
    if stored.nanometres is not None:
        options |= {"scale": stored.nanometres, "translate": stored.origin, "units": ("nm",) * 3}
    dtype = np.dtype(stored.array.dtype)
    if labels or (dtype.kind in "iu" and dtype.itemsize >= _OBJECT_BYTES):
        return stored.array, options | {"multiscale": False}, "labels"
    # Whether it has several scales is stated, because napari would guess it from the shape.
    return stored.array, options | {"multiscale": False}, "image"


def _in_array(layer: Layer) -> SeveralImages | None:
    """The question which image of a layer's array is meant; None if it is a volume."""
    if isinstance(layer, Image) and layer.rgb:
        return None
    try:
        _layout(layer, WHOLE)
    except SeveralImages as several:
        return several
    except EmdaError:
        pass
    return None


def _layout(layer: Layer, part: Part) -> Layout:
    return layout(finest(layer).shape, _names(layer), part, layer.name)


def _names(layer: Layer) -> list[str] | None:
    """The axes of a layer; None if they have no names."""
    names = [str(label).lower() for label in layer.axis_labels]
    return names if {"y", "x"} <= set(names) else None


def _of_array(layer: Layer, part: Part) -> LayerData:
    """The same as `of_file`, from the array of a layer and at its place."""
    view = volume_of(finest(layer), _names(layer), part, layer.name)
    found = _layout(layer, part)
    axes = [axis for axis in (found.sections, found.rows, found.columns) if axis is not None]
    linear = np.diag(np.asarray(layer.affine.linear_matrix))
    scale = linear * np.asarray(layer.scale)
    translate = linear * np.asarray(layer.translate) + np.asarray(layer.affine.translate)
    units = [str(layer.units[axis]) for axis in axes]
    chosen = [f"{axis_word(axis)} {number}" for axis, number in part.at.items()]
    options = {
        "name": " ".join([layer.name, *chosen]),
        "scale": three(scale[axes], 1),
        "translate": three(translate[axes], 0),
        "units": (units[:1] * 3 + units)[-3:],
        "multiscale": False,
    }
    return view, options, "labels" if isinstance(layer, Labels) else "image"


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [length for length in shape if length > 1]

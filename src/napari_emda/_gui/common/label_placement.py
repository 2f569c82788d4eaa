"""Labels on the voxels of their image, wherever napari shows them."""

from __future__ import annotations

from napari.layers import Layer

from napari_emda._gui.common.layer_volumes import (
    array_of,
    is_unplaced,
    numbers_of,
    transform_of,
    units_of,
)
from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.label_meaning import LabelMeaning, MeantLabels
from napari_emda.data.placement import Placed, Placement, placed
from napari_emda.data.units import nanometres


def labels_on(image: Layer, labels: Layer) -> Placed | None:
    """Labels on an image's voxels; None if they lie on them already, voxel by voxel.

    Raises:
        DataError: they lie between the voxels, are flipped, or have voxels that do not fit.
    """
    # A file without a voxel size is shown at 1 x 1 x 1 pixel, wherever its image lies: its voxels
    # are those of the image. If both have none, they lie where they were moved to.
    if is_unplaced(image) != is_unplaced(labels):
        return None
    shape = array_of(image).shape
    z, y, x = shape
    return placed(labels.name, numbers_of(labels), _place(labels), (z, y, x), _place(image))


def labels_to_learn(
    image: Layer, labels: Layer, meaning: LabelMeaning, classes: int
) -> tuple[Array, LabelMeaning]:
    """Labels on an image's voxels, and what their numbers mean then.

    Args:
        image: whose voxels count.
        labels: of the image, or of a part of it: what they do not cover is not labelled.
        meaning: of the numbers in the labels.
        classes: number of classes, background included.

    Raises:
        DataError: see `labels_on`.
    """
    found = labels_on(image, labels)
    if found is None:
        return numbers_of(labels), meaning
    if found.covered == Box.whole(found.shape):
        return found, meaning
    # 0 stands where no label lies, whatever it means where labels lie.
    annotated = MeantLabels(found, meaning, classes, covered=found.covered)
    return annotated, LabelMeaning.of_zero("unannotated")


def _place(layer: Layer) -> Placement:
    scale, translate = transform_of(layer)
    # A unit that is no length counts as nm, as the numbers are compared by napari.
    z, y, x = (nanometres(unit) or 1.0 for unit in units_of(layer))
    return Placement(
        (scale[0] * z, scale[1] * y, scale[2] * x),
        (translate[0] * z, translate[1] * y, translate[2] * x),
    )

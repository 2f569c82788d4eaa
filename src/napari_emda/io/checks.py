"""Checks whether an image and its labels can be used; each failure is one DataError sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_emda.data.array import Array
from napari_emda.data.volume import LabelsZero
from napari_emda.data.voxel_grid import Spacing
from napari_emda.errors import DataError
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.units import Stored

LARGEST_CLASS = 254
"""Class ids are stored as uint8, and 255 is IGNORE."""


def check_spacing(name: str, spacing: Sequence[float] | None) -> Spacing:
    """Return the voxel size as three positive, finite numbers (z, y, x)."""
    if spacing is None:
        raise DataError(
            f"The voxel size of '{name}' is not in its file: give it as three numbers z y x in nm."
        )
    if len(spacing) != 3 or not all(math.isfinite(side) and side > 0 for side in spacing):
        numbers = " ".join(f"{side:g}" for side in spacing)
        raise DataError(
            f"The voxel size of '{name}' is {numbers}: give three numbers above 0, z y x in nm."
        )
    z, y, x = (float(side) for side in spacing)
    return z, y, x


def check_image(name: str, image: Array) -> None:
    """Check that an image holds real, finite numbers on three axes.

    Raises:
        DataError: another number of axes, no voxels, another dtype, or NaN or infinite values.
    """
    if len(image.shape) != 3:
        raise DataError(
            f"The image '{name}' has {len(image.shape)} axes: use grey values with axes z, y, x."
        )
    if min(image.shape) < 1:
        raise DataError(f"The image '{name}' is empty: choose another one.")
    kind = np.dtype(image.dtype).kind
    if kind not in "buif":
        raise DataError(
            f"The image '{name}' holds {np.dtype(image.dtype)} values: use integers or floats."
        )
    # Integers are always finite, so only float images are read, one section at a time: a whole
    # volume may not fit into memory.
    if kind == "f":
        for z in range(image.shape[0]):
            if not np.isfinite(np.asarray(image[z])).all():
                raise DataError(
                    f"The image '{name}' has NaN or infinite values in section {z}: replace them, "
                    "for example by 0."
                )


def check_labels(
    name: str,
    labels: Array,
    shape: Sequence[int],
    classes: int,
    labels_zero: LabelsZero = "background",
) -> list[int]:
    """Check that labels are integers of the image's shape and fit the classes.

    Args:
        name: of the labels, for the messages.
        labels: (z, y, x), read section by section.
        shape: of the image.
        classes: number of classes, background included.
        labels_zero: whether 0 means background or "not annotated".

    Returns:
        The values that occur, in ascending order.

    Raises:
        DataError: another shape, floats, a single value, or more values than classes. With two
            classes every value above 0 is class 1, unless 0 means "not annotated".
    """
    if tuple(labels.shape) != tuple(shape):
        raise DataError(
            f"The labels of '{name}' are {_size(labels.shape)} voxels, the image is {_size(shape)}:"
            " both must have the same shape, so choose the labels that belong to this image."
        )
    if np.dtype(labels.dtype).kind not in "bui":
        raise DataError(
            f"The labels of '{name}' are {np.dtype(labels.dtype)} numbers: use integer labels."
        )
    values: set[int] = set()
    for z in range(labels.shape[0]):
        values.update(np.unique(np.asarray(labels[z])).tolist())
    # A network that sees one class only learns to predict it everywhere.
    if len(values) < 2:
        content = "empty" if values == {0} else f"all {values.pop()}"
        raise DataError(
            f"The labels of '{name}' are {content}: label some of the structure and some "
            "background."
        )
    unannotated = labels_zero == "unannotated"
    # If 0 means "not annotated", class k is stored as k + 1.
    highest = classes if unannotated else classes - 1
    # With background and one structure, masks of 0 and 255 and numbered objects are common and
    # unambiguous: everything above 0 is the structure.
    if (classes > 2 or unannotated) and not values <= set(range(highest + 1)):
        zero_meaning = ", and 0 means not annotated" if unannotated else ""
        raise DataError(
            f"The labels of '{name}' hold the value {max(values)}, but there are {classes} "
            f"classes{zero_meaning}: use the values 0 to {highest} or name more classes."
        )
    return sorted(values)


def check_pair(
    source: tuple[str | Path, str | Path] | None,
    target: str | Path | None,
    classes: tuple[str, ...],
    spacing: Spacing | None = None,
    target_spacing: Spacing | None = None,
) -> list[str]:
    """Check the files of a new project before anything is created.

    Args:
        source: files of the source image and of its labels.
        target: file of the target image.
        classes: names, background first.
        spacing: voxel size of the source (z, y, x) in nm; None to take it from the file.
        target_spacing: as ``spacing``, of the target.

    Returns:
        What the user should know although it is no mistake, one sentence each.

    Raises:
        DataError: a file cannot be opened or used, neither volume is given, or the two volumes
            were swapped (the labels fit the target and not the source).
    """
    if source is None and target is None:
        raise DataError(
            "A project needs a volume: give a source with its labels, a target, or both."
        )
    stored_target = None if target is None else open_image(Path(target))
    notices = [] if source is None else _check_source(source, stored_target, classes, spacing)
    if target is not None and stored_target is not None:
        _check_file(target, stored_target, target_spacing)
    return notices


def _check_source(
    source: tuple[str | Path, str | Path],
    target: Stored | None,
    classes: tuple[str, ...],
    spacing: Spacing | None,
) -> list[str]:
    image_path, labels_path = map(Path, source)
    image = open_image(image_path)
    labels = open_labels(labels_path)
    shape = tuple(labels.array.shape)
    # Before the other checks: "another shape" would not tell the user what is wrong.
    if target is not None and shape == tuple(target.array.shape) != tuple(image.array.shape):
        raise DataError(
            "The labels fit the target and not the source: swap source and target, the source has "
            "the labels."
        )
    _check_file(image_path, image, spacing)
    values = check_labels(image_path.name, labels.array, image.array.shape, len(classes))
    return values_notices(labels_path.name, values, classes)


def values_notices(name: str, values: Sequence[int], classes: Sequence[str]) -> list[str]:
    """What the user should know about the values of a label image, one sentence each.

    Args:
        name: of the labels.
        values: those that occur (see `check_labels`).
        classes: names, background first.
    """
    # Three and more values for two classes: numbered objects, which is fine, or a mistake such as
    # an image chosen instead of its labels, which no check can tell from objects.
    if len(classes) != 2 or len(values) <= 2:
        return []
    return [
        f"The labels {name} hold {len(values)} different values, and all above 0 count as "
        f"'{classes[1]}': name more classes with --classes if they are classes, and choose "
        "another file if they are grey values."
    ]


def _check_file(path: str | Path, stored: Stored, spacing: Spacing | None) -> None:
    name = Path(path).name
    check_spacing(name, spacing or stored.nanometres)
    check_image(name, stored.array)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(length) for length in shape)

"""Whether an image and its labels can be used; each refusal is one DataError sentence."""

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
"""Class ids are kept in eight bits, and 255 is IGNORE."""


def check_spacing(name: str, spacing: Sequence[float] | None) -> Spacing:
    """The voxel size as three positive finite numbers (z, y, x)."""
    if spacing is None:
        raise DataError(
            f"The voxel size of '{name}' is not in its file: give it as three numbers z y x in nm."
        )
    if len(spacing) != 3 or not all(math.isfinite(v) and v > 0 for v in spacing):
        given = " ".join(f"{v:g}" for v in spacing)
        raise DataError(
            f"The voxel size of '{name}' is {given}: give three numbers above 0, z y x in nm."
        )
    z, y, x = (float(v) for v in spacing)
    return z, y, x


def check_image(name: str, image: Array) -> None:
    """Real, finite numbers on three axes; only float images are read through, section by section."""
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
    if kind == "f":
        for z in range(image.shape[0]):
            if not np.isfinite(np.asarray(image[z])).all():
                raise DataError(
                    f"The image '{name}' has NaN or infinite values in section {z}: replace them, for example by 0."
                )


def check_labels(
    name: str,
    labels: Array,
    shape: Sequence[int],
    classes: int,
    labels_zero: LabelsZero = "background",
) -> list[int]:
    """Integer labels of the image's shape with at least two values that fit the classes; returns the values.

    Raises:
        DataError: another shape, floats, one value only, or more values than classes (with two classes all above 0 are
            class 1, unless 0 means not annotated).
    """
    if tuple(labels.shape) != tuple(shape):
        raise DataError(
            f"The labels of '{name}' are {_size(labels.shape)} voxels, the image is {_size(shape)}: both must have the "
            "same shape, so choose the labels that belong to this image."
        )
    if np.dtype(labels.dtype).kind not in "bui":
        raise DataError(
            f"The labels of '{name}' are {np.dtype(labels.dtype)} numbers: use integer labels."
        )
    values: set[int] = set()
    for z in range(labels.shape[0]):
        values.update(np.unique(np.asarray(labels[z])).tolist())
    if len(values) < 2:
        what = "empty" if values == {0} else f"all {values.pop()}"
        raise DataError(
            f"The labels of '{name}' are {what}: label some of the structure and some background."
        )
    unannotated = labels_zero == "unannotated"
    highest = classes if unannotated else classes - 1
    if (classes > 2 or unannotated) and not values <= set(range(highest + 1)):
        meaning = ", and 0 means not annotated" if unannotated else ""
        raise DataError(
            f"The labels of '{name}' hold the value {max(values)}, but there are {classes} classes{meaning}: use the "
            f"values 0 to {highest} or name more classes."
        )
    return sorted(values)


def check_pair(
    source: tuple[str | Path, str | Path] | None,
    target: str | Path | None,
    classes: tuple[str, ...],
    spacing: Spacing | None = None,
    target_spacing: Spacing | None = None,
) -> list[str]:
    """Check the files of a new project before anything is made; DataError with one sentence.

    Labels that fit the target but not the source mean that the two were swapped.

    Returns:
        What the user should know although it is no mistake, a sentence each.
    """
    if source is None and target is None:
        raise DataError(
            "A project needs a volume: give a source with its labels, a target, or both."
        )
    other = None if target is None else open_image(Path(target))
    notices = [] if source is None else _check_source(source, other, classes, spacing)
    if target is not None and other is not None:
        _check_file(target, other, target_spacing)
    return notices


def _check_source(
    source: tuple[str | Path, str | Path],
    target: Stored | None,
    classes: tuple[str, ...],
    spacing: Spacing | None,
) -> list[str]:
    image, labels = open_image(Path(source[0])), open_labels(Path(source[1]))
    shape = tuple(labels.array.shape)
    if target is not None and shape == tuple(target.array.shape) != tuple(image.array.shape):
        raise DataError(
            "The labels fit the target and not the source: swap source and target, the source has the labels."
        )
    _check_file(source[0], image, spacing)
    values = check_labels(Path(source[0]).name, labels.array, image.array.shape, len(classes))
    return values_notices(Path(source[1]).name, values, classes)


def values_notices(name: str, values: Sequence[int], classes: Sequence[str]) -> list[str]:
    """What the user should know of the values of a label image (see `check_labels`), a sentence each."""
    if len(classes) != 2 or len(values) <= 2:
        return []
    return [
        f"The labels {name} hold {len(values)} different values, and all above 0 count as '{classes[1]}': name more "
        "classes with --classes if they are classes, and choose another file if they are grey values."
    ]


def _check_file(path: str | Path, stored: Stored, spacing: Spacing | None) -> None:
    name = Path(path).name
    check_spacing(name, spacing or stored.nanometres)
    check_image(name, stored.array)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)

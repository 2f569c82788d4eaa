"""Checks whether an image and its labels can be used; each failure is one DataError sentence."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from napari_emda.data.array import Array
from napari_emda.data.blocks import strips
from napari_emda.data.box import Box
from napari_emda.data.label_likeness import seems_labels
from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.data.label_question import Question, question, value_remark
from napari_emda.data.label_values import LabelValues, inspect, whole_numbers
from napari_emda.data.units import LARGEST_SIZE, SMALLEST_SIZE
from napari_emda.data.volume import Domain, LabelsZero
from napari_emda.data.voxel_grid import Spacing
from napari_emda.errors import DataError, listed
from napari_emda.io.location import located
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.units import Stored

# Sections that show whether half of them are empty; quick even on a network drive.
_FEW_SECTIONS = 64
# Numbers in labels that a message lists.
_FEW_NUMBERS = 4
# Sections of labels that are read first. Most mistakes are in all of them.
_FIRST_SECTIONS = 16


def check_spacing(
    name: str,
    spacing: Sequence[float] | None,
    stored: Stored | None = None,
    option: str = "",
    *,
    independent: bool = False,
) -> Spacing:
    """Return the voxel size as three positive, finite numbers (z, y, x) in nm.

    Args:
        name: of the image, for the messages.
        spacing: as the user gives it; None to take it from the file.
        stored: the file, if there is one.
        option: of the command line that sets it.
        independent: whether the sections are independent images, whose distance has no meaning.

    Raises:
        DataError: nobody states the voxel size, or no voxel can have it; the message says along
            which axes it is missing.
    """
    if spacing is None and stored is not None:
        z, y, x = stored.sizes
        # As for a single image: the height of a row, which is as good as any number.
        z = y if z is None and independent else z
        spacing = stored.nanometres if z is None or y is None or x is None else (z, y, x)
    if spacing is None:
        raise DataError(
            f"The voxel size of '{name}' is not in its file: {_how_to_give(stored, option)}."
        )
    if len(spacing) != 3 or not all(math.isfinite(side) and side > 0 for side in spacing):
        numbers = " ".join(f"{side:g}" for side in spacing)
        raise DataError(
            f"The voxel size of '{name}' is {numbers}: give three numbers above 0, z y x in nm."
        )
    if not all(SMALLEST_SIZE <= side <= LARGEST_SIZE for side in spacing):
        numbers = " ".join(f"{side:g}" for side in spacing)
        raise DataError(
            f"The voxel size of '{name}' is {numbers}: give z y x in nm, each between "
            f"{SMALLEST_SIZE:g} and {LARGEST_SIZE:g}."
        )
    z, y, x = (float(side) for side in spacing)
    return z, y, x


def _how_to_give(stored: Stored | None, option: str) -> str:
    """How to state a voxel size that is missing along some axes, or along all."""
    sizes = (None, None, None) if stored is None else stored.sizes
    # What the file says and cannot be right, so that the user sees why it was not taken.
    remark = f" (the file says {stored.remark})" if stored is not None and stored.remark else ""
    missing = [axis for axis, size in zip("ZYX", sizes, strict=True) if size is None]
    if len(missing) == 3:
        with_option = f" with {option}" if option else ""
        return f"give it as three numbers z y x in nm{with_option}{remark}"
    numbers = " ".join(
        axis if size is None else f"{size:g}" for axis, size in zip("ZYX", sizes, strict=True)
    )
    meaning = (
        "Z is the distance of its sections" if missing == ["Z"] else f"{listed(missing)} is missing"
    )
    return f"give it as {' '.join(filter(None, [option, numbers]))} in nm, where {meaning}{remark}"


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
    # Integers are always finite, so only float images are read, part by part: a whole volume may
    # not fit into memory.
    if kind == "f":
        for part in strips(Box.whole(image.shape)):
            if not np.isfinite(np.asarray(image[part.slices])).all():
                raise DataError(
                    f"The image '{name}' has NaN or infinite values in section {part.start[0]}: "
                    "replace them, for example by 0."
                )


class LabelsInDoubt(DataError):
    """Labels that can be used once the user has answered a question about them.

    Attributes:
        question: what to ask.
    """

    def __init__(self, name: str, question: Question) -> None:
        super().__init__(f"In the labels of '{name}', {question.text}: {question.remedy}.")
        self.question = question


def check_labels(
    name: str,
    labels: Array,
    shape: Sequence[int],
    classes: int,
    labels_zero: LabelsZero = "background",
    meaning: LabelMeaning | None = None,
    *,
    one_class: bool = False,
) -> list[int]:
    """Check that labels are whole numbers of the image's shape and fit the classes.

    Args:
        name: of the labels, for the messages.
        labels: (z, y, x), read section by section.
        shape: of the image.
        classes: number of classes, background included.
        labels_zero: whether 0 means background or "not annotated".
        meaning: what the user says about the numbers; by default that of ``labels_zero``.
        one_class: whether a single class is enough, as where other annotations have the rest.

    Returns:
        The values that occur and are not ignored, in ascending order.

    Raises:
        DataError: another shape, decimal numbers, a single value, more values than classes, or no
            voxel of the number that is said to be the background. With two classes every value
            above 0 is class 1, unless 0 means "not annotated".
        LabelsInDoubt: no voxel is background, or a number looks like "nobody looked there".
    """
    if tuple(labels.shape) != tuple(shape):
        raise DataError(
            f"The labels of '{name}' are {_size(labels.shape)} voxels, the image is {_size(shape)}:"
            " both must have the same shape, so choose the labels that belong to this image."
        )
    if np.dtype(labels.dtype).kind not in "buif":
        raise DataError(
            f"The labels of '{name}' are {np.dtype(labels.dtype)} values: use whole numbers."
        )
    labels = whole_numbers(labels, name)
    meaning = meaning or LabelMeaning.of_zero(labels_zero)
    # Few sections of a large volume show most mistakes, long before all of it is read.
    if labels.shape[0] > _FIRST_SECTIONS:
        first = inspect(labels, _FIRST_SECTIONS)
        # Without a 0 or the background in them, the rest may show what the numbers mean.
        if {0, meaning.background or 0} <= first.counts.keys():
            _check_numbers(name, first, meaning, classes)
    found = inspect(labels)
    ignored = meaning.ignore or ()
    values = found.without(ignored)
    # A network that sees one class only learns to predict it everywhere.
    if len(values) < 1 + (not one_class):
        content = "empty" if values in ([], [0]) else f"all {values[0]}"
        except_for = f" but for {_numbers(ignored)}" if set(ignored) & found.counts.keys() else ""
        raise DataError(
            f"The labels of '{name}' are {content}{except_for}: label some of the structure and "
            "some background."
        )
    if meaning.background and meaning.background not in found.counts and not one_class:
        raise DataError(
            f"No voxel in the labels of '{name}' holds {meaning.background}, which is said to be "
            f"the background: they hold {_few(values)}, so give the number that is."
        )
    _check_numbers(name, found, meaning, classes)
    if asked := question(found, meaning, classes):
        raise LabelsInDoubt(name, asked)
    return values


def _check_numbers(name: str, found: LabelValues, meaning: LabelMeaning, classes: int) -> None:
    """DataError if a number is no class."""
    wrong = [number for number in sorted(found.counts) if not meaning.is_class(number, classes)]
    if not wrong:
        return
    # Numbers below 0 are asked about, and so are labels that begin at 1: they hold one number more.
    asked = question(found, meaning, classes)
    if asked is not None and (asked.about == "background" or asked.number < 0):
        raise LabelsInDoubt(name, asked)
    if len(wrong) > _FEW_NUMBERS:
        raise DataError(
            f"The labels of '{name}' hold {len(found.counts)} different values, but there are "
            f"{classes} classes: numbers of objects are taken in a project of two classes, the "
            "background and one structure; otherwise give each class its own value."
        )
    number = wrong[-1]
    highest = max(n for n in range(classes + 1) if meaning.is_class(n, classes))
    zero_meaning = ", and 0 means not annotated" if 0 in (meaning.ignore or ()) else ""
    text = (
        f"{found.counts[number]} voxels hold the value {number}, but there are {classes} classes"
        f"{zero_meaning}"
    )
    remedy = f"use the values 0 to {highest} or name more classes"
    raise LabelsInDoubt(name, Question("ignore", number, text, remedy))


def _numbers(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


def _few(numbers: Sequence[int]) -> str:
    shown = [str(number) for number in numbers[:_FEW_NUMBERS]]
    return listed([*shown, "others"] if len(numbers) > _FEW_NUMBERS else shown)


def check_pair(
    source: tuple[str | Path, str | Path] | None,
    target: str | Path | None,
    classes: tuple[str, ...],
    spacing: Spacing | None = None,
    target_spacing: Spacing | None = None,
    meaning: LabelMeaning | None = None,
    independent: Collection[Domain] = (),
) -> list[str]:
    """Check the files of a new project before anything is created.

    Args:
        source: files of the source image and of its labels.
        target: file of the target image.
        classes: names, background first.
        spacing: voxel size of the source (z, y, x) in nm; None to take it from the file.
        target_spacing: as ``spacing``, of the target.
        meaning: of the numbers in the labels; by default 0 is background.
        independent: the volumes whose sections are independent images.

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
    notices = []
    if source is not None:
        alone = "source" in independent
        meaning = meaning or LabelMeaning()
        notices += _check_source(source, stored_target, classes, spacing, meaning, alone)
    if source and target and located(Path(source[0])).is_same_as(located(Path(target))):
        notices.append(
            f"{Path(target).name} is both source and target, so that nothing can be learnt about a "
            "new volume: choose another target, unless this is a test."
        )
    if target is not None and stored_target is not None:
        alone = "target" in independent
        notices += _check_file(target, stored_target, target_spacing, "--target-spacing", alone)
    # The labels of an image have its gaps, and the same files beside them.
    return list(dict.fromkeys(notices))


def _check_source(
    source: tuple[str | Path, str | Path],
    target: Stored | None,
    classes: tuple[str, ...],
    spacing: Spacing | None,
    meaning: LabelMeaning,
    independent: bool,
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
    notices = _check_file(image_path, image, spacing, "--spacing", independent)
    shape = image.array.shape
    values = check_labels(image_path.name, labels.array, shape, len(classes), meaning=meaning)
    return [
        *notices,
        *file_notices(labels, independent),
        *values_notices(labels_path.name, values, classes, meaning),
        *sections_notices(labels_path.name, labels.array, meaning),
    ]


def values_notices(
    name: str, values: Sequence[int], classes: Sequence[str], meaning: LabelMeaning
) -> list[str]:
    """What the user should know about the values of a label image, one sentence each.

    Args:
        name: of the labels.
        values: those that occur (see `check_labels`).
        classes: names, background first.
        meaning: of the values.
    """
    # Annotations of a patch or two need not hold every class.
    remark = value_remark(values, classes, meaning, complete=not meaning.is_partial)
    if not remark:
        return []
    remedy = (
        "that is right if they number objects; name more classes with --classes if they are "
        "classes, and choose another file if they are grey values"
        if len(classes) == 2
        else "check that this is the right file"
    )
    return [f"In the labels {name}, {remark}: {remedy}."]


def sections_notices(name: str, labels: Array, meaning: LabelMeaning) -> list[str]:
    """What the user should know if many sections of labels hold background only."""
    hint = inspect(labels, _FEW_SECTIONS).hint(meaning)
    if not hint:
        return []
    return [
        f"In the labels {name}, {hint}: say --zero sections if these are unlabelled rather than "
        "empty."
    ]


def _check_file(
    path: str | Path, stored: Stored, spacing: Spacing | None, option: str, independent: bool
) -> list[str]:
    name = Path(path).name
    notices = file_notices(stored, independent)
    used = check_spacing(name, spacing, stored, option, independent=independent)
    check_image(name, stored.array)
    if stated := stored.contradicts(used):
        given = " x ".join(f"{side:g}" for side in used)
        notices.append(
            f"{name} states {stated}, and {given} nm (z y x) is used as given with {option}."
        )
    # A few grey values are possible, so that this is not refused.
    if seems_labels(stored.array):
        notices.append(
            f"The image {name} looks like a mask or labels: check that it is not the wrong file."
        )
    return notices


def file_notices(stored: Stored, independent: bool) -> list[str]:
    """What the user should know about a file, one sentence each.

    Args:
        stored: the file.
        independent: whether its sections are independent images.

    Raises:
        DataError: its sections are not those of one volume, by all appearance.
    """
    if independent:
        return list(stored.notices)
    if stored.not_a_volume:
        raise DataError(stored.not_a_volume)
    return [*stored.notices, *filter(None, [stored.gap])]


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(length) for length in shape)

"""A model of another program becomes a model's file of ours, after its answer was checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_emda.data.model_description import ModelDescription
from napari_emda.data.names import check_shown_name, in_print
from napari_emda.data.processing import applied, measured
from napari_emda.errors import JobError
from napari_emda.inference import checkpoint
from napari_emda.inference.model_header import ModelHeader
from napari_emda.nn.network import NetworkConfig
from napari_emda.nn.networks.fixed import Fixed, Fixed3d, planes
from napari_emda.project.foreign_package import ForeignPackage, LeftOpen, read_package
from napari_emda.settings.requirements import FIXED
from napari_emda.settings.training import TrainSettings
from napari_emda.training.state import TrainingState

# How far an answer may be from the stated one, absolutely and relative to it; and the share of
# numbers that may be further away, as beside a threshold. bioimageio.core allows as much.
_TOLERANCE = 1e-3
_STRAYS = 1e-3
# Rounding of probabilities beyond 0 and 1, and of their sum.
_ROUNDING = 1e-2
# A halo that is not stated: a quarter of the smallest image, within these pixels.
_HALO = (16, 64)
_SECTION_HALO = (2, 16)
_UNNAMED = "foreground"


def convert(
    path: Path, out: Path, left_open: LeftOpen, own: float, section_distance: float = 0.0
) -> list[str]:
    """Check a package of another program, and write it as a model's file.

    Args:
        path: of the package.
        out: the file.
        left_open: what the package leaves open.
        own: pixel size that is taken if neither the package nor the user states one, in nm.
        section_distance: of the image, likewise, for models of volumes; 0 if it is not known.

    Returns:
        What the user should know, one sentence each.

    Raises:
        EmdaError: the package cannot be used; says why.
        OSError: a file cannot be read or written.
    """
    package = read_package(path)
    tried = _network(package, channels=(0,))
    answer = _tested(package, tried)
    channels, classes, notices = _classes(package, answer, left_open)
    network = _network(package, channels)
    pixel_size = package.inputs.pixel_size or left_open.pixel_size or own
    if not pixel_size:
        raise JobError(
            f"The package '{package.origin}' does not say at which pixel size its model works: "
            "give it in nm with --model-pixel-size."
        )
    if package.inputs.pixel_size is None and left_open.pixel_size is None:
        notices.append(
            f"The package does not say at which pixel size its model works, so it sees pixels of "
            f"{own:g} nm, as they are; --model-pixel-size (of new and models --add) changes that."
        )
    distance = package.inputs.section_distance or section_distance
    if package.inputs.deep and not distance:
        raise JobError(
            f"The package '{package.origin}' does not say how far apart the sections of its model "
            "lie: start a project of an image from it, whose sections it then sees (new --model)."
        )
    description = ModelDescription(name=package.title, licence=package.licence)
    header = ModelHeader(
        method=FIXED,
        classes=classes,
        network=NetworkConfig(
            name=network.name,
            classes=len(classes),
            section_ratio=distance / pixel_size if package.inputs.deep else 0,
            settings=network.settings.model_dump(mode="json"),
        ),
        section_distance=distance if package.inputs.deep else 1.0,
        pixel_size=pixel_size,
        description=description,
        step=1,
    )
    method = header.build()
    fixed = method.predictor
    assert isinstance(fixed, Fixed)
    fixed.content.copy_(torch.frombuffer(bytearray(package.weights), dtype=torch.uint8))
    checkpoint.save(
        out, header, method, training=TrainingState(settings=TrainSettings(steps=1, validations=0))
    )
    return notices


def _network(package: ForeignPackage, channels: tuple[int, ...]) -> Fixed:
    """The network of a package, without its content."""
    sides = package.inputs.sides
    margins = [
        _margin(side.smallest - 2 * lost, halo, deep=axis == 0)
        for axis, (side, lost, halo) in enumerate(
            zip(sides, package.outputs.lost, package.outputs.halo, strict=True)
        )
    ]
    settings = Fixed.Settings.parse(
        {
            "kind": package.kind,
            "sha256": package.sha256,
            "size": len(package.weights),
            "order": package.inputs.order,
            "output_order": package.outputs.order,
            "smallest": tuple(side.smallest for side in sides),
            "step": tuple(side.step for side in sides),
            "lost": package.outputs.lost,
            "margin": tuple(margins),
            "before": package.before,
            "after": package.after,
            "channels": channels,
        }
    )
    cls = Fixed3d if package.inputs.deep else Fixed
    network = cls(len(channels) + 1, settings)
    network.content = torch.frombuffer(bytearray(package.weights), dtype=torch.uint8)
    return network


def _margin(length: int, halo: int | None, *, deep: bool) -> int:
    """Pixels at each edge that are not used: as stated, or a part of the smallest output."""
    if halo is not None:
        return halo
    least, most = _SECTION_HALO if deep else _HALO
    # Of an image that can only be cut into windows, something must be left.
    return max(0, min(max(length // 4, least), most, (length - 1) // 2))


def _tested(package: ForeignPackage, network: Fixed) -> NDArray[np.float32]:
    """The output for the test image, channels x sections x rows x columns, which is as stated.

    Raises:
        JobError: it is another one.
    """
    image = _volume(package, package.test_input, package.inputs.order)
    expected = planes(package.test_output, package.outputs.order)
    answer = network.answer(applied(measured(package.before, image), image))
    if answer.shape != expected.shape:
        raise JobError(
            f"The model of '{package.origin}' returns {_shape(answer)} for its test image where "
            f"the package states {_shape(expected)}: choose another model."
        )
    difference = np.abs(answer - expected)
    # NaN is no agreement.
    strays = ~(difference <= _TOLERANCE * (1 + np.abs(expected)))
    if strays.mean() > _STRAYS:
        raise JobError(
            f"The model of '{package.origin}' does not give the answer to its test image that the "
            f"package states (largest difference {difference.max():.3g}, in {strays.mean():.0%} of "
            "the numbers): download it again, or choose another model."
        )
    if answer.min() < -_ROUNDING or answer.max() > 1 + _ROUNDING:
        raise JobError(
            f"The output of '{package.origin}' lies between {answer.min():.3g} and "
            f"{answer.max():.3g}, which are no probabilities: choose a model that ends in a "
            "sigmoid or softmax."
        )
    return answer


def _volume(
    package: ForeignPackage, tensor: NDArray[np.float32], order: str
) -> NDArray[np.float32]:
    """The test image as sections x rows x columns."""
    others = tuple(i for i, axis in enumerate(order) if axis not in "zyx")
    if tensor.ndim != len(order) or any(tensor.shape[i] != 1 for i in others):
        raise JobError(
            f"The test image of '{package.origin}' is {_shape(tensor)}, and its description says "
            f"'{order}': choose another model."
        )
    image = tensor.squeeze(others)
    axes = [axis for axis in order if axis in "zyx"]
    image = image if "z" in axes else image[None]
    axes = axes if "z" in axes else ["z", *axes]
    return image.transpose([axes.index(axis) for axis in "zyx"])


def _classes(
    package: ForeignPackage, answer: NDArray[np.float32], left_open: LeftOpen
) -> tuple[tuple[int, ...], tuple[str, ...], list[str]]:
    """Which channels are which classes.

    Args:
        package: of the model.
        answer: to the test image, channels first.
        left_open: by the package, as the user says.

    Returns:
        The channel of each class but the background; all names; what the user should know.

    Raises:
        JobError: that is not clear, or the project has other classes.
    """
    count = len(answer)
    names = package.channels if len(package.channels) == count else ()
    shown = f" ({', '.join(names)})" if names else ""
    notices = []
    if left_open.channels is not None:
        channels = left_open.channels
        if not channels or len(set(channels)) < len(channels) or max(channels) >= count:
            raise JobError(
                f"The model has {count} channels{shown}, numbered from 0: choose each of them "
                "once with --model-channel."
            )
    elif count == 1:
        channels = (0,)
    elif np.abs(answer.sum(0) - 1).max() <= _ROUNDING:
        channels = tuple(range(1, count))
        first = f"'{names[0]}'" if names else "the first one"
        notices.append(
            f"The model predicts {count} classes{shown}, and {first} is taken for the background."
        )
    else:
        raise JobError(
            f"The model predicts {count} channels{shown} that are no classes, because they do not "
            "add up to 1: say which of them shows the structure, with --model-channel (of new and "
            "models --add)."
        )
    classes = left_open.classes
    if classes is None:
        own = [_name(names[channel]) if names else "" for channel in channels]
        unnamed = _UNNAMED if len(channels) == 1 else f"{_UNNAMED} {{}}"
        own = [name or unnamed.format(index) for index, name in enumerate(own, 1)]
        classes = ("background", *own)
        if len(set(classes)) < len(classes):
            classes = ("background", *(f"{_UNNAMED} {i}" for i in range(1, len(classes))))
    if len(classes) != len(channels) + 1:
        raise JobError(
            f"The model predicts {len(channels)} classes besides the background{shown}, and the "
            f"project has {len(classes) - 1} ({', '.join(classes[1:])}): leave out the classes, or "
            "choose channels with --model-channel."
        )
    return channels, classes, notices


def _name(text: str) -> str:
    """The name of a channel as that of a class; empty if it says nothing."""
    try:
        name = check_shown_name(in_print(text))
    except ValueError:
        return ""
    # bioimageio.spec numbers channels without names.
    return "" if name.lower().startswith("channel") else name


def _shape(array: Sequence[float] | NDArray[np.float32]) -> str:
    return " x ".join(map(str, np.shape(array)))

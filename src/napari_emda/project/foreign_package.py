"""Packages of other programs: what bioimage.io descriptions 0.4 and 0.5 say of a model.

Only what can be computed in blocks and means what it says is taken; anything else is refused in one
sentence. Read without torch, and without bioimageio.spec: that also checks what does not matter
here, such as covers and citations, and asks servers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.names import in_one_line, in_print
from napari_emda.data.processing import Step
from napari_emda.errors import JobError, listed
from napari_emda.project.model_file import IN_PACKAGE
from napari_emda.project.package_axes import InputAxes, OutputAxes, input_axes, output_axes
from napari_emda.project.package_files import (
    PackageFiles,
    description_of,
    is_package,
    package_files,
    read_array,
    read_checked,
)
from napari_emda.project.package_steps import steps_of

Kind = Literal["onnx", "torchscript"]
_KINDS: tuple[Kind, ...] = ("onnx", "torchscript")
_VERSIONS = ("0.4", "0.5")
# Characters of texts that are shown.
_LONGEST_TEXT = 100


@dataclass(frozen=True)
class LeftOpen:
    """What a package leaves open, as the user says it.

    Attributes:
        classes: names, background first; None for those of the package.
        channels: of the output that show the classes but the background, from 0; None for all that
            are classes.
        pixel_size: at which the model works, in nm, where the package does not say it.
    """

    classes: tuple[str, ...] | None = None
    channels: tuple[int, ...] | None = None
    pixel_size: float | None = None


@dataclass(frozen=True)
class ForeignPackage:
    """A model of another program, as its package describes it.

    Attributes:
        origin: name of the package's file.
        title: name of the model.
        licence: SPDX identifier; may be empty.
        kind: of the weights.
        weights: content of their file.
        sha256: of the weights.
        inputs, outputs: their axes.
        before, after: steps before and after the network.
        channels: names of the output's channels; empty if they have none.
        test_input, test_output: what the network's answer is checked with.
    """

    origin: str
    title: str
    licence: str
    kind: Kind
    weights: bytes
    sha256: str
    inputs: InputAxes
    outputs: OutputAxes
    before: tuple[Step, ...]
    after: tuple[Step, ...]
    channels: tuple[str, ...]
    test_input: NDArray[np.float32]
    test_output: NDArray[np.float32]


def is_foreign(path: Path) -> bool:
    """Whether a path is a package without a model of ours; errors as of `read_package`."""
    if not is_package(path):
        return False
    with package_files(path) as files:
        return not files.has(IN_PACKAGE)


def read_package(path: Path) -> ForeignPackage:
    """Read a package.

    Args:
        path: of a zip file or folder.

    Raises:
        JobError: it is damaged, or its model cannot be used here; says why.
        OSError: it cannot be read.
    """
    with package_files(path) as files:
        values = description_of(files)
        try:
            return _package(files, values)
        except ValueError as error:
            reason = str(error)
        # Of a description that is not built as its version says.
        except (KeyError, TypeError, IndexError, AttributeError, OverflowError):
            reason = "has a description that is not as bioimage.io defines it"
        raise JobError(f"The package '{files.name}' {reason}: choose another model.")


def _package(files: PackageFiles, values: dict[str, Any]) -> ForeignPackage:
    """See `read_package`.

    Raises:
        ValueError: what the package does that cannot be used, as the end of a sentence.
    """
    version = ".".join(str(values.get("format_version", "")).split(".")[:2])
    if values.get("type", "model") != "model" or version not in _VERSIONS:
        raise ValueError(
            f"is no model in format {listed(_VERSIONS, 'or')} of bioimage.io, which are read"
        )
    inputs, outputs = values["inputs"], values["outputs"]
    if len(inputs) != 1:
        raise ValueError(f"takes {len(inputs)} images, and there is one")
    if not outputs:
        raise ValueError("has no output")
    axes = input_axes(inputs[0])
    seen = output_axes(outputs[0], inputs[0], axes)
    kind = _kind(values["weights"])
    weights = read_checked(files, values["weights"][kind])
    old = version == "0.4"
    return ForeignPackage(
        origin=files.name,
        title=_text(values.get("name")) or files.name,
        licence=_text(values.get("license")),
        kind=kind,
        weights=weights,
        sha256=hashlib.sha256(weights).hexdigest(),
        inputs=axes,
        outputs=seen,
        before=steps_of(inputs[0].get("preprocessing"), after=False),
        after=steps_of(outputs[0].get("postprocessing"), after=True),
        channels=_channels(outputs[0]),
        test_input=read_array(files, values["test_inputs"][0] if old else inputs[0]["test_tensor"]),
        test_output=read_array(
            files, values["test_outputs"][0] if old else outputs[0]["test_tensor"]
        ),
    )


def _kind(weights: dict[str, Any]) -> Kind:
    for kind in _KINDS:
        if weights.get(kind):
            if kind == "onnx" and weights[kind].get("external_data"):
                raise ValueError("keeps weights outside of its ONNX file, which is not read")
            return kind
    there = [in_one_line(str(key))[:_LONGEST_TEXT] for key, value in weights.items() if value]
    raise ValueError(
        f"has its weights as {listed(there) or 'nothing'}, and only ONNX can be used (or "
        "TorchScript, if you allow it)"
    )


def _channels(output: dict[str, Any]) -> tuple[str, ...]:
    axes = output["axes"]
    if isinstance(axes, str) or not isinstance(axes[0], dict):
        return ()
    names = next((axis.get("channel_names") for axis in axes if axis.get("type") == "channel"), ())
    return tuple(_text(name) for name in names or ())


def _text(value: Any) -> str:
    """A text of a description in one line that can be shown as it is; or nothing."""
    return in_print(in_one_line(value))[:_LONGEST_TEXT].strip() if isinstance(value, str) else ""

"""Models of other programs as functions of arrays: ONNX and, where the user allows it, TorchScript.

ONNX describes a graph of known operators, and no code of its file runs. onnxruntime reads it from
memory, so that it opens no other file.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_emda.errors import JobError, SettingsError, is_out_of_memory
from napari_emda.io.allowed_code import check_code

Kind = Literal["onnx", "torchscript"]
Array = NDArray[np.float32]
Runtime = Callable[[Array], Array]
"""From an image to the first output, in the axes that the model has."""

# Operators that onnxruntime brings along; those of other domains would need a library of the model.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}
# As protocol buffers number them (onnx.proto3).
_EXTERNAL = 1


def open_runtime(kind: Kind, content: bytes, device: str = "cpu") -> Runtime:
    """A model's function.

    Args:
        kind: of the model.
        content: of its file.
        device: ``cuda`` for a GPU where the runtime finds one.

    Raises:
        SettingsError: onnxruntime is not installed.
        JobError: the model cannot be loaded, or is TorchScript that the user has not allowed.
    """
    return _onnx(content, device) if kind == "onnx" else _torchscript(content, device)


def check_onnx(content: bytes) -> None:
    """Check that a model needs nothing but its file and known operators.

    Raises:
        SettingsError: onnx is not installed.
        JobError: it is damaged, keeps weights in other files, or needs other operators.
    """
    try:
        import onnx
    except ImportError:
        raise _not_installed() from None
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise JobError("The ONNX file is damaged: copy or download the package again.") from None
    known = {*_DOMAINS, *(function.domain for function in model.functions)}
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        # Functions have no weights of their own.
        tensors = list(getattr(graph, "initializer", ()))
        for sparse in getattr(graph, "sparse_initializer", ()):
            tensors += [sparse.values, sparse.indices]
        for node in graph.node:
            if node.domain not in known:
                raise JobError(
                    f"The model needs operators of '{node.domain[:60]}', which belong to no "
                    "standard: choose a model without custom operators."
                )
            for attribute in node.attribute:
                tensors += [attribute.t, *attribute.tensors]
                if attribute.HasField("g"):
                    graphs.append(attribute.g)
                graphs += attribute.graphs
        if any(tensor.data_location == _EXTERNAL or tensor.external_data for tensor in tensors):
            raise JobError(
                "The ONNX model keeps weights in other files, which are not read: save it as one "
                "file, or choose another model."
            )


def _not_installed() -> SettingsError:
    return SettingsError(
        "ONNX models need onnx and onnxruntime, which are not installed: "
        'pip install "napari-emda[onnx]".'
    )


def _onnx(content: bytes, device: str) -> Runtime:
    try:
        import onnxruntime
    except ImportError:
        raise _not_installed() from None
    # Here and not where a package is read: a project from somebody else holds models, too.
    check_onnx(content)
    options = onnxruntime.SessionOptions()
    # Errors come as exceptions; warnings about a model's graph help nobody here.
    options.log_severity_level = 4
    # It does not read OMP_NUM_THREADS.
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = ["CUDAExecutionProvider"] if device == "cuda" else []
    there = onnxruntime.get_available_providers()
    providers = [*filter(there.__contains__, wanted), "CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise JobError(
            f"onnxruntime cannot load the model ({_in_short(error)}): choose another model, or "
            "update onnxruntime."
        ) from None
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _TYPES:
        raise JobError(
            f"The ONNX model takes {len(inputs)} inputs of type {inputs[0].type if inputs else '-'}"
            ", and one of numbers is needed: choose another model."
        )
    name, dtype = inputs[0].name, _TYPES[inputs[0].type]
    output = session.get_outputs()[0].name

    def run(image: Array) -> Array:
        try:
            result = session.run([output], {name: image.astype(dtype, copy=False)})[0]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # It has no class of its own for this.
            if "allocate memory" in str(error):
                raise MemoryError from None
            raise JobError(
                f"The model fails on an image of {' x '.join(map(str, image.shape))} "
                f"({_in_short(error)}): choose another model."
            ) from None
        return np.asarray(result, np.float32)

    return run


def _torchscript(content: bytes, device: str) -> Runtime:
    check_code(content)
    place = torch.device("cuda" if device == "cuda" and torch.cuda.is_available() else "cpu")
    try:
        model: Any = torch.jit.load(io.BytesIO(content), map_location=place).eval()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise JobError(
            f"torch cannot load the TorchScript model ({_in_short(error)}): choose another model."
        ) from None

    def run(image: Array) -> Array:
        try:
            with torch.inference_mode():
                result = model(torch.from_numpy(np.ascontiguousarray(image)).to(place))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise JobError(
                f"The model fails on an image of {' x '.join(map(str, image.shape))} "
                f"({_in_short(error)}): choose another model."
            ) from None
        first = result[0] if isinstance(result, list | tuple) else result
        return np.asarray(first.float().cpu().numpy(), np.float32)

    return run


def _in_short(error: Exception) -> str:
    """The first line of a library's message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:160]

"""Packages as other programs write them: a tiny ONNX model and its description."""

from __future__ import annotations

import copy
import io
import zipfile

import numpy as np
import yaml
from onnx import TensorProto, helper, numpy_helper
from scipy.ndimage import correlate

# No symmetry turns it into itself, so that no axis can be mistaken for another one.
KERNEL = (-np.random.default_rng(5).uniform(0.2, 0.8, (5, 5))).astype(np.float32)
"""Of the only layer, which finds what is dark: a pixel sees two around it."""
BIAS = 6.0
REACH = 2


def onnx_model(outputs=1, external=False, domain="", side=None, valid=False):
    """A convolution as the content of a file.

    Args:
        outputs: number of channels; every second one is the negative of the first.
        external: whether the weights lie in another file.
        domain: of the operator.
        side: of the image; any by default.
        valid: whether the output lacks pixels at the edges.
    """
    signs = (-1.0) ** np.arange(outputs)
    weights = np.stack([KERNEL * np.float32(sign) for sign in signs])[:, None]
    biases = numpy_helper.from_array((BIAS * signs).astype(np.float32), "b")
    initializer = numpy_helper.from_array(weights, "w")
    if external:
        initializer.ClearField("raw_data")
        initializer.data_location = TensorProto.EXTERNAL
        entry = initializer.external_data.add()
        entry.key, entry.value = "location", "../../secret.bin"
    sizes = [1, 1, side or "height", side or "width"]
    pads = [0 if valid else REACH] * 4
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=pads, domain=domain)
    graph = helper.make_graph(
        [node],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs, None, None])],
        [initializer, biases],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


VOLUME_KERNEL = np.concatenate([KERNEL[None], 0.5 * KERNEL[None, ::-1], 0.2 * KERNEL[None]])
VOLUME_BIAS = 1.7 * BIAS


def onnx_volume_model(sections=None):
    """As `onnx_model`, of volumes: sections see those before and after them."""
    initializers = [
        numpy_helper.from_array(VOLUME_KERNEL[None, None], "w"),
        numpy_helper.from_array(np.float32([VOLUME_BIAS]), "b"),
    ]
    sizes = [1, 1, sections or "depth", "height", "width"]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, REACH, REACH] * 2)
    graph = helper.make_graph(
        [node],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, None, None, None])],
        initializers,
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def volume_answer(volume):
    """As `answer`, of a volume, whose grey values are scaled as a whole."""
    low, high = np.percentile(volume, (1, 99))
    scaled = (volume.astype(np.float64) - low) / (high - low + 1e-6)
    logits = correlate(scaled, VOLUME_KERNEL, mode="constant") + VOLUME_BIAS
    return 1 / (1 + np.exp(-logits))


def answer(image):
    """The probability of the foreground in a section, written out: not by our code."""
    image = image.astype(np.float64)
    low, high = np.percentile(image, (1, 99))
    scaled = (image - low) / (high - low + 1e-6)
    return 1 / (1 + np.exp(-correlate(scaled, KERNEL, mode="constant") - BIAS))


TEST_IMAGE = np.random.default_rng(1).integers(40, 200, (32, 48)).astype(np.float32)

RANGE = {"min_percentile": 1.0, "max_percentile": 99.0}

OLD = {
    "format_version": "0.4.10",
    "type": "model",
    "name": "Tiny model",
    "license": "CC-BY-4.0",
    "inputs": [
        {
            "name": "raw",
            "axes": "bcyx",
            "data_type": "float32",
            "shape": {"min": [1, 1, 16, 16], "step": [0, 0, 8, 8]},
            "preprocessing": [
                {"name": "scale_range", "kwargs": {"mode": "per_sample", "axes": "xy", **RANGE}}
            ],
        }
    ],
    "outputs": [
        {
            "name": "probability",
            "axes": "bcyx",
            "data_type": "float32",
            "shape": {"reference_tensor": "raw", "scale": [1] * 4, "offset": [0] * 4},
            "halo": [0, 0, 4, 4],
            "postprocessing": [{"name": "sigmoid"}],
        }
    ],
    "test_inputs": ["input.npy"],
    "test_outputs": ["output.npy"],
    "weights": {"onnx": {"source": "weights.onnx", "opset_version": 17}},
}


def _space(name, **values):
    return {"type": "space", "id": name, "unit": "nanometer", "scale": 8.0, **values}


NEW = {
    "format_version": "0.5.4",
    "type": "model",
    "name": "Tiny model",
    "license": "CC-BY-4.0",
    "inputs": [
        {
            "id": "raw",
            "axes": [
                {"type": "batch"},
                {"type": "channel", "channel_names": ["grey"]},
                _space("y", size={"min": 16, "step": 8}),
                _space("x", size={"min": 16, "step": 8}),
            ],
            "test_tensor": {"source": "input.npy"},
            "preprocessing": [
                {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
                {
                    "id": "scale_range",
                    "kwargs": {"axes": ["channel", "y", "x"], "eps": 1e-6, **RANGE},
                },
            ],
        }
    ],
    "outputs": [
        {
            "id": "probability",
            "axes": [
                {"type": "batch"},
                {"type": "channel", "channel_names": ["mitochondria"]},
                _space("y", halo=4, size={"tensor_id": "raw", "axis_id": "y"}),
                _space("x", halo=4, size={"tensor_id": "raw", "axis_id": "x"}),
            ],
            "test_tensor": {"source": "output.npy"},
            "postprocessing": [{"id": "sigmoid"}],
        }
    ],
    "weights": {"onnx": {"source": "weights.onnx", "opset_version": 17}},
}


def of_volumes(description):
    """Let a description in the old format be that of `onnx_volume_model`."""
    description["inputs"][0] |= {
        "axes": "bczyx",
        "shape": {"min": [1, 1, 4, 16, 16], "step": [0, 0, 2, 8, 8]},
        "preprocessing": [
            {"name": "scale_range", "kwargs": {"mode": "per_sample", "axes": "zyx", **RANGE}}
        ],
    }
    description["outputs"][0] |= {
        "axes": "bczyx",
        "shape": {"reference_tensor": "raw", "scale": [1] * 5, "offset": [0] * 5},
        "halo": [0, 0, 2, 4, 4],
    }


def npy(array):
    """The content of a file with an array."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write(path, description=OLD, change=lambda description: None, **files):
    """Write a package as a zip file.

    Args:
        path: of the file.
        description: `OLD` or `NEW`.
        change: of a copy of it.
        files: contents by name, with ``__`` for the dot; None to leave one out.
    """
    description = copy.deepcopy(description)
    change(description)
    contents = {
        "rdf.yaml": yaml.safe_dump(description).encode(),
        "weights.onnx": onnx_model(),
        "input.npy": npy(TEST_IMAGE[None, None]),
        "output.npy": npy(answer(TEST_IMAGE)[None, None].astype(np.float32)),
    }
    for name, content in files.items():
        contents[f"../{name[2:]}" if name.startswith("__") else name.replace("__", ".")] = content
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            if content is not None:
                archive.writestr(name, content)
    return path

"""Packages of other programs: they predict what their model says, and what lies is refused."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile

import numpy as np
import pytest
import torch

from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import EmdaError
from napari_emda.events import TileDone
from napari_emda.inference.checkpoint import load_method
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.jobs.foreign_model import convert
from napari_emda.project.foreign_package import LeftOpen
from napari_emda.project.package_files import LARGEST_WEIGHTS, package_files
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from tests.cli.calling import answer as emda
from tests.cli.calling import call

pytest.importorskip("onnxruntime")
from tests.foreign_package import (
    KERNEL,
    NEW,
    OLD,
    REACH,
    TEST_IMAGE,
    answer,
    npy,
    of_volumes,
    onnx_model,
    onnx_volume_model,
    volume_answer,
    write,
)


def fixed_size(description):
    """Of images of 32 x 32 pixels, of which 8 at each edge are not to be used."""
    description["inputs"][0]["shape"] = [1, 1, 32, 32]
    description["outputs"][0] |= {"shape": [1, 1, 32, 32], "halo": [0, 0, 8, 8]}


def valid(description):
    """The output lacks two pixels at each edge."""
    shape = {"reference_tensor": "raw", "scale": [1] * 4, "offset": [0, 0, -REACH, -REACH]}
    description["outputs"][0] |= {"shape": shape, "halo": None}


SQUARE = TEST_IMAGE[:, :32]
INSIDE = (slice(REACH, -REACH),) * 2
CASES = {
    "old": {"description": OLD},
    "new": {"description": NEW},
    "one size": {
        "change": fixed_size,
        "weights__onnx": onnx_model(side=32),
        "input__npy": npy(SQUARE[None, None]),
        "output__npy": npy(answer(SQUARE)[None, None]),
    },
    "without edges": {
        "change": valid,
        "weights__onnx": onnx_model(valid=True),
        "output__npy": npy(answer(TEST_IMAGE)[INSIDE][None, None]),
    },
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", [0, 48])
def test_a_volume_is_predicted_as_the_model_says(case, block, tmp_path):
    package = write(tmp_path / "a.zip", **CASES[case])
    convert(package, tmp_path / "m.safetensors", LeftOpen(), 8.0)
    image = np.random.default_rng(3).integers(30, 220, (2, 150, 140)).astype(np.uint8)
    image[1] //= 2
    volume = Volume("v", image, "target", VoxelGrid((50, 8, 8)))
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    predictor = Predictor.load(tmp_path / "m.safetensors")
    list(predict(predictor, volume, PredictSettings(block=block), run))
    stored = np.asarray(StoredPrediction(run, "v").probabilities)[0] / 255
    expected = np.stack([answer(section) for section in image])
    # At the edges of the volume, a model may see anything.
    inside = (slice(None), slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(stored[inside], expected[inside], atol=0.6 / 255)


def few_sections(description):
    """Of eight sections, of which two at each end are not to be used."""
    of_volumes(description)
    description["inputs"][0]["shape"] = {"min": [1, 1, 8, 16, 16], "step": [0, 0, 0, 8, 8]}
    description["outputs"][0]["halo"] = [0, 0, 2, 4, 4]


@pytest.mark.parametrize(
    ("change", "sections", "memory"),
    [(of_volumes, None, 1.0), (of_volumes, None, 0.3), (few_sections, 8, 1.0)],
)
def test_a_model_of_volumes_sees_the_sections_around(change, sections, memory, tmp_path):
    test = np.random.default_rng(1).integers(40, 200, (8, 16, 24)).astype(np.float32)
    package = write(
        tmp_path / "a.zip",
        change=change,
        weights__onnx=onnx_volume_model(sections),
        input__npy=npy(test[None, None]),
        output__npy=npy(volume_answer(test)[None, None]),
    )
    with pytest.raises(EmdaError, match="how far apart the sections"):
        convert(package, tmp_path / "m.safetensors", LeftOpen(), 8.0)
    convert(package, tmp_path / "m.safetensors", LeftOpen(), 8.0, 16.0)
    image = np.random.default_rng(3).integers(30, 220, (21, 96, 80)).astype(np.uint8)
    volume = Volume("v", image, "target", VoxelGrid((16, 8, 8)))
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    predictor = Predictor.load(tmp_path / "m.safetensors")
    settings = PredictSettings(memory=memory)
    done = [e for e in predict(predictor, volume, settings, run) if isinstance(e, TileDone)]
    assert (len(done) > 1) == (memory < 1)
    stored = np.asarray(StoredPrediction(run, "v").probabilities)[0] / 255
    inside = (slice(3, -3), slice(8, -8), slice(8, -8))
    expected = volume_answer(image)[inside]
    assert expected.std() > 0.05
    np.testing.assert_allclose(stored[inside], expected, atol=0.6 / 255)


def test_channels_that_add_up_to_one_are_classes(tmp_path):
    def soft(description):
        description["outputs"][0]["postprocessing"] = [{"name": "softmax"}]

    # Of x and -x, the softmax is the sigmoid of 2 x.
    logits = np.log(answer(TEST_IMAGE) / (1 - answer(TEST_IMAGE)))
    first = 1 / (1 + np.exp(-2 * logits))
    package = write(
        tmp_path / "a.zip",
        change=soft,
        weights__onnx=onnx_model(2),
        output__npy=npy(np.stack([first, 1 - first])[None]),
    )
    out = tmp_path / "m.safetensors"
    said = convert(package, out, LeftOpen(("background", "membrane")), 8.0)
    assert "the first one is taken for the background" in said[0]
    assert Predictor.load(out).header.classes == ("background", "membrane")
    with pytest.raises(EmdaError, match="predicts 1 classes besides the background"):
        convert(package, out, LeftOpen(("background", "a", "b")), 8.0)


def test_sigmoids_need_a_choice(tmp_path):
    output = npy(np.stack([answer(TEST_IMAGE), 1 - answer(TEST_IMAGE), answer(TEST_IMAGE)])[None])
    package = write(tmp_path / "a.zip", weights__onnx=onnx_model(3), output__npy=output)
    out = tmp_path / "m.safetensors"
    with pytest.raises(EmdaError, match="do not add up to 1: say which"):
        convert(package, out, LeftOpen(), 8.0)
    convert(package, out, LeftOpen(channels=(2,)), 8.0)
    assert Predictor.load(out).network.settings.channels == (2,)


def edit(**values):
    """Change the input of a description."""
    return lambda description: description["inputs"][0].update(values)


def step(name, **kwargs):
    return lambda d: d["outputs"][0].update(postprocessing=[{"name": name, "kwargs": kwargs}])


REFUSED = {
    "takes images of 3 channels": {"change": edit(shape=[1, 3, 64, 64])},
    "takes series of images": {"change": edit(axes="bctyx", shape=[1, 1, 16, 64, 64])},
    "asks for the step stardist_postprocessing": {"change": step("stardist_postprocessing")},
    "which cannot be done in blocks": {"change": step("zero_mean_unit_variance")},
    "does not give the answer": {"output__npy": npy(answer(TEST_IMAGE)[None, None] + 0.1)},
    r"largest difference 0\.1, in 100% of": {
        "output__npy": npy(answer(TEST_IMAGE)[None, None] + 0.1)
    },
    "are no probabilities": {
        "change": step("scale_linear", gain=3.0),
        "output__npy": npy(3 * np.log(answer(TEST_IMAGE) / (1 - answer(TEST_IMAGE)))[None, None]),
    },
    "keeps weights in other files": {"weights__onnx": onnx_model(external=True)},
    "operators of 'org.evil'": {"weights__onnx": onnx_model(domain="org.evil")},
    "The ONNX file is damaged": {"weights__onnx": b"\xff\xff nothing"},
    "leads out of it": {"__secret": b""},
    "lacks 'weights.onnx'": {"weights__onnx": None},
    "is damaged: download": {"input__npy": npy(np.zeros(3))[:-4]},
    "lies partly at an address": {
        "change": lambda d: d["weights"]["onnx"].update(source="https://example.org/w.onnx")
    },
    "not the file that its description means": {
        "change": lambda d: d["weights"]["onnx"].update(sha256="0" * 64)
    },
    "has its weights as keras_hdf5": {
        "change": lambda d: d.update(weights={"keras_hdf5": {"source": "weights.onnx"}})
    },
    "is no model in format": {"change": lambda d: d.update(format_version="0.3.6")},
    "is not as bioimage.io defines it": {"change": lambda d: d.pop("weights")},
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_sentence(sentence, tmp_path):
    package = write(tmp_path / "a.zip", **REFUSED[sentence])
    with pytest.raises(EmdaError, match=sentence) as refused:
        convert(package, tmp_path / "m.safetensors", LeftOpen(), 8.0)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "m.safetensors").exists()


def test_sizes_are_counted_and_aliases_bounded(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big", b"\0" * 2**20)
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
        archive.writestr("rdf.yaml", "\n".join(lines))
    with (
        package_files(tmp_path / "a.zip") as files,
        pytest.raises(EmdaError, match=r"larger than 0 MiB"),
    ):
        files.read("big", 2**19)
    assert LARGEST_WEIGHTS <= 2**31
    with pytest.raises(EmdaError, match=r"description 'rdf.yaml' in 'a.zip' is damaged"):
        convert(tmp_path / "a.zip", tmp_path / "m.safetensors", LeftOpen(), 8.0)


class Filter(torch.nn.Module):
    """The same convolution."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.from_numpy(KERNEL)[None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, self.weight, padding=2) + 6.0


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_runs_only_after_the_user_has_allowed_that_file(
    tmp_path, monkeypatch, phantom_files
):
    monkeypatch.setenv("NAPARI_EMDA_CACHE", str(tmp_path / "cache"))
    content = io.BytesIO()
    torch.jit.save(torch.jit.script(Filter()), content)

    def torchscript(description):
        description["weights"] = {"torchscript": {"source": "weights.pt"}}

    package = write(tmp_path / "a.zip", change=torchscript, weights__pt=content.getvalue())
    loaded = []
    load = torch.jit.load
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: loaded.append(1) or load(*a, **k))
    folder = tmp_path / "p"
    arguments = ("new", folder, "--model", package, "--target", phantom_files["target", "image"])
    status, _, err = call(*arguments)
    assert status == 2 and "can run any program while it loads: if you trust" in err
    assert not loaded and not folder.exists()
    assert emda("allow", package)["sha256"] == hashlib.sha256(content.getvalue()).hexdigest()
    assert emda(*arguments)["run"] == "001-imported"
    emda("predict", folder)
    # On another computer, the project asks again, whatever its header says.
    (tmp_path / "cache" / "allowed-models.txt").unlink()
    loaded.clear()
    run = folder / "runs" / "001-imported"
    shutil.rmtree(run / "probabilities.zarr")
    (run / "predicted-target_image.jsonl").unlink()
    assert "allow this file" in call("predict", folder)[2]
    assert not loaded
    emda("allow", run)
    emda("predict", folder)
    assert loaded
    status, _, err = call("allow", write(tmp_path / "b.zip"))
    assert status == 2 and "there is nothing to allow" in err


def test_a_model_s_file_that_lies_is_refused_too(tmp_path):
    path = tmp_path / "m.safetensors"
    convert(write(tmp_path / "a.zip"), path, LeftOpen(), 8.0)
    header, method = load_method(path)
    # A project from somebody else may hold another content.
    content = onnx_model(external=True)
    method.network.content = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    with pytest.raises(EmdaError, match="keeps weights in other files"):
        method.network(torch.zeros(1, 1, 16, 16))
    for change in ({"order": "bcyy"}, {"order": "bcz"}, {"smallest": [0, 16, 16]}, {"size": -1}):
        with pytest.raises(EmdaError):
            header.network.model_copy(update={"settings": header.network.settings | change}).build()

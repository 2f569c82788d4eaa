"""Checkpoints: whole, portable, and foreign files refused in one sentence."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import napari_emda
from napari_emda.errors import JobError
from napari_emda.inference import checkpoint
from napari_emda.inference.predictor import Predictor
from napari_emda.nn.networks.unet import UNet
from napari_emda.training import between_steps
from napari_emda.training.loop import fit
from napari_emda.training.state import TrainingState

METHODS = ("source_only", "histogram", "ynet")
CLASSES = ("background", "mitochondria")


@pytest.fixture
def trained(make_training, source, target, tmp_path):
    """A function that trains a method and returns the training; its checkpoint is on disk."""

    def train(method="source_only", **values):
        training = make_training(
            [source, target], tmp_path / method, method, **{"steps": 3, **values}
        )
        list(fit(training))
        return training

    return train


def rewritten(path, change):
    """Change the metadata of a checkpoint by a function."""
    with safe_open(path, "pt") as file:
        values = json.loads(file.metadata()["napari_emda"])
    change(values)
    save_file(load_file(path), path, {"napari_emda": json.dumps(values)})


def as_format(number, values):
    """Convert the metadata of a checkpoint to format 1 or 2: one table, and older names."""
    model = values.pop("model")
    training = values.pop("training")
    for added in ("seed", "range_per_section"):
        del model[added]
    model["neighbours"] = model.pop("z_smoothing")
    network = dict(model["network"]["settings"])
    network["base"] = network.pop("base_channels")
    network["levels"] = network.pop("depth")
    del training["settings"]["network"]
    training["settings"] |= network
    flat = {"classes": model["network"]["classes"], **network}
    values.update(model, **training, network=flat, format=number)


@pytest.mark.parametrize("method", METHODS)
def test_a_loaded_model_predicts_as_the_saved_one(method, trained):
    training = trained(method)
    header, loaded = checkpoint.load_method(training.path)
    assert header == training.header
    assert TrainingState.read(training.path) == training.state
    assert header.step == 3
    for domain in ("source", "target"):
        image = torch.randn(1, 1, 40, 40)
        predictors = [
            Predictor(m.predictor, header, training.compute) for m in (training.method, loaded)
        ]
        assert torch.equal(*(p.probabilities(image, domain) for p in predictors))


def test_a_model_from_a_file_predicts_with_the_weights_that_it_has_now(trained):
    """Its normalisation is folded into the convolutions, once for each domain."""
    training = trained()
    in_memory = Predictor(training.method.predictor, training.header, training.compute)
    from_file = Predictor.load(training.path, "cpu", "32")
    image = torch.randn(2, 1, 40, 56)
    for domain in ("source", "target", "source"):
        expected = in_memory.probabilities(image, domain, flips=True)
        torch.testing.assert_close(from_file.probabilities(image, domain, flips=True), expected)
    before = from_file.probabilities(image, "source")
    with torch.no_grad():
        for network in (in_memory.network, from_file.network):
            network.offset[1] += 1
            next(network.parameters()).mul_(2)
    expected = in_memory.probabilities(image, "source")
    torch.testing.assert_close(from_file.probabilities(image, "source"), expected)
    assert not torch.allclose(before, expected, atol=0.01)


def test_grey_values_and_the_histograms_table_travel_along(trained):
    training = trained("histogram")
    header, loaded = checkpoint.load_method(training.path)
    assert header.statistics == training.sampler.statistics
    greys = torch.linspace(-4, 4, 100)
    assert torch.equal(loaded.match(greys), training.method.match(greys))
    assert not torch.allclose(loaded.match(greys), greys, atol=0.1)


def test_moments_are_numbered_as_torch_does_without_its_compiler(trained, tmp_path, monkeypatch):
    training = trained()
    expected = {
        f"{checkpoint.MOMENTS}{index}.{key}": torch.as_tensor(value)
        for index, state in training.optimiser.state_dict()["state"].items()
        for key, value in state.items()
    }
    # Importing it takes longer than all that a short training does.
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    header = checkpoint.read_header(training.folder.checkpoint)
    state = TrainingState.read(training.folder.checkpoint)
    path = tmp_path / "again.safetensors"
    checkpoint.save(path, header, training.method, training=state, optimiser=training.optimiser)
    saved = load_file(path)
    assert {name for name in saved if name.startswith(checkpoint.MOMENTS)} == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(saved[name], value.cpu(), rtol=0, atol=0)


def test_a_file_written_over_leaves_nothing_beside(trained):
    training = trained()
    between_steps.save(training, 3)
    assert [path.name for path in training.folder.path.iterdir()] == ["checkpoint.safetensors"]


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize(
    "damage", ["truncated", "empty", "text", "foreign", "missing", "other header"]
)
def test_a_damaged_or_foreign_file_is_refused(damage, trained, tmp_path):
    path = trained().path
    match damage:
        case "truncated":
            path.write_bytes(path.read_bytes()[:5000])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("a model, honestly")
        case "foreign":
            save_file({"weight": torch.zeros(3)}, path)
        case "missing":
            path.unlink()
        case "other header":
            rewritten(path, lambda values: values["model"].pop("method"))
    with pytest.raises(
        JobError, match=r"is not a model of napari-emda, or is damaged|does not exist"
    ) as error:
        checkpoint.load_method(path)
    assert str(path) in one_sentence(error)


def test_a_file_that_is_cut_short_after_its_header_was_read_is_refused(trained):
    training = trained()
    assert checkpoint.read_header(training.path).step == 3
    training.path.write_bytes(training.path.read_bytes()[:-100])
    for read in (checkpoint.load, lambda path, method: checkpoint.load_average([path], method)):
        with pytest.raises(JobError, match="is damaged"):
            read(training.path, training.method)


@pytest.mark.parametrize("number", [1, 2])
def test_older_formats_say_the_same(number, trained):
    training = trained(seed=7, validations=1)
    rewritten(training.path, lambda values: as_format(number, values))
    header, loaded = checkpoint.load_method(training.path)
    same = {"range_per_section": number > 1, "network": header.network}
    assert header == training.header.model_copy(update=same)
    assert loaded.network.config == training.method.network.config
    assert header.seed == 7
    assert TrainingState.read(training.path) == training.state
    image = torch.randn(1, 1, 40, 40)
    predictors = [
        Predictor(m.predictor, header, training.compute) for m in (training.method, loaded)
    ]
    assert torch.equal(*(p.probabilities(image, "target") for p in predictors))


def test_a_newer_file_is_refused(trained):
    path = trained().path
    rewritten(path, lambda header: header.update(format=99))
    with pytest.raises(JobError, match="has format 99: update napari-emda") as error:
        checkpoint.read_header(path)
    one_sentence(error)


def test_another_network_is_refused(trained, make_training, source, tmp_path):
    path = trained().path
    other = make_training([source], tmp_path / "other", network_settings={"base_channels": 16})
    with pytest.raises(JobError, match="holds another network") as error:
        checkpoint.load(path, other.method)
    one_sentence(error)
    with pytest.raises(JobError, match=r"another network \(.*base_channels=8") as error:
        checkpoint.start_from(path, UNet(2, UNet.Settings(base_channels=16)), CLASSES)
    one_sentence(error)


@pytest.mark.parametrize("method", METHODS)
def test_another_run_can_start_from_what_predicts(method, trained, same_weights):
    training = trained(method)
    network = UNet(2, UNet.Settings(base_channels=8))
    assert not same_weights(network, training.method.predictor)
    checkpoint.start_from(training.path, network, CLASSES)
    assert same_weights(network, training.method.predictor)


def test_nothing_in_the_package_unpickles():
    unsafe = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in Path(napari_emda.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names}
                names.add((getattr(node, "module", None) or "").split(".")[0])
                assert not names & unsafe, path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "torch.load",
                "torch.save",
            ):
                raise AssertionError(f"{path}:{node.lineno}")
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert ast.unparse(node.value) == "False", path

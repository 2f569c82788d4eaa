"""Model packages, checked with bioimageio.spec and bioimageio.core."""

from __future__ import annotations

import gc
import io
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from napari_emda.data.box import Box
from napari_emda.data.intensity import PERCENTILES, measure
from napari_emda.data.resampled import Resampled
from napari_emda.data.spectrum import REACH, filtered
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, SettingsError
from napari_emda.export.base import Result
from napari_emda.export.bioimageio import write_package
from napari_emda.export.model import ModelExporter
from napari_emda.export.model_card import ModelCard
from napari_emda.inference.predictor import Predictor
from napari_emda.nn.networks.unet import UNet
from napari_emda.training.loop import fit

pytestmark = [
    # bioimageio.core loads TorchScript, which torch calls deprecated, and leaves files open.
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]

CARD = ModelCard(
    name="Mitochondria in brain tissue",
    description="Segments mitochondria in sections of serial-section TEM.",
    classes=("background", "mitochondrion (all)"),
    grid=VoxelGrid((50.0, 4.6, 4.6)),
    tags=("unet",),
    authors=("Ada Lovelace",),
)


class Small(nn.Module):
    """Sees a pixel's neighbours, pools once, and ends in probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)

    def forward(self, x):
        return self.up(nn.functional.max_pool2d(self.down(x).relu(), 2)).softmax(1)


@pytest.fixture
def network():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture
def example():
    return np.random.default_rng(0).integers(0, 255, (32, 48)).astype(np.uint8)


@pytest.fixture
def spec(monkeypatch, tmp_path_factory):
    """The extra, with its cache where nothing else is."""
    pytest.importorskip("bioimageio.spec", reason="the extra 'bioimageio' is not installed")
    monkeypatch.setenv("BIOIMAGEIO_CACHE_PATH", str(tmp_path_factory.mktemp("cache")))
    import bioimageio.spec

    yield bioimageio.spec
    gc.collect()


@pytest.fixture
def core(spec):
    """The library that runs packages; it is not needed to write them."""
    return pytest.importorskip("bioimageio.core", reason="bioimageio.core is not installed")


@pytest.fixture
def volumes_with_context(source, target):
    """Sections of 50 nm in the source and of 25 nm in the target."""
    thin = np.concatenate([target.image, target.image[::-1]])
    return [source, replace(target, image=thin, grid=VoxelGrid((25.0, 8.0, 8.0)))]


def test_the_package_holds_the_network_output_for_the_example(tmp_path, network, example, spec):
    path = tmp_path / "model.zip"
    write_package(network, path, example, CARD, stride=2, mean=120.0, standard_deviation=40.0)
    summary = spec.load_description(path).validation_summary
    assert summary.status == "valid-format", summary.format()
    with zipfile.ZipFile(path) as file:
        image, stored = (
            np.load(io.BytesIO(file.read(f"{name}.npy"))) for name in ("input", "output")
        )
        weights = torch.jit.load(io.BytesIO(file.read("weights.pt")))
    np.testing.assert_array_equal(image[0, 0], example)
    standardised = torch.from_numpy((image - 120) / 40)
    with torch.no_grad():
        np.testing.assert_allclose(stored, network(standardised).numpy(), atol=1e-6)
        np.testing.assert_allclose(stored, weights(standardised).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "standardisation",
    [
        {"mean": 120.0, "standard_deviation": 40.0},
        {},
        {"mean": 0.4, "standard_deviation": 0.3, "percentiles": (1.0, 99.0)},
    ],
    ids=["stored", "per image", "in its range"],
)
def test_bioimageio_runs_the_package_as_we_do(tmp_path, network, example, core, standardisation):
    path = tmp_path / "model.zip"
    write_package(network, path, example, CARD, stride=2, halo=4, **standardisation)
    assert list(tmp_path.iterdir()) == [path]
    summary = core.test_model(path)
    assert summary.status == "passed", summary.format()


def test_bioimageio_predicts_other_sizes_as_we_do(tmp_path, network, example, core):
    path = tmp_path / "model.zip"
    write_package(
        network, path, example, CARD, stride=2, halo=4, mean=120.0, standard_deviation=40.0
    )
    image = np.random.default_rng(1).normal(100, 30, (64, 32)).astype(np.float32)
    tensor = core.Tensor(image[None, None], ("batch", "channel", "y", "x"))
    sample = core.Sample(members={"image": tensor}, stat={}, id="sample")
    result = core.predict(model=str(path), inputs=sample).members["probabilities"].data.to_numpy()
    with torch.no_grad():
        expected = network(torch.from_numpy((image - 120) / 40)[None, None]).numpy()
    # bioimageio pads the image by the halo before it predicts.
    inside = (..., slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(result[inside], expected[inside], atol=1e-5)


def test_bioimageio_brings_images_to_their_range_as_we_do(tmp_path, network, example, core):
    """Images of a stack of independent sections are scaled by their own percentiles."""
    image = np.random.default_rng(1).gamma(2, 30, (1, 128, 96)).astype(np.float32)
    grid = VoxelGrid((1.0, 4.6, 4.6), sections_are_independent=True)
    view = Resampled(Volume("v", image, "source", grid), 4.6)
    statistics = measure(view)
    path = tmp_path / "model.zip"
    write_package(
        network,
        path,
        example,
        CARD,
        stride=2,
        halo=4,
        mean=statistics.mean,
        standard_deviation=statistics.std,
        percentiles=PERCENTILES,
    )
    tensor = core.Tensor(image[None], ("batch", "channel", "y", "x"))
    sample = core.Sample(members={"image": tensor}, stat={}, id="sample")
    result = core.predict(model=str(path), inputs=sample).members["probabilities"].data.to_numpy()
    standardised = statistics.read(view, Box.whole(image.shape))
    with torch.no_grad():
        expected = network(torch.from_numpy(standardised)[None]).numpy()
    # bioimageio pads the image by the halo and measures the padding as well.
    inside = (..., slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(result[inside], expected[inside], atol=5e-3)


def test_our_network_passes(tmp_path, core):
    torch.manual_seed(0)
    unet = UNet(2, UNet.Settings(base_channels=8, depth=3, attention=True))
    network = nn.Sequential(unet, nn.Softmax(1)).eval()
    example = np.random.default_rng(2).normal(120, 40, (unet.stride + 2 * unet.halo,) * 2)
    path = tmp_path / "model.zip"
    write_package(
        network,
        path,
        example,
        CARD,
        stride=unet.stride,
        halo=unet.halo,
        mean=120,
        standard_deviation=40,
    )
    summary = core.test_model(path)
    assert summary.status == "passed", summary.format()


@pytest.mark.parametrize("spectrum", ["own", "common"])
def test_a_network_that_sees_several_sections_gets_a_channel_for_each(
    volumes_with_context, make_training, tmp_path, spec, spectrum
):
    """From a training to the package, its example and its README."""
    source, target = volumes_with_context
    if spectrum == "common":
        # Of the two, the sharper one is filtered.
        sharp = np.concatenate([source.image, source.image[::-1]])
        source = replace(source, image=target.image[: len(source.image)])
        target = replace(target, image=sharp)
    training = make_training(
        [source, target],
        tmp_path / "run",
        "adabn",
        context=1,
        steps=1,
        spectrum=spectrum,
    )
    list(fit(training))
    result = Result(
        "run", training.path, target, training.header.classes[1:], (1,), np.zeros((1, 1, 1, 1))
    )
    path = tmp_path / "model.zip"
    list(ModelExporter(ModelExporter.Settings()).export(result, str(path)))
    with zipfile.ZipFile(path) as file:
        image, stored = (
            np.load(io.BytesIO(file.read(f"{name}.npy"))) for name in ("input", "output")
        )
        readme = file.read("README.md").decode()
    # The target's sections are 25 nm apart, the source's 50 nm.
    side = image.shape[-1]
    height, width = target.shape[1:]
    z = target.shape[0] // 2
    padding = ((0, 0), (0, side - height), (0, side - width))
    expected = np.pad(target.image[[z - 2, z, z + 2]], padding, mode="symmetric")
    np.testing.assert_array_equal(image[0], expected)
    assert "channel 0: the section -50 nm away" in readme
    assert "channel 1: the section to predict" in readme
    assert ("first layer is a fixed filter" in readme) == (spectrum == "common")
    predictor = Predictor.load(training.path, "cpu", "32")
    statistics = predictor.statistics_of(target)
    assert bool(statistics.kernel) == (spectrum == "common")
    standardised = statistics.standardise(image[0].copy())[None]
    if statistics.kernel:
        around = np.pad(standardised[0], ((0, 0), (REACH, REACH), (REACH, REACH)), "symmetric")
        standardised = filtered(around, statistics.kernel)[None]
    probabilities = predictor.probabilities(
        torch.from_numpy(standardised), predictor.domain_of(target)
    )
    np.testing.assert_allclose(stored, probabilities.numpy(), atol=1e-5)
    model = spec.load_description(path)
    assert model.validation_summary.status == "valid-format", model.validation_summary.format()
    names = [str(name) for name in model.inputs[0].axes[1].channel_names]
    assert names == ["before_1", "grey", "after_1"]


def test_a_3d_network_gets_an_axis_for_its_sections(
    volumes_with_context, make_training, tmp_path, spec
):
    """From a training to the package, and the network in it."""
    training = make_training(
        volumes_with_context,
        tmp_path / "run",
        network="unet_3d",
        network_settings={"sections": 8},
        batch=1,
        steps=1,
    )
    list(fit(training))
    target = volumes_with_context[1]
    target = replace(target, image=np.concatenate([target.image, target.image[::-1]] * 2))
    result = Result(
        "run", training.path, target, training.header.classes[1:], (1,), np.zeros((1, 1, 1, 1))
    )
    path = tmp_path / "model.zip"
    list(ModelExporter(ModelExporter.Settings()).export(result, str(path)))
    with zipfile.ZipFile(path) as file:
        image, stored = (
            np.load(io.BytesIO(file.read(f"{name}.npy"))) for name in ("input", "output")
        )
        network = torch.jit.load(io.BytesIO(file.read("weights.pt")))
        assert "8 sections, 50 nm from one to the next" in file.read("README.md").decode()
    # Sections of 25 nm: every second one, around the middle.
    side = image.shape[-1]
    height, width = target.shape[1:]
    first = (len(target.image) - 16) // 2
    padding = ((0, 0), (0, side - height), (0, side - width))
    expected = np.pad(target.image[first : first + 16 : 2], padding, mode="symmetric")
    np.testing.assert_array_equal(image[0, 0], expected)
    predictor = Predictor.load(training.path, "cpu", "32")
    standardised = predictor.statistics_of(target).standardise(image[0, 0].copy())
    seen = torch.from_numpy(standardised)
    # As a volume of its own.
    stacks = replace(predictor.stacks_of(target), step=1)
    probabilities = predictor.probabilities(
        seen[:, None], predictor.domain_of(target), stacks
    ).transpose(0, 1)
    np.testing.assert_allclose(stored[0], probabilities.numpy(), atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(network(seen[None, None]).numpy(), stored, atol=1e-5)
    model = spec.load_description(path)
    assert model.validation_summary.status == "valid-format", model.validation_summary.format()
    assert [str(axis.id) for axis in model.inputs[0].axes] == ["batch", "channel", "z", "y", "x"]


@pytest.mark.usefixtures("spec")
def test_an_example_needs_as_many_sections_as_the_network_sees(tmp_path, network, example):
    card = ModelCard(**{**CARD.__dict__, "seen": ("before", "grey", "after")})
    with pytest.raises(DataError, match="32 × 48 pixels: give 3 sections whose sides"):
        write_package(network, tmp_path / "model.zip", example, card, stride=2)


def test_the_package_says_what_it_is(tmp_path, network, example, spec):
    path = tmp_path / "model.zip"
    write_package(network, path, example, CARD, stride=2, halo=4, mean=120, standard_deviation=40)
    model = spec.load_description(path)
    assert model.name == CARD.name
    assert str(model.license) == "BSD-3-Clause"
    assert [author.name for author in model.authors] == ["Ada Lovelace"]
    assert "arXiv.1810.09734" in str(model.cite[0].doi)
    assert {"electron microscopy", "unet"} <= set(model.tags)
    y, x = model.inputs[0].axes[2:]
    assert (y.scale, x.scale) == pytest.approx((4.6, 4.6), rel=1e-10)
    assert (x.unit, x.size.min, x.size.step) == ("nanometer", 10, 2)
    assert model.outputs[0].axes[-1].halo == 4
    assert [str(name) for name in model.outputs[0].axes[1].channel_names] == [
        "background",
        "mitochondrion__all_",
    ]


def test_a_missing_extra_says_how_to_get_it(tmp_path, network, example, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioimageio.spec.model", None)
    with pytest.raises(SettingsError, match=r'pip install "napari-emda\[bioimageio\]"'):
        write_package(network, tmp_path / "model.zip", example, CARD, stride=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("spec")
def test_invalid_examples_and_cards_are_refused(tmp_path, network, example):
    path = tmp_path / "model.zip"
    with pytest.raises(
        DataError,
        match="32 × 47 pixels: give one section whose sides are multiples of 2 and at least",
    ):
        write_package(network, path, example[:, :47], CARD, stride=2)
    with pytest.raises(DataError, match="at least 66"):
        write_package(network, path, example, CARD, stride=2, halo=32)
    wrong = ModelCard(**{**CARD.__dict__, "licence": "mine"})
    with pytest.raises(SettingsError, match="license"):
        write_package(network, path, example, wrong, stride=2)
    assert list(tmp_path.iterdir()) == []

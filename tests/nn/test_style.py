"""Style transfer: receptive field, losses and their gradients, stages and preview."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.metrics import mean_squared_error
from sklearn.preprocessing import normalize

from napari_emda.data.box import Box
from napari_emda.data.volume import IGNORE
from napari_emda.events import Advanced, Phase, Preview, Translated
from napari_emda.inference.predictor import Predictor
from napari_emda.jobs.preview import PreviewRequest, PreviewWriter, translate_box
from napari_emda.methods.base import DataSummary, methods
from napari_emda.nn.discriminators import PatchDiscriminator, least_squares
from napari_emda.nn.networks.unet import UNet
from napari_emda.nn.style import Generator, PatchContrast
from napari_emda.nn.style import Translated as TranslatedNetwork
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Patches
from tests.contracts.test_network_contract import PeakOfMaps

STYLE = "style"
SEGMENTS = "segments"


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(summary=None, **settings):
    cls = methods["style_transfer"]
    network = UNet(2, UNet.Settings(base_channels=8, dropout=0.0))
    return cls(cls.Settings.parse({"blocks": 2, **settings}), network, summary or DataSummary())


def batch(n=2, side=32):
    image, other = torch.randn(2, n, 1, side, side)
    labels = (image[:, 0] > 0.5).long()
    return {
        "source": Patches(image, labels, image),
        "target": Patches(other, torch.full_like(labels, IGNORE), other),
    }


def randomised(generator):
    """The generator with random weights in its head, which start at 0."""
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    return generator


# -- the generator ---------------------------------------------------------------------------------


def test_the_generator_starts_as_the_identity():
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(Generator(width=8, blocks=2)(x), x)


@pytest.mark.parametrize("blocks", [2, 5])
def test_a_pixel_changes_nothing_beyond_the_reach_of_the_generator(blocks):
    generator = randomised(Generator(width=8, blocks=blocks)).eval()
    side = 2 * generator.reach + 24
    image = torch.randn(1, 1, side, side)
    middle = side // 2
    other = image.clone()
    other[..., middle, middle] += 50
    with torch.no_grad():
        changed = (generator(image) - generator(other)).abs()[0, 0] > 1e-6
    rows, columns = changed.nonzero().T
    assert changed.any()
    for positions in (rows, columns):
        assert int((positions - middle).abs().max()) <= generator.reach


def test_a_translated_network_segments_the_translation():
    generator = randomised(Generator(width=8, blocks=2)).eval()
    network = UNet(2, UNet.Settings(base_channels=8)).eval()
    translated = TranslatedNetwork(generator, network)
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(translated(x), network(generator(x)))
    assert translated.halo >= network.halo + generator.reach
    assert translated.halo % translated.stride == 0


def test_a_translated_network_keeps_the_protocol_of_networks():
    """Suggestions need its maps, tiles its memory per pixel."""
    generator = randomised(Generator(width=16, blocks=2)).eval()
    network = UNet(2, UNet.Settings(base_channels=8)).eval()
    translated = TranslatedNetwork(generator, network).eval()
    image = torch.randn(2, 1, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        network.offset.copy_(torch.tensor([0.0, 2.0]))
        maps = translated.encode(image)
        assert tuple(m.shape[1] for m in maps) == translated.widths
        assert torch.equal(translated.decode(maps), translated(image))
        assert torch.equal(translated(image), network(generator(image)))
        no_image = torch.full_like(image, torch.nan)
        from_reused = translated.encode(no_image, maps[: translated.reusable])
        assert all(map(torch.equal, from_reused, maps))
        with PeakOfMaps() as measured:
            translated(image)
    assert measured.peak <= translated.bytes_per_pixel * image.numel()
    assert translated.dropout_layers == network.dropout_layers


# -- losses ----------------------------------------------------------------------------------------


def test_the_contrast_is_the_cross_entropy_of_the_right_position():
    contrast = PatchContrast([6], dimensions=5, positions=100)
    a, b = torch.randn(2, 2, 6, 4, 4)
    with torch.no_grad():
        result = float(contrast([a], [b]))
        rows = [contrast.embeddings[0](m.flatten(2).transpose(1, 2)).numpy() for m in (a, b)]
    expected = []
    for query, key in zip(*rows, strict=True):
        logits = normalize(query) @ normalize(key).T / 0.07
        expected.append(-log_softmax(logits, axis=1).diagonal().mean())
    assert result == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_contrast_prefers_the_same_content_and_has_no_gradient_for_the_original():
    contrast = PatchContrast([6])
    a, b = (torch.randn(1, 6, 8, 8, requires_grad=True) for _ in range(2))
    same = contrast([a], [a.detach()])
    different = contrast([a], [b])
    assert float(same.detach()) < 0.5 * float(different.detach())
    different.backward()
    assert a.grad.abs().sum() > 0
    assert b.grad is None


def test_at_most_256_positions_are_compared():
    contrast = PatchContrast([4])
    positions = []
    contrast.embeddings[0].register_forward_hook(
        lambda module, inputs, result: positions.append(result.shape[1])
    )
    contrast([torch.randn(1, 4, 32, 32)], [torch.randn(1, 4, 32, 32)])
    assert positions == [256, 256]


def test_the_adversarial_loss_is_the_mean_squared_error():
    decisions = torch.randn(2, 1, 4, 4)
    for real in (True, False):
        expected = mean_squared_error(np.full(32, float(real)), decisions.flatten())
        assert float(least_squares(decisions, real)) == pytest.approx(expected, rel=1e-5)
    assert PatchDiscriminator(1)(torch.randn(2, 1, 64, 64)).shape == (2, 1, 8, 8)


# -- gradients and stages --------------------------------------------------------------------------


def modules_with_gradient(method, loss):
    """Names of the method's modules that get a gradient from a loss."""
    method.zero_grad()
    loss.backward(retain_graph=True)
    return {
        name
        for name in ("generator", "critic", "contrast", "network")
        if any(p.grad is not None and p.grad.any() for p in getattr(method, name).parameters())
    }


def test_generator_and_critic_get_no_gradient_from_the_loss_of_the_other():
    method = build()
    randomised(method.generator)
    losses = method.losses(batch(), 0.0)
    assert modules_with_gradient(method, losses["adversarial"]) == {"generator"}
    assert modules_with_gradient(method, losses["critic"]) == {"critic"}
    for name in ("contrast", "identity"):
        assert modules_with_gradient(method, losses[name]) == {"generator", "contrast"}


def test_translation_is_trained_first_and_then_segmentation():
    method = build(stage=0.3)
    assert set(method.losses(batch(), 0.29)) == {"contrast", "identity", "adversarial", "critic"}
    assert set(method.losses(batch(), 0.3)) == {"segmentation"}
    assert method.learning_rate(0.1, SEGMENTS) == 0 < method.learning_rate(0.1, STYLE)
    assert method.learning_rate(0.5, STYLE) == 0 < method.learning_rate(0.5, SEGMENTS)


def recorded_inputs(network, monkeypatch):
    """A list to which every image that the network encodes is appended."""
    inputs = []
    encode = network.encode
    monkeypatch.setattr(network, "encode", lambda x: inputs.append(x) or encode(x))
    return inputs


@pytest.mark.parametrize("direction", ["source_to_target", "target_to_source"])
def test_the_direction_determines_which_volume_is_translated(direction, monkeypatch):
    method = build(direction=direction, translated=1.0)
    randomised(method.generator)
    patches = batch()
    inputs = recorded_inputs(method.network, monkeypatch)
    method.losses(patches, 0.9)
    assert torch.equal(inputs[0], patches["source"].image) == (direction == "target_to_source")
    translates_target = isinstance(method.predictor, TranslatedNetwork)
    assert translates_target == (direction == "target_to_source")
    assert method.translator.domain == direction.split("_")[0]
    assert method.trained is method.network


def test_a_translated_target_has_maps_of_objects(make_training, source, target, tmp_path):
    settings = {"blocks": 2, "direction": "target_to_source"}
    training = make_training(
        [source, target], tmp_path / "run", "style_transfer", settings, objects="contour"
    )
    predictor = training.method.predictor
    assert isinstance(predictor, TranslatedNetwork)
    outputs = Predictor(predictor, training.header, training.compute).outputs(
        torch.randn(1, 1, 40, 48), "target"
    )
    assert outputs.shape == (1, 4, 40, 48)


def test_a_fraction_of_the_source_patches_is_not_translated(monkeypatch):
    method = build(translated=0.5)
    randomised(method.generator)
    patches = batch(40)
    inputs = recorded_inputs(method.network, monkeypatch)
    method.losses(patches, 0.9)
    unchanged = (inputs[0] == patches["source"].image).all((1, 2, 3)).float().mean()
    assert 0.2 < float(unchanged) < 0.8


def test_translation_is_trained_on_clean_patches():
    method = build()
    prepared = method.prepare(batch(), Augmentation("none", 0), 0.0)
    brighter = {domain: Patches(p.image + 9, p.labels, p.clean) for domain, p in prepared.items()}

    def losses(patches):
        torch.manual_seed(1)
        return {name: float(loss.detach()) for name, loss in method.losses(patches, 0.0).items()}

    assert losses(prepared) == losses(brighter)


# -- preview ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["source_to_target", "target_to_source"])
def test_the_preview_shows_an_image_and_its_translation(
    direction, make_training, source, target, tmp_path
):
    settings = {"blocks": 2, "direction": direction}
    training = make_training([source, target], tmp_path / "run", "style_transfer", settings)
    request = PreviewRequest()
    request.set("target", Box((2, 10, 20), (3, 70, 96)))
    volumes = {"source": source, "target": target}
    due = PreviewWriter(training, volumes, request, RunFolder(tmp_path / "run")).due(1)
    events = [event for event in due if not isinstance(event, Advanced | Phase)]
    assert [type(event) for event in events] == [Preview, Translated]
    translated = events[1]
    assert translated.volume == direction.split("_")[0]
    assert translated.box == (2, 3, 10, 70, 20, 96)
    pair = np.load(translated.path)
    assert pair.shape == (2, 60, 76)
    assert pair.dtype == np.uint8
    np.testing.assert_array_equal(pair[0], pair[1])  # the generator is still the identity
    statistics = training.header.statistics[translated.volume]
    image = volumes[translated.volume].image[2, 10:70, 20:96]
    expected = ((image - statistics.mean) / statistics.std + 3) / 6 * 255
    np.testing.assert_allclose(pair[0], expected.clip(0, 255), atol=0.51)


def test_a_block_is_translated_as_the_whole_section(make_training, source, target, tmp_path):
    training = make_training([source, target], tmp_path / "run", "style_transfer", {"blocks": 2})
    method = training.method.eval()
    randomised(method.generator)
    predictor = Predictor(method.predictor, training.header, training.compute)
    section, block = (
        translate_box(method.translator, predictor, source, box)
        for box in (Box((1, 0, 0), (2, 96, 96)), Box((1, 30, 40), (2, 61, 77)))
    )
    assert not np.array_equal(section[0], section[1])
    assert np.abs(section[:, 30:61, 40:77].astype(int) - block).max() <= 1


def test_other_methods_show_no_translation(make_training, source, target, tmp_path):
    training = make_training([source, target], tmp_path / "run", "histogram")
    request = PreviewRequest()
    request.set("target", Box((0, 0, 0), (1, 96, 96)))
    volumes = {"source": source, "target": target}
    due = PreviewWriter(training, volumes, request, RunFolder(tmp_path / "run")).due(1)
    events = [event for event in due if not isinstance(event, Advanced | Phase)]
    assert [type(event) for event in events] == [Preview]

"""Style transfer: what the generator may reach, what its losses ask for, whom they teach, and what is shown of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.metrics import mean_squared_error
from sklearn.preprocessing import normalize

from napari_emda.data.box import Box
from napari_emda.data.volume import IGNORE
from napari_emda.events import Preview, Translated
from napari_emda.inference.predictor import Predictor
from napari_emda.jobs.preview import PreviewRequest, PreviewWriter, translate_box
from napari_emda.methods.base import DataSummary, methods
from napari_emda.nn.discriminators import PatchDiscriminator, least_squares
from napari_emda.nn.networks.unet import UNet
from napari_emda.nn.style import Generator, PatchContrast
from napari_emda.nn.style import Translated as Behind
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.sampler import Patches
from tests.contracts.test_network_contract import PeakOfMaps

STYLE, SEGMENTS = "style", "segments"


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


def awake(generator):
    """A generator that changes its input: it begins as the identity."""
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    return generator


# -- the generator -----------------------------------------------------------------------------------------------


def test_the_generator_begins_as_the_identity():
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(Generator(width=8, blocks=2)(x), x)


@pytest.mark.parametrize("blocks", [2, 5])
def test_nothing_beyond_its_reach_changes_a_translation(blocks):
    generator = awake(Generator(width=8, blocks=blocks)).eval()
    side = 2 * generator.reach + 24
    image = torch.randn(1, 1, side, side)
    middle = side // 2
    other = image.clone()
    other[..., middle, middle] += 50
    with torch.no_grad():
        changed = (generator(image) - generator(other)).abs()[0, 0] > 1e-6
    rows, columns = changed.nonzero().T
    assert changed.any()
    for places in (rows, columns):
        assert int((places - middle).abs().max()) <= generator.reach


def test_behind_the_generator_the_network_sees_the_translation():
    generator, network = (
        awake(Generator(width=8, blocks=2)).eval(),
        UNet(2, UNet.Settings(base_channels=8)).eval(),
    )
    behind, x = Behind(generator, network), torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(behind(x), network(generator(x)))
    assert behind.halo >= network.halo + generator.reach
    assert behind.halo % behind.stride == 0


def test_behind_the_generator_it_is_a_network_like_any_other():
    """So that patches can be suggested, and blocks of a volume fit the memory."""
    generator = awake(Generator(width=16, blocks=2)).eval()
    network = UNet(2, UNet.Settings(base_channels=8)).eval()
    behind = Behind(generator, network).eval()
    image = torch.randn(2, 1, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        network.offset.copy_(torch.tensor([0.0, 2.0]))
        maps = behind.encode(image)
        assert tuple(m.shape[1] for m in maps) == behind.widths
        assert torch.equal(behind.decode(maps), behind(image))
        assert torch.equal(behind(image), network(generator(image)))
        shared = behind.encode(torch.full_like(image, torch.nan), maps[: behind.reusable])
        assert all(map(torch.equal, shared, maps))
        with PeakOfMaps() as measured:
            behind(image)
    assert measured.peak <= behind.bytes_per_pixel * image.numel()
    assert behind.dropout_layers == network.dropout_layers


# -- its losses --------------------------------------------------------------------------------------------------


def test_the_contrast_is_the_cross_entropy_of_the_right_place():
    contrast = PatchContrast([6], dimensions=5, positions=100)
    a, b = torch.randn(2, 2, 6, 4, 4)
    with torch.no_grad():
        found = float(contrast([a], [b]))
        rows = [contrast.embeddings[0](m.flatten(2).transpose(1, 2)).numpy() for m in (a, b)]
    expected = []
    for query, key in zip(*rows, strict=True):
        logits = normalize(query) @ normalize(key).T / 0.07
        expected.append(-log_softmax(logits, axis=1).diagonal().mean())
    assert found == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_contrast_prefers_the_same_content_and_teaches_the_translation_alone():
    contrast = PatchContrast([6])
    a, b = (torch.randn(1, 6, 8, 8, requires_grad=True) for _ in range(2))
    same, other = contrast([a], [a.detach()]), contrast([a], [b])
    assert float(same.detach()) < 0.5 * float(other.detach())
    other.backward()
    assert a.grad.abs().sum() > 0
    assert b.grad is None


def test_at_most_256_places_are_compared():
    contrast, seen = PatchContrast([4]), []
    contrast.embeddings[0].register_forward_hook(
        lambda module, given, out: seen.append(out.shape[1])
    )
    contrast([torch.randn(1, 4, 32, 32)], [torch.randn(1, 4, 32, 32)])
    assert seen == [256, 256]


def test_the_critic_decides_by_least_squares():
    decisions = torch.randn(2, 1, 4, 4)
    for real in (True, False):
        truth = np.full(32, float(real))
        assert float(least_squares(decisions, real)) == pytest.approx(
            mean_squared_error(truth, decisions.flatten()), rel=1e-5
        )
    assert PatchDiscriminator(1)(torch.randn(2, 1, 64, 64)).shape == (2, 1, 8, 8)


# -- who learns what ---------------------------------------------------------------------------------------------


def taught(method, loss):
    """Which parts of the method get a gradient from a loss."""
    method.zero_grad()
    loss.backward(retain_graph=True)
    parts = {name: getattr(method, name) for name in ("generator", "critic", "contrast", "network")}
    return {
        name
        for name, part in parts.items()
        if any(p.grad is not None and p.grad.any() for p in part.parameters())
    }


def test_generator_and_critic_do_not_learn_from_each_others_losses():
    method = build()
    awake(method.generator)
    losses = method.losses(batch(), 0.0)
    assert taught(method, losses["adversarial"]) == {"generator"}
    assert taught(method, losses["critic"]) == {"critic"}
    for name in ("contrast", "identity"):
        assert taught(method, losses[name]) == {"generator", "contrast"}


def test_first_the_look_is_learnt_then_the_segmentation():
    method = build(stage=0.3)
    assert set(method.losses(batch(), 0.29)) == {"contrast", "identity", "adversarial", "critic"}
    assert set(method.losses(batch(), 0.3)) == {"segmentation"}
    assert method.learning_rate(0.1, SEGMENTS) == 0 < method.learning_rate(0.1, STYLE)
    assert method.learning_rate(0.5, STYLE) == 0 < method.learning_rate(0.5, SEGMENTS)


@pytest.mark.parametrize("direction", ["source_to_target", "target_to_source"])
def test_the_direction_says_which_volume_is_translated(direction, monkeypatch):
    method, seen = build(direction=direction, translated=1.0), []
    awake(method.generator)
    encode = method.network.encode
    monkeypatch.setattr(method.network, "encode", lambda x: seen.append(x) or encode(x))
    given = batch()
    method.losses(given, 0.9)
    assert torch.equal(seen[0], given["source"].image) == (direction == "target_to_source")
    behind = isinstance(method.predictor, Behind)
    assert behind == (direction == "target_to_source")
    assert method.translator.domain == direction.split("_")[0]
    assert method.trained is method.network


def test_a_share_of_the_source_keeps_its_look(monkeypatch):
    method, seen = build(translated=0.5), []
    awake(method.generator)
    encode = method.network.encode
    monkeypatch.setattr(method.network, "encode", lambda x: seen.append(x) or encode(x))
    given = batch(40)
    method.losses(given, 0.9)
    kept = (seen[0] == given["source"].image).all((1, 2, 3)).float().mean()
    assert 0.2 < float(kept) < 0.8


def test_the_look_is_learnt_from_clean_patches():
    method, given = build(), batch()
    prepared = method.prepare(given, Augmentation("none", 0), 0.0)
    noisy = {domain: Patches(p.image + 9, p.labels, p.clean) for domain, p in prepared.items()}
    losses = []
    for each in (prepared, noisy):
        torch.manual_seed(1)
        losses.append(
            {name: float(loss.detach()) for name, loss in method.losses(each, 0.0).items()}
        )
    assert losses[0] == losses[1]


# -- what is shown -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["source_to_target", "target_to_source"])
def test_a_pair_of_looks_is_shown_where_the_user_is(
    direction, make_training, source, target, tmp_path
):
    settings = {"blocks": 2, "direction": direction}
    training = make_training([source, target], tmp_path / "run", "style_transfer", settings)
    view, volumes = PreviewRequest(), {"source": source, "target": target}
    view.set("target", Box((2, 10, 20), (3, 70, 96)))
    events = list(PreviewWriter(training, volumes, view, RunFolder(tmp_path / "run")).due(1))
    assert [type(event) for event in events] == [Preview, Translated]
    shown = events[1]
    assert (shown.volume, shown.box) == (direction.split("_")[0], (2, 3, 10, 70, 20, 96))
    pair = np.load(shown.path)
    assert (pair.shape, pair.dtype) == ((2, 60, 76), np.uint8)
    np.testing.assert_array_equal(pair[0], pair[1])  # the generator has learnt nothing yet
    statistics = training.header.statistics[shown.volume]
    image = volumes[shown.volume].image[2, 10:70, 20:96]
    expected = ((image - statistics.mean) / statistics.std + 3) / 6 * 255
    np.testing.assert_allclose(pair[0], expected.clip(0, 255), atol=0.51)


def test_a_piece_is_translated_as_the_whole(make_training, source, target, tmp_path):
    training = make_training([source, target], tmp_path / "run", "style_transfer", {"blocks": 2})
    method = training.method.eval()
    awake(method.generator)
    predictor = Predictor(method.predictor, training.header, training.compute)
    whole, piece = (
        translate_box(method.translator, predictor, source, box)
        for box in (Box((1, 0, 0), (2, 96, 96)), Box((1, 30, 40), (2, 61, 77)))
    )
    assert not np.array_equal(whole[0], whole[1])
    assert np.abs(whole[:, 30:61, 40:77].astype(int) - piece).max() <= 1


def test_other_methods_show_no_translation(make_training, source, target, tmp_path):
    training = make_training([source, target], tmp_path / "run", "histogram")
    view = PreviewRequest()
    view.set("target", Box((0, 0, 0), (1, 96, 96)))
    events = list(
        PreviewWriter(
            training, {"source": source, "target": target}, view, RunFolder(tmp_path / "run")
        ).due(1)
    )
    assert [type(event) for event in events] == [Preview]

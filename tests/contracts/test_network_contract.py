"""The contract of networks; every registered network is tested."""

from __future__ import annotations

import copy
import importlib.util
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import JobError, SettingsError
from napari_emda.export.bioimageio import write_package
from napari_emda.export.model_card import ModelCard
from napari_emda.nn.layers import lay_channels_last
from napari_emda.nn.losses import deep_supervision, segmentation
from napari_emda.nn.network import Network, NetworkConfig, WithSoftmax, networks
from napari_emda.nn.normalisation import evaluating, in_domain, norms
from napari_emda.nn.stacks import Stacked
from napari_emda.settings.base import Settings

NAMES = networks.names()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=[f"{name}-{profile}" for name in NAMES for profile in ("test", "standard")])
def network(request):
    """Every network with the settings of two profiles, and with random statistics."""
    name, _, profile = request.param.partition("-")
    return build(name, profile)


def build(name, profile="test", classes=2, channels=1, **values):
    cls = networks[name]
    # All settings of the profile except the width, which takes time and does not matter here.
    settings = cls.settings_for(profile, {**width_of(cls), **values})
    # Sections so far apart that each one can be seen alone: all that holds for others holds then.
    depth = {"section_ratio": 1000.0} if cls.dimensions == 3 else {}
    network = alone(cls(classes, settings, channels, **depth))
    for layer in norms(network):
        layer.running_mean.normal_(0, 0.1)
        layer.running_var.uniform_(0.5, 2)
    return network.eval()


def alone(network):
    """Every section of a batch is a stack of its own."""
    for part in network.modules():
        if isinstance(part, Stacked):
            part.stack = 1
    return network


def width_of(cls):
    narrow = {"base_channels": 8, "width": 64, "layers": 2}
    return {key: value for key, value in narrow.items() if key in cls.Settings.model_fields}


def test_its_docstring_starts_with_a_sentence(name):
    cls = networks[name]
    sentence = " ".join(cls.__doc__.split("\n\n")[0].split())
    assert sentence.endswith(".")
    assert len(sentence) < 160
    assert cls.name == name
    assert issubclass(cls, Network)
    assert issubclass(cls.Settings, Settings)


# -- shapes ----------------------------------------------------------------------------------------


def test_maps_and_logits_have_the_stated_shapes(network):
    height = network.stride
    width = 3 * network.stride
    maps = network.encode(torch.randn(2, 1, height, width))
    assert tuple(m.shape[1] for m in maps) == network.widths
    assert maps[0].shape[2:] == (height, width)
    assert maps[-1].shape[2:] == (1, 3)
    assert network.decode(maps).shape == (2, 2, height, width)
    assert len(maps) > 1


def test_it_takes_several_channels_and_classes(name):
    if networks[name].dimensions == 3:
        with pytest.raises(SettingsError, match="set context to 0"):
            build(name, channels=3)
        return
    network = build(name, classes=4, channels=3)
    assert network(torch.randn(1, 3, network.stride, network.stride)).shape[1] == 4


def test_other_sizes_are_refused(network):
    with torch.no_grad(), pytest.raises(RuntimeError):
        network(torch.zeros(1, 1, network.stride + 1, network.stride))


@pytest.mark.parametrize("training", [False, True])
def test_encoding_and_decoding_is_the_same_as_all_at_once(network, training):
    x = torch.randn(2, 1, 2 * network.stride, 2 * network.stride)
    network.train(training)
    network.offset.normal_()
    with torch.no_grad():
        other = copy.deepcopy(network)
        torch.manual_seed(1)
        expected = network(x)
        torch.manual_seed(1)
        result = other.decode(other.encode(x))
    assert torch.equal(result, expected)


def test_the_offset_is_added_in_evaluation_and_can_be_absorbed(network):
    maps = [m.detach() for m in network.encode(torch.randn(1, 1, network.stride, network.stride))]
    with torch.no_grad():
        before = network.decode(maps)
        network.offset.copy_(torch.tensor([0.0, 1.5]))
        after = network.decode(maps)
        torch.testing.assert_close(after[:, 0], before[:, 0])
        torch.testing.assert_close(after[:, 1], before[:, 1] + 1.5)
        torch.testing.assert_close(network.classify(network.features(maps))[0], before)
        network.absorb_offset()
        assert not network.offset.any()
        torch.testing.assert_close(network.decode(maps), after)


# -- receptive field and memory --------------------------------------------------------------------


def test_nothing_beyond_the_halo_changes_a_logit(network):
    side = 2 * network.halo + 2 * network.stride
    middle = side // 2
    assert network.halo % network.stride == 0
    image = torch.randn(1, 1, side, side)
    with torch.no_grad():
        before = network(image)
        y = middle - 1
        # At several positions on the grid of the coarsest map.
        for offset in (0, network.stride // 2 + 1, network.stride - 1):
            x = middle - network.stride + offset
            other = image.clone()
            other[0, 0, y, x] += 100
            changed = (network(other) - before).abs().amax((0, 1)) > 1e-5
            rows = changed.any(1).nonzero()
            columns = changed.any(0).nonzero()
            assert changed[y, x]
            assert (rows - y).abs().max() <= network.halo
            assert (columns - x).abs().max() <= network.halo


def test_the_halo_is_not_much_larger_than_the_receptive_field(network):
    """With positive weights no paths cancel; of equal inputs, pooling takes one."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.05 if parameter.ndim > 1 else 1.0)
    side = 2 * network.halo + 2 * network.stride
    image = torch.ones(1, 1, side, side, dtype=torch.double, requires_grad=True)
    network.double()(image)[0, 0, side // 2, side // 2].backward()
    reach = (image.grad[0, 0].nonzero() - side // 2).abs().max()
    assert network.halo - 3 * network.stride <= reach <= network.halo


def test_shifting_by_the_stride_shifts_the_logits(network):
    stride = network.stride
    halo = network.halo
    side = 2 * halo + 3 * stride
    image = torch.randn(1, 1, 2 * stride, side + stride)
    with torch.no_grad():
        left = network(image[..., :side])
        right = network(image[..., stride:])
    expected = left[..., halo + stride : side - halo]
    result = right[..., halo : side - halo - stride]
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


class PeakOfMaps(TorchDispatchMode):
    """Measures the peak memory of the tensors that are created in it, in bytes."""

    def __init__(self):
        super().__init__()
        self.live = {}
        self.now = 0
        self.peak = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage):
        if storage.data_ptr() in self.live or not storage.nbytes():
            return
        key = storage.data_ptr()
        size = storage.nbytes()
        self.live[key] = weakref.finalize(storage, self._freed, key, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _freed(self, key, size):
        self.live.pop(key, None)
        self.now -= size


def test_maps_take_no_more_than_the_stated_memory(network):
    side = max(4 * network.stride, 64)
    image = torch.randn(3, 1, side, side).contiguous(memory_format=torch.channels_last)
    lay_channels_last(network)
    with evaluating(network), PeakOfMaps() as measured:
        network(image)
    per_pixel = measured.peak / image.numel()
    assert 0.4 * network.bytes_per_pixel <= per_pixel <= network.bytes_per_pixel


# -- dropout and statistics ------------------------------------------------------------------------


def test_only_the_dropout_layers_are_random(network):
    x = torch.randn(1, 1, 2 * network.stride, 2 * network.stride)
    with torch.no_grad():
        assert torch.equal(network(x), network(x))
        # All other layers without children, except normalisation, in training mode.
        fixed = {*network.dropout_layers, *norms(network)}
        for layer in network.modules():
            if layer not in fixed and not list(layer.children()):
                layer.training = True
        assert torch.equal(network(x), network(x))
        network.eval()
        for layer in network.dropout_layers:
            layer.train()
        assert torch.equal(network(x), network(x)) == (not network.dropout_layers)


def test_samples_by_dropout_share_the_reusable_maps(network):
    x = torch.randn(1, 1, 2 * network.stride, 2 * network.stride)
    with torch.no_grad():
        maps = network.encode(x)[: network.reusable]
        for layer in network.dropout_layers:
            layer.train()
        torch.manual_seed(3)
        expected = network.encode(x)
        torch.manual_seed(3)
        no_image = torch.full_like(x, torch.nan)
        from_reused = network.encode(no_image, maps) if maps else expected
    assert all(map(torch.equal, from_reused, expected))
    assert all(map(torch.equal, maps, expected))


def test_domains_have_separate_statistics_or_none(name):
    network = build(name).train()
    before = [layer.running_mean.clone() for layer in norms(network)]
    with in_domain(network, "target"):
        network(torch.randn(2, 1, 4 * network.stride, 4 * network.stride))
    for layer, mean in zip(norms(network), before, strict=True):
        assert torch.equal(layer.running_mean[0], mean[0])
        assert not torch.equal(layer.running_mean[1], mean[1])
    shared = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert not shared, "both domains would update these statistics"


# -- training --------------------------------------------------------------------------------------


def test_the_supervised_loss_has_a_gradient_for_every_parameter(name):
    network = build(name).train()
    side = 4 * network.stride
    labels = torch.randint(0, 2, (2, side, side))
    logits = network.classify(network.features(network.encode(torch.randn(2, 1, side, side))))
    assert logits[0].shape[2:] == (side, side)
    sizes = [x.shape[-1] for x in logits]
    assert sizes == sorted(sizes, reverse=True)
    assert all(side % size == 0 for size in sizes)
    deep_supervision(segmentation, logits, labels).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(p.grad.any() for p in network.parameters() if p.ndim > 1)


@pytest.mark.parametrize("skips", [True, False])
def test_another_decoder_takes_its_maps(name, skips):
    network = build(name)
    decoder = network.make_decoder(skips=skips).eval()
    with torch.no_grad():
        maps = network.encode(torch.randn(1, 1, 2 * network.stride, 2 * network.stride))
        result = decoder(maps)
        assert result.shape[1:] == (network.head.in_channels, *maps[0].shape[2:])
        without_skips = decoder([*(torch.zeros_like(m) for m in maps[:-1]), maps[-1]])
        assert torch.equal(result, without_skips) == (not skips)
        assert not torch.equal(result, decoder([*maps[:-1], maps[-1] + 1]))


def test_encoding_and_decoding_parameters_are_all_parameters(name):
    network = build(name)
    parameters = [*network.encoder.parameters(), *network.decoding_parameters]
    assert sorted(map(id, parameters)) == sorted(map(id, network.parameters()))


# -- configuration, weights and export -------------------------------------------------------------


def test_its_configuration_rebuilds_it(network):
    config = NetworkConfig.model_validate_json(network.config.model_dump_json())
    rebuilt = alone(config.build())
    rebuilt.load_state_dict(network.state_dict())
    x = torch.randn(1, 1, network.stride, network.stride)
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(x), network(x))


def test_it_adopts_the_weights_of_another_network(name):
    trained = build(name)
    new = build(name)
    x = torch.randn(1, 1, trained.stride, trained.stride)
    new.adopt(trained)
    with torch.no_grad():
        assert torch.equal(new(x), trained(x))


def test_with_other_classes_it_adopts_all_but_the_heads(name):
    trained = build(name)
    other = build(name, classes=3)
    x = torch.randn(1, 1, trained.stride, trained.stride)
    heads = {k: v.clone() for k, v in other.state_dict().items() if v.shape[:1] == (3,)}
    other.adopt(trained, classes=False)
    assert all(map(torch.equal, other.encode(x), trained.encode(x)))
    assert all(torch.equal(other.state_dict()[key], value) for key, value in heads.items())
    with pytest.raises(JobError, match=r"has another network \(.*here .*\): give both"):
        build(name, classes=3).adopt(trained)


@pytest.mark.skipif(not importlib.util.find_spec("bioimageio"), reason="comes with an extra")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # by the library
def test_it_can_be_exported(name, tmp_path):
    network = build(name)
    side = network.stride + 2 * network.halo
    example = np.random.default_rng(0).normal(120, 40, (side, side))
    card = ModelCard("A network", "Finds x.", ("background", "x"), VoxelGrid((1, 4, 4), "nm"))
    path = tmp_path / "model.zip"
    write_package(
        WithSoftmax(network, "target"),
        path,
        example,
        card,
        stride=network.stride,
        halo=network.halo,
        mean=120,
        standard_deviation=40,
    )
    assert path.exists()


@pytest.mark.parametrize("mapped", [(True, True), (True, False), (False, True)])
def test_weights_are_taken_from_networks_with_and_without_maps(name, mapped):
    other, network = (build(name), build(name))
    for net, maps in zip((other, network), mapped, strict=True):
        if maps:
            net.add_object_head()
        assert net.config.build().maps_objects == maps
    own = {key: value.clone() for key, value in network.state_dict().items() if "object" in key}
    network.adopt(other)
    x = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(network(x), other(x))
    if all(mapped):
        assert torch.equal(network.object_head.weight, other.object_head.weight)
        logits, maps = network.decode_with_objects(network.encode(x))
        torch.testing.assert_close(logits, network(x))
        assert maps.shape == (1, 2, 64, 64)
    else:
        assert all(torch.equal(network.state_dict()[key], value) for key, value in own.items())

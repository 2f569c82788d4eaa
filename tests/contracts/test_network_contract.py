"""What every network keeps, whoever wrote it; a new one is tested by being registered."""

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
from napari_emda.errors import JobError
from napari_emda.export.bioimageio import ModelCard, write_package
from napari_emda.nn.losses import deep_supervision, segmentation
from napari_emda.nn.network import Network, NetworkConfig, WithSoftmax, networks
from napari_emda.nn.normalisation import evaluating, in_domain, norms
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
    """As small and as large as profiles make it, with statistics unlike those of a fresh one."""
    name, _, profile = request.param.partition("-")
    return build(name, profile)


def build(name, profile="test", classes=2, channels=1, **values):
    cls = networks[name]
    # all that a profile says but the width, which costs time and changes nothing here
    settings = cls.settings_for(profile, {**width_of(cls), **values})
    made = cls(classes, settings, channels)
    for layer in norms(made):
        layer.running_mean.normal_(0, 0.1)
        layer.running_var.uniform_(0.5, 2)
    return made.eval()


def width_of(cls):
    return {"base_channels": 8} if "base_channels" in cls.Settings.model_fields else {}


def test_it_introduces_itself_in_a_sentence(name):
    cls = networks[name]
    first = " ".join(cls.__doc__.split("\n\n")[0].split())
    assert first.endswith(".")
    assert len(first) < 160
    assert cls.name == name
    assert issubclass(cls, Network)
    assert issubclass(cls.Settings, Settings)


# -- shapes --------------------------------------------------------------------------------------


def test_maps_and_logits_have_the_shapes_that_it_says(network):
    height, width = network.stride, 3 * network.stride
    maps = network.encode(torch.randn(2, 1, height, width))
    assert tuple(m.shape[1] for m in maps) == network.widths
    assert maps[0].shape[2:] == (height, width)
    assert maps[-1].shape[2:] == (1, 3)
    assert network.decode(maps).shape == (2, 2, height, width)
    assert len(maps) > 1


def test_it_takes_several_channels_and_classes(name):
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
        states = [copy.deepcopy(network) for _ in range(2)]
        torch.manual_seed(1)
        whole = states[0](x)
        torch.manual_seed(1)
        parts = states[1].decode(states[1].encode(x))
    assert torch.equal(whole, parts)


def test_the_offset_counts_in_evaluation_alone_and_can_be_absorbed(network):
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


# -- how far it sees -----------------------------------------------------------------------------


def test_nothing_beyond_the_halo_changes_a_logit(network):
    side, middle = 2 * network.halo + 2 * network.stride, network.halo + network.stride
    assert network.halo % network.stride == 0
    image = torch.randn(1, 1, side, side)
    with torch.no_grad():
        before = network(image)
        # wherever on the grid of the coarsest map the pixel lies
        for offset in (0, network.stride // 2 + 1, network.stride - 1):
            y, x = middle - 1, middle - network.stride + offset
            other = image.clone()
            other[0, 0, y, x] += 100
            changed = (network(other) - before).abs().amax((0, 1)) > 1e-5
            rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
            assert changed[y, x]
            assert (rows - y).abs().max() <= network.halo
            assert (columns - x).abs().max() <= network.halo


def test_the_halo_is_not_much_larger_than_what_a_pixel_reaches(network):
    """With positive weights no path cancels; where a maximum is taken one of the equal ones counts."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.05 if parameter.ndim > 1 else 1.0)
    side = 2 * network.halo + 2 * network.stride
    image = torch.ones(1, 1, side, side, dtype=torch.double, requires_grad=True)
    network.double()(image)[0, 0, side // 2, side // 2].backward()
    reach = (image.grad[0, 0].nonzero() - side // 2).abs().max()
    assert network.halo - 3 * network.stride <= reach <= network.halo


def test_shifting_by_the_stride_shifts_the_logits(network):
    stride, halo = network.stride, network.halo
    side = 2 * halo + 3 * stride
    image = torch.randn(1, 1, 2 * stride, side + stride)
    with torch.no_grad():
        left, right = network(image[..., :side]), network(image[..., stride:])
    inner = slice(halo, side - halo - stride)
    torch.testing.assert_close(
        left[..., inner.start + stride : inner.stop + stride],
        right[..., inner],
        atol=1e-4,
        rtol=1e-4,
    )


class PeakOfMaps(TorchDispatchMode):
    """The most bytes that tensors made within it have held at once."""

    def __init__(self):
        super().__init__()
        self.live, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage):
        if storage.data_ptr() in self.live or not storage.nbytes():
            return
        key, size = storage.data_ptr(), storage.nbytes()
        self.live[key] = weakref.finalize(storage, self._freed, key, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _freed(self, key, size):
        self.live.pop(key, None)
        self.now -= size


def test_maps_take_no_more_memory_than_it_says(network):
    side = max(4 * network.stride, 64)
    image = torch.randn(3, 1, side, side).contiguous(memory_format=torch.channels_last)
    network.to(memory_format=torch.channels_last)
    with evaluating(network), PeakOfMaps() as measured:
        network(image)
    per_pixel = measured.peak / (image.numel())
    assert 0.4 * network.bytes_per_pixel <= per_pixel <= network.bytes_per_pixel


# -- dropout and statistics ----------------------------------------------------------------------


def test_only_the_layers_that_it_names_draw_anything(network):
    x = torch.randn(1, 1, 2 * network.stride, 2 * network.stride)
    with torch.no_grad():
        assert torch.equal(network(x), network(x))
        for layer in network.modules():
            if layer not in network.dropout_layers and not isinstance(layer, type(network)):
                layer.training = bool(
                    not list(layer.children()) and layer not in list(norms(network))
                )
        assert torch.equal(network(x), network(x))
        network.eval()
        for layer in network.dropout_layers:
            layer.train()
        assert torch.equal(network(x), network(x)) == (not network.dropout_layers)


def test_networks_drawn_by_dropout_share_what_it_says(network):
    x = torch.randn(1, 1, 2 * network.stride, 2 * network.stride)
    with torch.no_grad():
        maps = network.encode(x)[: network.reusable]
        for layer in network.dropout_layers:
            layer.train()
        torch.manual_seed(3)
        whole = network.encode(x)
        torch.manual_seed(3)
        shared = network.encode(torch.full_like(x, torch.nan), maps) if maps else whole
    assert all(map(torch.equal, whole, shared))
    assert all(map(torch.equal, whole, maps))


def test_domains_have_statistics_of_their_own_or_none_at_all(name):
    network = build(name).train()
    before = [layer.running_mean.clone() for layer in norms(network)]
    with in_domain(network, "target"):
        network(torch.randn(2, 1, 4 * network.stride, 4 * network.stride))
    for layer, mean in zip(norms(network), before, strict=True):
        assert torch.equal(layer.running_mean[0], mean[0])
        assert not torch.equal(layer.running_mean[1], mean[1])
    shared = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert not shared, "statistics that both domains would move"


# -- learning ------------------------------------------------------------------------------------


def test_the_supervised_loss_teaches_every_parameter(name):
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
def test_another_decoder_fits_its_maps(name, skips):
    network = build(name)
    decoder = network.make_decoder(skips=skips).eval()
    with torch.no_grad():
        maps = network.encode(torch.randn(1, 1, 2 * network.stride, 2 * network.stride))
        found = decoder(maps)
        assert found.shape[1:] == (network.head.in_channels, *maps[0].shape[2:])
        blind = decoder([*(torch.zeros_like(m) for m in maps[:-1]), maps[-1]])
        assert torch.equal(found, blind) == (not skips)
        assert not torch.equal(found, decoder([*maps[:-1], maps[-1] + 1]))


def test_the_parameters_are_the_encoders_and_the_others(name):
    network = build(name)
    parts = [*network.encoder.parameters(), *network.decoding_parameters]
    assert sorted(map(id, parts)) == sorted(map(id, network.parameters()))


# -- keeping -------------------------------------------------------------------------------------


def test_its_configuration_builds_it_again(network):
    config = NetworkConfig.model_validate_json(network.config.model_dump_json())
    again = config.build()
    again.load_state_dict(network.state_dict())
    x = torch.randn(1, 1, network.stride, network.stride)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), network(x))


def test_it_begins_with_what_its_like_has_learnt_and_with_nothing_else(name):
    learnt, new = build(name), build(name)
    x = torch.randn(1, 1, learnt.stride, learnt.stride)
    new.adopt(learnt)
    with torch.no_grad():
        assert torch.equal(new(x), learnt(x))
    other = build(name, classes=3)
    heads = {k: v.clone() for k, v in other.state_dict().items() if v.shape[:1] == (3,)}
    other.adopt(learnt, classes=False)
    assert all(map(torch.equal, other.encode(x), learnt.encode(x)))
    assert all(torch.equal(other.state_dict()[key], value) for key, value in heads.items())
    with pytest.raises(JobError, match=r"has another network \(.*here .*\): give both"):
        build(name, classes=3).adopt(learnt)


@pytest.mark.skipif(not importlib.util.find_spec("bioimageio"), reason="comes with an extra")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # by the library
def test_it_can_be_exported(name, tmp_path):
    network = build(name)
    side = network.stride + 2 * network.halo
    example = np.random.default_rng(0).normal(120, 40, (side, side))
    card = ModelCard("A network", "Finds x.", ("background", "x"), VoxelGrid((1, 4, 4), "nm"))
    path, sides = tmp_path / "model.zip", {"stride": network.stride, "halo": network.halo}
    model = WithSoftmax(network, "target")
    write_package(model, path, example, card, **sides, mean=120, standard_deviation=40)
    assert path.exists()

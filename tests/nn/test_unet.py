"""The network's claims about itself: halo, stride, statistics per domain, dropout, attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_emda.nn.layers import Doubling
from napari_emda.nn.network import WithSoftmax
from napari_emda.nn.networks.unet import AttentionGate, Decoder, UNet
from napari_emda.nn.normalisation import (
    DomainBatchNorm2d,
    evaluating,
    in_domain,
    measure_statistics,
    mix_statistics,
    norms,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def network(**values):
    """A small network whose statistics are not those of a fresh one."""
    made = UNet(2, UNet.Settings(**{"base_channels": 8, "dropout": 0.0, **values}))
    for layer in norms(made):
        layer.running_mean.normal_(0, 0.1)
        layer.running_var.uniform_(0.5, 2)
    return made.eval()


# -- halo and stride ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "attention"), [(3, False), (3, True), (4, False)])
def test_nothing_beyond_the_halo_changes_a_logit(depth, attention):
    net = network(depth=depth, attention=attention)
    side, middle = 2 * net.halo + 2 * net.stride, net.halo + net.stride
    image = torch.randn(1, 1, side, side)
    with torch.no_grad():
        before = net(image)
        for offset in (
            0,
            net.stride // 2 + 1,
            net.stride - 1,
        ):  # wherever on the grid of poolings the pixel lies
            y, x = middle - 1, middle - net.stride + offset
            other = image.clone()
            other[0, 0, y, x] += 100
            changed = (net(other) - before).abs().amax((0, 1)) > 1e-5
            rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
            assert changed[y, x]
            assert (rows - y).abs().max() <= net.halo
            assert (columns - x).abs().max() <= net.halo


def test_the_halo_is_not_much_larger_than_what_a_pixel_reaches():
    """With constant positive weights no path cancels; of equal values a pooling takes one, which costs some reach."""
    net = network()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.05 if parameter.ndim > 1 else 1.0)
    image = torch.ones(1, 1, 160, 160, requires_grad=True)
    net.double()(image.double())[0, 0, 80, 80].backward()
    touched = image.grad[0, 0].nonzero()
    reach = (touched - 80).abs().max()
    assert net.halo - 2 * net.stride <= reach <= net.halo


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_shifting_by_the_stride_shifts_the_logits(depth):
    net = network(depth=depth)
    side = 2 * net.halo + 3 * net.stride
    image = torch.randn(1, 1, net.stride * 2, side + net.stride)
    with torch.no_grad():
        left, right = net(image[..., :side]), net(image[..., net.stride :])
    inner = slice(net.halo, side - net.halo - net.stride)
    shifted = right[..., inner.start : inner.stop]
    torch.testing.assert_close(
        left[..., inner.start + net.stride : inner.stop + net.stride], shifted, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("depth", [3, 4])
def test_every_multiple_of_the_stride_is_a_size_and_others_are_not(depth):
    net = network(depth=depth)
    with torch.no_grad():
        assert net(torch.zeros(1, 1, net.stride, 3 * net.stride)).shape == (
            1,
            2,
            net.stride,
            3 * net.stride,
        )
        with pytest.raises(RuntimeError):
            net(torch.zeros(1, 1, net.stride + 2, net.stride))


def test_the_standard_network_has_7_8_million_parameters():
    assert sum(
        p.numel() for p in UNet(2, UNet.Settings(base_channels=32, depth=4)).parameters()
    ) == pytest.approx(7.8e6, rel=0.01)


# -- statistics per domain ---------------------------------------------------------------------------------------


def buffers(net, index):
    return [
        b.clone()
        for layer in norms(net)
        for b in (layer.running_mean[index], layer.running_var[index])
    ]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("domain", "own", "other"), [("source", 0, 1), ("target", 1, 0)])
def test_a_pass_moves_its_own_domains_statistics_only(domain, own, other):
    net = network().train()
    before = buffers(net, own), buffers(net, other)
    with in_domain(net, domain):
        net(torch.randn(2, 1, 32, 32))
    assert not equal(buffers(net, own), before[0])
    assert equal(buffers(net, other), before[1])
    assert all(layer.domain == 0 for layer in norms(net))


def test_in_training_it_normalises_as_torch_does():
    ours, reference = DomainBatchNorm2d(3).train(), nn.BatchNorm2d(3).train()
    for _ in range(3):
        x = torch.randn(4, 3, 5, 6) * 3 + 1
        torch.testing.assert_close(ours(x), reference(x))
    torch.testing.assert_close(ours.running_mean[0], reference.running_mean)
    torch.testing.assert_close(ours.eval()(x), reference.eval()(x))


def one_layer():
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), DomainBatchNorm2d(4))


def activations(net, x):
    """Of the convolution, channels first, by NumPy alone."""
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0].numpy(), (3, 3), (1, 2))
    return np.einsum("byxij,kij->kbyx", windows, net[0].weight.detach()[:, 0].numpy())


def test_measured_statistics_are_those_of_the_activations():
    net, batches = one_layer(), [torch.randn(6, 1, 20, 20) * (i + 1) + i for i in range(3)]
    weights, source = [p.clone() for p in net.parameters()], buffers(net, 0)
    measure_statistics(net, iter(batches), "target")
    values = [activations(net, x).reshape(4, -1) for x in batches]
    np.testing.assert_allclose(
        net[1].running_mean[1], np.mean([v.mean(1) for v in values], 0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        net[1].running_var[1], np.mean([v.var(1, ddof=1) for v in values], 0), rtol=1e-4
    )
    assert equal(buffers(net, 0), source)
    assert equal(net.parameters(), weights)


def test_own_statistics_make_the_first_layer_blind_to_gain_and_offset():
    net, x = one_layer(), torch.randn(8, 1, 24, 24)
    measure_statistics(net, iter([x]), "source")
    measure_statistics(net, iter([3 * x + 5]), "target")
    net.eval()
    with torch.no_grad():
        with in_domain(net, "source"):
            source = net(x)
        with in_domain(net, "target"):
            target = net(3 * x + 5)
            assert not torch.allclose(source, net(x), atol=0.1)
    torch.testing.assert_close(source, target, atol=1e-3, rtol=1e-3)


def test_measuring_restores_modes_and_leaves_dropout_off():
    net = UNet(2, UNet.Settings(base_channels=8, dropout=0.9)).train()
    x = torch.randn(4, 1, 32, 32)
    measure_statistics(net, iter([x]), "target")
    once = buffers(net, 1)
    measure_statistics(net, iter([x]), "target")
    assert equal(buffers(net, 1), once)
    assert all(module.training for module in net.modules())
    assert {layer.momentum for layer in norms(net)} == {0.1}


def test_evaluating_restores_every_layers_mode_also_after_an_error():
    net = network().train()
    net.head.eval()
    with pytest.raises(ValueError, match="stop"), evaluating(net):
        assert not any(module.training for module in net.modules())
        assert not torch.is_grad_enabled()
        raise ValueError("stop")
    assert not net.head.training
    assert net.encoder.training
    assert torch.is_grad_enabled()


# -- the rest ----------------------------------------------------------------------------------------------------


def test_dropout_acts_in_training_alone():
    net, x = network(dropout=0.5), torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(x), net(x))
        for layer in net.modules():
            layer.training = isinstance(layer, nn.Dropout2d)
        assert not torch.equal(net(x), net(x))


def test_attention_gates_only_weaken_the_skip():
    gate, skip = AttentionGate(8), torch.randn(2, 8, 16, 16)
    gated = gate(skip, torch.randn(2, 8, 16, 16))
    share = gated / skip
    assert ((share > 0) & (share < 1)).all()
    torch.testing.assert_close(
        share, share[:, :1].expand_as(share)
    )  # one weight for all maps of a pixel
    assert share.std() > 0.01
    assert any(
        isinstance(m, AttentionGate)
        for m in UNet(2, UNet.Settings(base_channels=8, attention=True)).modules()
    )
    assert not any(
        isinstance(m, AttentionGate) for m in UNet(2, UNet.Settings(base_channels=8)).modules()
    )


def test_a_decoder_without_skips_sees_the_bottleneck_alone():
    decoder, encoder = Decoder(8, 3, skips=False).eval(), network().encoder
    with torch.no_grad():
        maps = encoder(torch.randn(1, 1, 32, 32))
        assert torch.equal(
            decoder(maps), decoder([*(torch.zeros_like(m) for m in maps[:-1]), maps[-1]])
        )
        assert not torch.equal(decoder(maps), decoder([*maps[:-1], maps[-1] + 1]))


def test_the_encoders_maps_halve_and_double():
    maps = network().encode(torch.randn(1, 1, 64, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (8, 64, 32),
        (16, 32, 16),
        (32, 16, 8),
        (64, 8, 4),
    ]


def test_the_exported_network_gives_the_probabilities_of_its_domain():
    net, x = network(), torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        with in_domain(net, "target"):
            expected = net(x).exp() / net(x).exp().sum(1, keepdim=True)
        torch.testing.assert_close(WithSoftmax(net, "target")(x), expected)


def test_doubling_is_torchs_transposed_convolution():
    layer, x = Doubling(6, 4), torch.randn(2, 6, 5, 7)
    expected = torch.nn.functional.conv_transpose2d(x, layer.weight, layer.bias, stride=2)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_mixed_statistics_lie_on_the_line_between_those_of_source_and_target(share):
    net = one_layer()
    measure_statistics(net, iter([torch.randn(6, 1, 20, 20)]), "source")
    measure_statistics(net, iter([4 * torch.randn(6, 1, 20, 20) + 3]), "target")
    source, target = ([b.numpy().copy() for b in buffers(net, i)] for i in (0, 1))
    mix_statistics(net, share)
    for mixed, a, b in zip(buffers(net, 1), source, target, strict=True):
        np.testing.assert_allclose(
            mixed, np.average([a, b], axis=0, weights=[1 - share, share]), rtol=1e-5, atol=1e-6
        )
    assert equal(buffers(net, 0), map(torch.from_numpy, source))

"""Layers of the U-Net; tests/contracts tests what all networks have in common."""

from __future__ import annotations

import pytest
import torch

from napari_emda.nn.layers import Doubling
from napari_emda.nn.network import NetworkConfig, WithSoftmax
from napari_emda.nn.networks.unet import AttentionGate, UNet
from napari_emda.nn.normalisation import in_domain, norms


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def network(**values):
    """A small network with random statistics."""
    net = UNet(2, UNet.Settings(**{"base_channels": 8, "dropout": 0.0, **values}))
    for layer in norms(net):
        layer.running_mean.normal_(0, 0.1)
        layer.running_var.uniform_(0.5, 2)
    return net.eval()


def test_the_standard_network_has_7_8_million_parameters():
    net = UNet(2, UNet.Settings(base_channels=32, depth=4))
    parameters = sum(parameter.numel() for parameter in net.parameters())
    assert parameters == pytest.approx(7.8e6, rel=0.01)


def has_attention(net):
    return any(isinstance(module, AttentionGate) for module in net.modules())


def test_attention_gates_multiply_the_skip_by_weights_between_0_and_1():
    skip = torch.randn(2, 8, 16, 16)
    gated = AttentionGate(8)(skip, torch.randn(2, 8, 16, 16))
    weights = gated / skip
    assert ((weights > 0) & (weights < 1)).all()
    # One weight for all channels of a pixel.
    torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))
    assert weights.std() > 0.01


def test_only_networks_with_attention_have_gates():
    assert has_attention(network(attention=True))
    assert not has_attention(network())


def test_encoder_maps_halve_in_size_and_double_in_channels():
    maps = network().encode(torch.randn(1, 1, 64, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (8, 64, 32),
        (16, 32, 16),
        (32, 16, 8),
        (64, 8, 4),
    ]


def test_the_exported_network_gives_the_probabilities_of_its_domain():
    net = network()
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        with in_domain(net, "target"):
            expected = net(x).exp() / net(x).exp().sum(1, keepdim=True)
        torch.testing.assert_close(WithSoftmax(net, "target")(x), expected)


def test_doubling_is_torchs_transposed_convolution():
    layer = Doubling(6, 4)
    x = torch.randn(2, 6, 5, 7)
    expected = torch.nn.functional.conv_transpose2d(x, layer.weight, layer.bias, stride=2)
    torch.testing.assert_close(layer(x), expected)


def test_headers_of_the_first_version_build_a_unet():
    old = {"classes": 3, "base": 8, "levels": 4, "dropout": 0.0, "attention": True}
    config = NetworkConfig.model_validate(old)
    assert config.name == "unet"
    assert config.classes == 3
    assert config.channels == 1
    net = config.build()
    assert isinstance(net, UNet)
    assert net.widths == (8, 16, 32, 64, 128)
    assert has_attention(net)
    assert not net.dropout_layers
    assert NetworkConfig.model_validate(net.config.model_dump()) == net.config

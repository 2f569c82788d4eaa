"""The U-Net's own parts; what every network keeps is tested in tests/contracts."""

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
    """A small network whose statistics are not those of a fresh one."""
    made = UNet(2, UNet.Settings(**{"base_channels": 8, "dropout": 0.0, **values}))
    for layer in norms(made):
        layer.running_mean.normal_(0, 0.1)
        layer.running_var.uniform_(0.5, 2)
    return made.eval()


def test_the_standard_network_has_7_8_million_parameters():
    assert sum(
        p.numel() for p in UNet(2, UNet.Settings(base_channels=32, depth=4)).parameters()
    ) == pytest.approx(7.8e6, rel=0.01)


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


def test_the_headers_of_the_first_version_mean_a_unet():
    old = {"classes": 3, "base": 8, "levels": 4, "dropout": 0.0, "attention": True}
    config = NetworkConfig.model_validate(old)
    assert (config.name, config.classes, config.channels) == ("unet", 3, 1)
    net = config.build()
    assert isinstance(net, UNet)
    assert net.widths == (8, 16, 32, 64, 128)
    assert any(isinstance(m, AttentionGate) for m in net.modules())
    assert not net.dropout_layers
    assert NetworkConfig.model_validate(net.config.model_dump()) == net.config

"""Normalisation statistics per domain: how they are updated, measured and mixed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_emda.nn.networks.unet import UNet
from napari_emda.nn.normalisation import (
    DomainBatchNorm2d,
    evaluating,
    fill_statistics,
    in_domain,
    measure_statistics,
    mix_statistics,
    norms,
)


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


def buffers(net, domain):
    """Copies of the running means and variances of a domain."""
    return [
        statistics[domain].clone()
        for layer in norms(net)
        for statistics in (layer.running_mean, layer.running_var)
    ]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("domain", "index", "other"), [("source", 0, 1), ("target", 1, 0)])
def test_a_pass_updates_only_the_statistics_of_its_domain(domain, index, other):
    net = network().train()
    before = buffers(net, index)
    other_before = buffers(net, other)
    with in_domain(net, domain):
        net(torch.randn(2, 1, 32, 32))
    assert not equal(buffers(net, index), before)
    assert equal(buffers(net, other), other_before)
    assert all(layer.domain == 0 for layer in norms(net))


def test_in_training_it_normalises_as_torch_does():
    layer = DomainBatchNorm2d(3).train()
    reference = nn.BatchNorm2d(3).train()
    for _ in range(3):
        x = torch.randn(4, 3, 5, 6) * 3 + 1
        torch.testing.assert_close(layer(x), reference(x))
    torch.testing.assert_close(layer.running_mean[0], reference.running_mean)
    torch.testing.assert_close(layer.eval()(x), reference.eval()(x))


def one_layer():
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), DomainBatchNorm2d(4))


def activations(net, x):
    """Output of the convolution, channels first, by NumPy."""
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0].numpy(), (3, 3), (1, 2))
    return np.einsum("byxij,kij->kbyx", windows, net[0].weight.detach()[:, 0].numpy())


def test_measured_statistics_are_those_of_the_activations():
    net = one_layer()
    batches = [torch.randn(6, 1, 20, 20) * (i + 1) + i for i in range(3)]
    weights = [parameter.clone() for parameter in net.parameters()]
    source = buffers(net, 0)
    list(measure_statistics(net, iter(batches), "target"))
    values = [activations(net, x).reshape(4, -1) for x in batches]
    means = np.mean([v.mean(1) for v in values], axis=0)
    variances = np.mean([v.var(1, ddof=1) for v in values], axis=0)
    np.testing.assert_allclose(net[1].running_mean[1], means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net[1].running_var[1], variances, rtol=1e-4)
    assert equal(buffers(net, 0), source)
    assert equal(net.parameters(), weights)


def test_statistics_of_the_domain_remove_gain_and_offset():
    net = one_layer()
    x = torch.randn(8, 1, 24, 24)
    list(measure_statistics(net, iter([x]), "source"))
    list(measure_statistics(net, iter([3 * x + 5]), "target"))
    net.eval()
    with torch.no_grad():
        with in_domain(net, "source"):
            source = net(x)
        with in_domain(net, "target"):
            target = net(3 * x + 5)
            assert not torch.allclose(source, net(x), atol=0.1)
    torch.testing.assert_close(source, target, atol=1e-3, rtol=1e-3)


def test_measuring_restores_modes_and_turns_dropout_off():
    net = UNet(2, UNet.Settings(base_channels=8, dropout=0.9)).train()
    x = torch.randn(4, 1, 32, 32)
    list(measure_statistics(net, iter([x]), "target"))
    first = buffers(net, 1)
    list(measure_statistics(net, iter([x]), "target"))
    assert equal(buffers(net, 1), first)
    assert all(module.training for module in net.modules())
    assert {layer.momentum for layer in norms(net)} == {0.1}


def test_evaluating_restores_the_mode_of_every_layer_also_after_an_error():
    net = network().train()
    net.head.eval()
    with pytest.raises(ValueError, match="stop"), evaluating(net):
        assert not any(module.training for module in net.modules())
        assert not torch.is_grad_enabled()
        raise ValueError("stop")
    assert not net.head.training
    assert net.encoder.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_mixed_statistics_are_weighted_averages_of_both_domains(share):
    net = one_layer()
    list(measure_statistics(net, iter([torch.randn(6, 1, 20, 20)]), "source"))
    list(measure_statistics(net, iter([4 * torch.randn(6, 1, 20, 20) + 3]), "target"))
    before_source = buffers(net, 0)
    before_target = buffers(net, 1)
    mix_statistics(net, share)
    for mixed, source, target in zip(buffers(net, 1), before_source, before_target, strict=True):
        expected = np.average([source, target], axis=0, weights=[1 - share, share])
        np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-6)
    assert equal(buffers(net, 0), before_source)


def test_networks_without_such_layers_do_not_change():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4))
    before = [p.clone() for p in net.parameters()]
    list(measure_statistics(net, iter([]), "target"))
    mix_statistics(net, 0.5)
    with in_domain(net, "target"):
        net(torch.randn(1, 1, 8, 8))
    assert equal(net.parameters(), before)


def test_statistics_that_were_never_measured_are_those_of_the_other_domain(noise):
    measured, unmeasured = (DomainBatchNorm2d(3) for _ in range(2))
    values = torch.from_numpy(noise.normal(size=3)).float()
    for layer in (measured, unmeasured):
        layer.running_mean[1] = values
        layer.running_var[1] = values.exp()
    measured.running_mean[0] = 2
    fill_statistics(nn.Sequential(measured, unmeasured), "source")
    assert torch.equal(unmeasured.running_mean[0], values)
    assert torch.equal(unmeasured.running_var[0], values.exp())
    assert (measured.running_mean[0] == 2).all()
    assert (measured.running_var[0] == 1).all()

"""Folded networks against the ones that they were made from."""

from __future__ import annotations

import pytest
import torch

from napari_emda.nn.folding import folded
from napari_emda.nn.network import networks
from napari_emda.nn.normalisation import evaluating, in_domain, norms


def random_network(name="unet", seed=0, **settings):
    """A network whose two domains have statistics of their own."""
    torch.manual_seed(seed)
    cls = networks[name]
    network = cls(3, cls.Settings.parse({"base_channels": 8, **settings}))
    for layer in norms(network):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
        layer.weight.data.uniform_(0.5, 2)
        layer.bias.data.normal_()
    return network.double()  # so that nothing but a mistake makes a difference


def image(stack=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2 * stack, 1, 64, 64, generator=generator).double()


@pytest.mark.parametrize("domain", ["source", "target"])
@pytest.mark.parametrize("name", sorted(networks.names()))
def test_it_says_what_the_network_says_in_its_domain(name, domain):
    original = random_network(name)
    before = {key: value.clone() for key, value in original.state_dict().items()}
    seen = image(original.stack)
    with evaluating(original), in_domain(original, domain):
        expected = original(seen)
    quick = folded(original, domain)
    assert not list(norms(quick))
    with torch.no_grad():
        torch.testing.assert_close(quick(seen), expected)
    for key, value in original.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_domains_differ():
    original = random_network()
    with torch.no_grad():
        answers = [folded(original, domain)(image()) for domain in ("source", "target")]
    assert not torch.allclose(*answers, atol=0.1)


def test_attention_gates_are_as_before():
    original = random_network(attention=True)
    with evaluating(original):
        expected = original(image())
    with torch.no_grad():
        found = folded(original, "source")(image())
    torch.testing.assert_close(found, expected)

"""The optimiser does what torch's does, without torch's compiler."""

import copy
import inspect
import sys

import pytest
import torch

from napari_emda.training.loop import fit
from napari_emda.training.optimiser import AdamW


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))


def groups(module):
    """A faster first layer, as roles of parameters have rates of their own."""
    return [{"params": module[0].parameters(), "lr": 0.01}, {"params": module[2].parameters()}]


def learn(module, optimiser, steps):
    torch.manual_seed(1)
    for _ in range(steps):
        optimiser.zero_grad()
        module(torch.rand(2, 1, 12, 12)).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("fused", [True, False])
def test_it_is_torch_s_to_the_last_bit_also_when_resumed(fused):
    ours, reference = network(), network()
    optimiser = AdamW(groups(ours), lr=0.003, weight_decay=0.1, fused=fused)
    learn(ours, optimiser, 3)
    resumed = AdamW(groups(ours), lr=0.003, weight_decay=0.1, fused=fused)
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    learn(ours, resumed, 3)
    expected = torch.optim.AdamW(groups(reference), lr=0.003, weight_decay=0.1, fused=fused)
    learn(reference, expected, 3)
    learn(reference, expected, 3)
    for tensor, other in zip(ours.parameters(), reference.parameters(), strict=True):
        assert torch.equal(tensor, other)


def test_parameters_may_be_frozen_and_added():
    module = network()
    optimiser = AdamW(module[0].parameters(), lr=0.01)
    optimiser.add_param_group({"params": module[2].parameters(), "lr": 0.0})
    before = copy.deepcopy(module.state_dict())
    learn(module, optimiser, 1)
    assert not torch.equal(before["0.weight"], module[0].weight)
    assert torch.equal(before["2.weight"], module[2].weight)


@pytest.fixture
def no_compiler(monkeypatch):
    """Loading torch's compiler fails, as if no test before had loaded it.

    Importing it takes seconds, before the first step of each training or when it is saved.
    """
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        function = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        # What the compiler has been told once is kept there.
        monkeypatch.delattr(function, "__dynamo_disable", raising=False)


@pytest.mark.usefixtures("no_compiler")
def test_torch_s_compiler_is_not_loaded():
    module = network()
    optimiser = AdamW(module.parameters(), lr=0.01, fused=True)
    learn(module, optimiser, 2)
    optimiser.load_state_dict(optimiser.state_dict())


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("method", ["auto", "mean_teacher"])
def test_no_part_of_a_training_loads_torch_s_compiler(
    make_training, source, target, tmp_path, method
):
    training = make_training([source, target], tmp_path / "run", method, steps=2, validations=1)
    list(fit(training))
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()

"""Recorded steps learn what computed ones do; if recording fails, steps are computed."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from napari_emda.methods.base import Method, methods
from napari_emda.training.loop import fit
from napari_emda.training.memory import halve
from napari_emda.training.recorded_gradients import RecordedGradients, _Record


def captured_on_the_cpu(self, batch, progress):
    """A recording that computes again, from and to the memory that the first step used."""
    recorded_batch = {domain: patches.map(torch.clone) for domain, patches in batch.items()}
    places = [torch.full_like(p, -1) for p in self._parameters()]
    losses = {}

    def replay():
        self._module.zero_grad()
        for name, value in self._backward(recorded_batch, progress).items():
            losses.setdefault(name, torch.full((), -1.0)).copy_(value)
        for place, parameter in zip(places, self._parameters(), strict=True):
            if parameter.grad is not None:
                place.copy_(parameter.grad)

    # Names and gradients are known after a first time, as they are when a graph is recorded.
    replay()
    gradients = [
        None if parameter.grad is None else place
        for place, parameter in zip(places, self._parameters(), strict=True)
    ]
    return _Record(Mock(replay=replay), recorded_batch, losses, gradients)


@pytest.fixture
def painted(target, phantoms):
    """The target with all of it annotated."""
    return replace(target, annotations=phantoms["target"][1] + np.uint8(1))


@pytest.fixture
def weights(make_training, source, target, painted, tmp_path):
    """A function that trains and returns the weights and buffers, and the training."""

    def trained(folder, *, record, method="auto", annotated=False, **settings):
        volumes = [source, painted if annotated else target]
        settings = {"steps": 10, **settings}
        training = make_training(volumes, tmp_path / folder, method=method, **settings)
        if record:
            training.recorded = RecordedGradients(training._backward, training.method)
        list(fit(training))
        values = [v.detach().ravel().double() for v in training.method.state_dict().values()]
        return torch.cat(values), training

    return trained


@pytest.mark.parametrize("method", ["auto", "source_only", "finetune", "denoising"])
def test_recorded_steps_learn_the_same(weights, monkeypatch, method):
    monkeypatch.setattr(RecordedGradients, "_capture", captured_on_the_cpu)
    options = {"method": method}
    if method == "finetune":  # it has stages
        options |= {"annotated": True, "steps": 20}
    expected, _ = weights("computed", record=False, **options)
    learnt, training = weights("recorded", record=True, **options)
    assert training.recorded.recorded
    assert torch.equal(learnt, expected)


def test_a_new_stage_is_recorded_anew(weights, monkeypatch):
    captured = Mock(side_effect=captured_on_the_cpu, autospec=True)
    monkeypatch.setattr(
        RecordedGradients, "_capture", lambda self, *arguments: captured(self, *arguments)
    )
    _, training = weights("run", record=True, method="finetune", annotated=True, steps=20)
    stages = {training.method.recorded_stage(call.args[2]) for call in captured.call_args_list}
    assert captured.call_count == 2 and stages == {"source", "target"}


def test_if_recording_fails_the_steps_are_computed(weights, monkeypatch):
    monkeypatch.setattr(RecordedGradients, "_capture", Mock(side_effect=RuntimeError("capture")))
    expected, _ = weights("computed", record=False)
    learnt, training = weights("recorded", record=True)
    assert training.recorded.failed and not training.recorded.recorded
    assert RecordedGradients._capture.call_count == 1
    assert torch.equal(learnt, expected)


def test_a_recording_with_other_losses_is_not_used(weights, monkeypatch):
    def captured_wrongly(self, batch, progress):
        record = captured_on_the_cpu(self, batch, progress)
        right = record.graph.replay

        def replay():
            right()
            record.losses["segmentation"].add_(0.5)

        return replace(record, graph=Mock(replay=replay))

    monkeypatch.setattr(RecordedGradients, "_capture", captured_wrongly)
    expected, _ = weights("computed", record=False)
    learnt, training = weights("recorded", record=True)
    assert training.recorded.failed and not training.recorded.recorded
    assert torch.equal(learnt, expected)


def test_halving_the_batch_releases_the_recording(weights, monkeypatch):
    monkeypatch.setattr(RecordedGradients, "_capture", captured_on_the_cpu)
    _, training = weights("run", record=True)
    assert training.recorded.recorded
    halve(training, training.on_device(training.batch(0), 0), 0)
    assert not training.recorded.recorded


def test_losses_that_nobody_has_checked_are_not_recorded(weights, monkeypatch):
    monkeypatch.setattr(RecordedGradients, "_capture", captured_on_the_cpu)
    assert methods["mean_teacher"].recorded_stage(Mock(), 0.0) is None

    class Changed(methods["finetune"]):
        def losses(self, batch, progress):
            return super().losses(batch, progress)

    assert Changed.recorded_stage(Mock(), 0.0) is None


class HostReads(TorchDispatchMode):
    """Notes the operations that wait for the device: they cannot be recorded."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "unique")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        is_mask = name == "index" and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if is_mask or name.startswith(self.WAITING):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


RECORDED = [
    name for name in methods.names() if methods[name].recorded_stage.__name__ != "_no_stage"
]


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_recorded_is_the_same_in_each_step_and_reads_nothing(
    make_training, source, painted, tmp_path, name
):
    training = make_training([source, painted], tmp_path, method=name, steps=10)
    batch = training.on_device(training.batch(0), 0)
    losses = {}
    with HostReads() as reads:
        for progress in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
            torch.manual_seed(0)
            found = training._backward(batch, progress)
            losses.setdefault(training.method.recorded_stage(progress), []).append(found)
    assert not reads.found
    for stage in losses.values():
        assert all(found == stage[0] for found in stage)


def test_the_methods_that_matter_most_are_recorded():
    assert {"auto", "source_only", "finetune"} <= set(RECORDED)
    assert issubclass(methods["auto"], Method)

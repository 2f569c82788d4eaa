"""Recorded steps learn what computed ones do; if recording fails, steps are computed."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch

from napari_emda.training.loop import fit
from napari_emda.training.recorded_gradients import RecordedGradients, _Record, record_steps


def captured_on_the_cpu(self, batch):
    """A recording that computes again, from and to the memory that the first step used."""
    recorded_batch = {domain: patches.map(torch.clone) for domain, patches in batch.items()}
    parameters = self._parameters()
    places = [torch.full_like(p, -1) for p in parameters]
    losses = {"segmentation": torch.full((), -1.0)}

    def replay():
        self._optimiser.zero_grad()
        for name, value in self._backward(recorded_batch).items():
            losses[name].copy_(value)
        for place, parameter in zip(places, parameters, strict=True):
            place.copy_(parameter.grad)

    return _Record(Mock(replay=replay), recorded_batch, losses, places)


@pytest.fixture
def weights(make_training, source, target, tmp_path):
    """A function that trains ten steps and returns the weights, and the training."""

    def trained(folder, *, record, method="auto"):
        volumes = [source, replace(target, labels=None)]
        training = make_training(volumes, tmp_path / folder, method=method, steps=10)
        if record:
            assert record_steps(training)
        list(fit(training))
        return torch.cat([p.detach().ravel() for p in training.method.parameters()]), training

    return trained


def test_recorded_steps_learn_the_same(weights, monkeypatch):
    monkeypatch.setattr(RecordedGradients, "_capture", captured_on_the_cpu)
    expected, _ = weights("computed", record=False)
    weights_of_recorded, training = weights("recorded", record=True)
    assert training.recorded.recorded
    assert torch.equal(weights_of_recorded, expected)


def test_if_recording_fails_the_steps_are_computed(weights, monkeypatch):
    monkeypatch.setattr(RecordedGradients, "_capture", Mock(side_effect=RuntimeError("capture")))
    expected, _ = weights("computed", record=False)
    weights_of_recorded, training = weights("recorded", record=True)
    assert training.recorded.failed and not training.recorded.recorded
    assert RecordedGradients._capture.call_count == 1
    assert torch.equal(weights_of_recorded, expected)


def test_losses_that_change_in_the_course_of_a_training_are_not_recorded(
    make_training, source, target, tmp_path
):
    training = make_training([source, target], tmp_path, method="mean_teacher")
    assert not record_steps(training)
    assert training.recorded is None

"""Batches cut out on a device are the same as those that are read patch by patch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.sampling.device_volumes import DeviceVolumes, needed_bytes
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.training.loop import fit

CPU = torch.device("cpu")


def volume(
    name, domain, dtype="uint8", *, labelled=True, spacing=(50.0, 8.0, 8.0), independent=False
):
    rng = np.random.default_rng(len(name))
    image = rng.integers(0, 200, (5, 70, 90)).astype(dtype)
    labels = rng.integers(0, 2, image.shape).astype(np.uint8) if labelled else None
    return Volume(name, image, domain, VoxelGrid(spacing, "nm", independent), labels)


def assert_same(batch, expected):
    assert list(batch) == list(expected)
    for domain, patches in expected.items():
        torch.testing.assert_close(batch[domain].image, patches.image, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(batch[domain].clean, patches.clean, rtol=1e-6, atol=1e-6)
        assert torch.equal(batch[domain].labels, patches.labels)
        assert (batch[domain].borders is None) == (patches.borders is None)
        if patches.borders is not None:
            assert torch.equal(batch[domain].borders, patches.borders)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("context", [0, 2])
def test_a_batch_is_that_of_the_sampler(dtype, independent, context):
    volumes = [
        volume("a", "source", dtype, independent=independent),
        volume("t", "target", labelled=False, independent=independent),
    ]
    sampler = PatchSampler(volumes, 32, 5, source_batches=2, context=context)
    device_volumes = DeviceVolumes(sampler, CPU)
    for step in range(3):
        corners = device_volumes.draw(step, sampler.domains)
        assert_same(device_volumes.batch(corners), sampler.batch(step))
    assert_same(
        {"target": device_volumes.anywhere("target", 2)}, {"target": sampler.anywhere("target", 2)}
    )


def test_borders_of_objects_are_those_of_the_sampler():
    ids = np.arange(15).reshape(1, 3, 5).repeat(24, 1).repeat(18, 2)[:, :70].repeat(5, 0)
    numbered = replace(volume("a", "source"), labels=ids, ids=ids)
    volumes = [numbered, volume("bb", "source"), volume("t", "target", labelled=False)]
    sampler = PatchSampler(volumes, 32, 5, source_batches=2, objects=True)
    lazy = PatchSampler(volumes, 32, 5, source_batches=2, objects=True, memory=0)
    device_volumes = DeviceVolumes(sampler, CPU)
    for step in range(3):
        batch = sampler.batch(step)
        assert (batch["source"].borders > 2).any()
        assert not batch["target"].borders.any()
        assert_same(device_volumes.batch(device_volumes.draw(step, sampler.domains)), batch)
        assert_same(lazy.batch(step), batch)
    held = needed_bytes(PatchSampler(volumes, 32, 5))
    assert needed_bytes(sampler) == held + 3 * 5 * 70 * 90


def test_patches_of_several_volumes_keep_their_order():
    volumes = [
        volume("a", "source"),
        volume("bb", "source", "float32"),
        volume("ccc", "source", "uint16", labelled=False, spacing=(50.0, 4.0, 4.0)),
    ]
    sampler = PatchSampler(volumes, 32, 12)
    device_volumes = DeviceVolumes(sampler, CPU)
    corners = device_volumes.draw(1, sampler.domains)
    assert sum(count > 0 for count in corners["source"].counts) == 3
    assert_same(device_volumes.batch(corners), sampler.batch(1))


def test_a_domain_that_is_left_out_does_not_change_the_other():
    sampler = PatchSampler([volume("a", "source"), volume("t", "target")], 32, 5)
    device_volumes = DeviceVolumes(sampler, CPU)
    expected = {"source": sampler.batch(4)["source"]}
    assert_same(sampler.batch(4, ["source"]), expected)
    assert_same(device_volumes.batch(device_volumes.draw(4, ["source"])), expected)


def test_needed_bytes_counts_images_and_labels_by_their_types():
    sampler = PatchSampler([volume("a", "source"), volume("t", "target", "float64")], 32, 2)
    # uint8 image and labels; float32 image (of float64) and uint8 labels
    assert needed_bytes(sampler) == 5 * 70 * 90 * (1 + 1 + 4 + 1)


def test_only_volumes_in_memory_are_moved_and_only_to_a_gpu():
    sampler = PatchSampler([volume("a", "source")], 32, 2)
    assert sampler.in_memory
    assert DeviceVolumes.that_fit(sampler, CPU) is None
    lazy = PatchSampler([volume("a", "source")], 32, 2, memory=0)
    assert not lazy.in_memory
    assert DeviceVolumes.that_fit(lazy, torch.device("cuda")) is None


@pytest.mark.parametrize(("free", "fits"), [(0.5, False), (1.9, False), (2.1, True)])
def test_half_of_the_free_memory_is_left_to_the_network(free, fits, monkeypatch):
    sampler = PatchSampler([volume("a", "source")], 32, 2)
    memory = (int(free * needed_bytes(sampler)), 10**12)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: memory)
    monkeypatch.setattr(DeviceVolumes, "__init__", lambda self, sampler, device: None)
    assert (DeviceVolumes.that_fit(sampler, torch.device("cuda")) is not None) == fits


@pytest.mark.parametrize("method", ["auto", "mean_teacher", "adabn", "uda"])
def test_a_training_with_volumes_on_the_device_learns_the_same(
    method, make_training, source, target, tmp_path
):
    weights = []
    for on_device in (False, True):
        training = make_training(
            [source, replace(target, labels=None)],
            tmp_path / f"{on_device}",
            method=method,
            steps=3,
            augmentation="strong",
        )
        if on_device:
            training.device_volumes = DeviceVolumes(training.sampler, CPU)
        list(fit(training))
        weights.append(torch.cat([p.ravel() for p in training.method.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)

"""Patches: pure, balanced, inside their boxes, at one pixel size; positions are read back from the grey values."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare
from skimage.transform import downscale_local_mean

from napari_emda.data.box import Box
from napari_emda.data.prefetch import prefetched
from napari_emda.data.volume import IGNORE, Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.sampling.sampler import PatchSampler

SPACING = (50.0, 4.0, 4.0)


def positions(shape):
    """An image whose grey value tells where a voxel lies."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def where(sampler, patches, domain, shape):
    """z, y, x of every pixel of a batch: three arrays B x H x W."""
    known = sampler.statistics[domain]
    grey = patches.image[:, 0].double().numpy() * known.std + known.mean
    assert np.abs(grey - grey.round()).max() < 0.2
    return np.unravel_index(grey.round().astype(int), shape)


def placed(shape, domain="source", **values):
    return Volume(domain, positions(shape), domain, VoxelGrid(SPACING), **values)


def same(a, b):
    return all(
        torch.equal(x, y)
        for d in a
        for x, y in zip((a[d].image, a[d].labels), (b[d].image, b[d].labels), strict=True)
    )


# -- purity ------------------------------------------------------------------------------------------------------


def test_a_batch_depends_on_seed_rank_and_step_alone(source, target):
    def batches(steps, **values):
        sampler = PatchSampler([source, target], 32, 3, **values)
        return {step: sampler.batch(step) for step in steps}

    forward, backward = batches([0, 1, 7]), batches([7, 0, 1])
    assert all(same(forward[step], backward[step]) for step in forward)
    assert not same(forward[0], forward[1])
    assert not same(forward[0], batches([0], seed=1)[0])
    assert not same(forward[0], batches([0], rank=1)[0])


def test_memory_does_not_change_a_batch(source, target):
    lazy, held = (PatchSampler([source, target], 32, 3, memory=memory) for memory in (0, 2**30))
    assert same(lazy.batch(3), held.batch(3))


def test_the_global_random_numbers_are_left_alone(source):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    PatchSampler([source], 32, 3).batch(0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


# -- where patches lie -------------------------------------------------------------------------------------------


def test_volumes_give_patches_in_proportion_to_their_size():
    """One volume brightens along x, the other, four times as large, darkens."""
    rising, falling = positions((2, 64, 64)), -positions((8, 64, 64))
    volumes = [
        Volume(name, image, "target", VoxelGrid(SPACING))
        for name, image in (("rising", rising), ("falling", falling))
    ]
    sampler = PatchSampler(volumes, 32, 50)
    images = torch.cat([sampler.batch(step)["target"].image for step in range(8)])
    large = int((images[:, 0, 0, 0] > images[:, 0, 0, 1]).sum())
    assert binomtest(large, len(images), 0.8).pvalue > 0.01


def test_labelled_pixels_lie_anywhere_in_the_middle_of_their_patches():
    """The patch has a half of its own side to move in around the one labelled pixel, and uses it evenly."""
    labels = np.zeros((1, 96, 96), np.uint8)
    labels[0, 48, 48] = 1
    sampler = PatchSampler([placed((1, 96, 96), labels=labels)], 32, 20)
    batches = [sampler.batch(step)["source"].labels[:10].numpy() for step in range(30)]
    found = np.argwhere(np.concatenate(batches) == 1)
    assert len(found) == 300
    for along in found[:, 1:].T:
        assert along.min() >= 16 - 8
        assert along.max() <= 16 + 8
        assert chisquare(np.bincount(along - 8, minlength=17)).pvalue > 0.01


def test_source_and_target_are_looked_at_in_different_places():
    shape = (4, 64, 64)
    sampler = PatchSampler([placed(shape), placed(shape, "target")], 32, 4)
    corners = [
        np.stack([axis[:, 0, 0] for axis in where(sampler, patches, domain, shape)])
        for domain, patches in sampler.batch(0).items()
    ]
    assert not (corners[0] == corners[1]).all(0).any()


def test_every_position_can_be_drawn_also_the_last():
    shape = (2, 33, 34)
    sampler = PatchSampler([placed(shape)], 32, 64)
    corners = set()
    for step in range(4):
        z, y, x = where(sampler, sampler.batch(step)["source"], "source", shape)
        corners |= set(
            zip(z[:, 0, 0].tolist(), y[:, 0, 0].tolist(), x[:, 0, 0].tolist(), strict=True)
        )
    assert corners == {(z, y, x) for z in range(2) for y in range(2) for x in range(3)}


def test_a_patch_as_large_as_the_image_is_the_image():
    shape = (1, 32, 32)
    labels = np.random.default_rng(0).integers(0, 2, shape)
    batch = PatchSampler([placed(shape, labels=labels)], 32, 2).batch(0)["source"]
    assert np.array_equal(batch.labels[0], labels[0])
    assert np.array_equal(batch.labels[1], labels[0])


@settings(max_examples=25)
@given(
    st.tuples(*[st.integers(0, 20)] * 4),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.booleans(),
)
def test_no_pixel_comes_from_outside_the_boxes(ends, sections, annotated):
    shape = (3, 72, 72)
    (y0, y1, x0, x1), (z0, z1) = ends, sorted(sections)
    box = Box((z0, y0, x0), (z1 + 1, 72 - y1, 72 - x1))
    labels = np.zeros(shape, np.uint8)
    labels[:, 5::9, 5::9] = 1
    other = {"annotations": labels + 1} if annotated else {}
    volumes = [placed(shape, labels=labels), placed(shape, "target", **other)]
    sampler = PatchSampler(volumes, 32, 6, boxes={"source": str(box), "target": str(box)})
    for domain in ("source", "target"):
        for patches in (
            *(sampler.batch(step)[domain] for step in range(3)),
            sampler.anywhere(domain, 0),
        ):
            for axis, low, high in zip(
                where(sampler, patches, domain, shape), box.start, box.stop, strict=True
            ):
                assert low <= axis.min()
                assert axis.max() < high


def test_statistics_come_from_inside_the_box():
    image = np.random.default_rng(0).normal(50, 5, (2, 80, 80)).astype(np.float32)
    image[:, 40:] += 1000
    sampler = PatchSampler(
        [Volume("v", image, "source", VoxelGrid(SPACING))], 32, 1, boxes={"source": ":,0:40,:"}
    )
    assert sampler.statistics["v"].mean == pytest.approx(50, abs=1)


def test_a_target_without_annotations_is_drawn_uniformly():
    shape = (3, 36, 36)
    sampler = PatchSampler([placed(shape, "target", labels=None)], 32, 50)
    counts = np.zeros((3, 5, 5))
    for step in range(60):
        z, y, x = (
            axis[:, 0, 0] for axis in where(sampler, sampler.batch(step)["target"], "target", shape)
        )
        np.add.at(counts, (z, y, x), 1)
    assert counts.sum() == 3000
    assert chisquare(counts.ravel()).pvalue > 0.01


# -- balance -----------------------------------------------------------------------------------------------------


def rare(shape=(4, 160, 160)):
    labels = np.zeros(shape, np.uint8)
    labels[2, 100:106, 20:26] = 1
    return labels


def test_half_of_the_source_patches_hold_foreground_however_rare():
    labels = rare()
    sampler = PatchSampler([placed(labels.shape, labels=labels)], 32, 8)
    for step in range(5):
        found = (sampler.batch(step)["source"].labels == 1).flatten(1).any(1)
        assert 4 <= found.sum() <= 5
    found = sum(
        (sampler.anywhere("source", i).labels == 1).flatten(1).any(1).sum() for i in range(5)
    )
    assert found <= 3


def test_every_foreground_class_comes_as_often():
    labels = rare()
    labels[0, 10:100, 50:150] = 2
    sampler = PatchSampler([placed(labels.shape, labels=labels, classes=3)], 32, 10)
    batches = [sampler.batch(step)["source"].labels[:5] for step in range(40)]
    share = np.mean([(patch == 1).any() for batch in batches for patch in batch.numpy()])
    assert 0.4 < share < 0.6


def test_half_of_the_target_patches_hold_what_is_annotated_also_background():
    painted = np.zeros((4, 160, 160), np.uint8)
    painted[1, 30:40, 30:40] = 1
    sampler = PatchSampler([placed(painted.shape, "target", annotations=painted)], 32, 8)
    assert sampler.labelled("target")
    assert not sampler.foreground("target")
    for step in range(5):
        found = (sampler.batch(step)["target"].labels != IGNORE).flatten(1).any(1)
        assert 4 <= found.sum() <= 5


def test_labels_belong_to_their_pixels(source):
    shape = (3, 64, 64)
    labels = (positions(shape) * 7 % 5 > 3).astype(np.uint8)
    sampler = PatchSampler([placed(shape, labels=labels)], 32, 4)
    patches = sampler.batch(2)["source"]
    z, y, x = where(sampler, patches, "source", shape)
    assert np.array_equal(patches.labels, labels[z, y, x])


# -- pixel size and grey values ----------------------------------------------------------------------------------


def test_both_domains_come_at_the_coarser_pixel_size(noise):
    fine = noise.normal(100, 20, (1, 64, 64)).astype(np.float32)
    coarse = noise.normal(30, 3, (1, 32, 32)).astype(np.float32)
    volumes = [
        Volume("s", fine, "source", VoxelGrid((50, 4, 4))),
        Volume("t", coarse, "target", VoxelGrid((30, 8, 8))),
    ]
    sampler = PatchSampler(volumes, 32, 1)
    assert sampler.pixel_size == 8
    for domain, name, expected in (
        ("source", "s", downscale_local_mean(fine[0], (2, 2))),
        ("target", "t", coarse[0]),
    ):
        image = sampler.batch(0)[domain].image[0, 0].numpy()
        np.testing.assert_allclose(image, (expected - expected.mean()) / expected.std(), atol=1e-4)
        assert sampler.statistics[name].mean == pytest.approx(expected.mean(), rel=1e-5)


def test_one_grey_value_is_refused():
    with pytest.raises(DataError, match="one grey value only: choose"):
        PatchSampler([Volume("v", np.full((1, 40, 40), 7), "source", VoxelGrid(SPACING))], 32, 1)


@pytest.mark.parametrize(
    ("shape", "patch", "remedy"),
    [((2, 70, 90), 96, "patch size 64 or less"), ((1, 20, 90), 32, "smaller pixel size")],
)
def test_a_volume_smaller_than_a_patch_is_refused_with_a_size_that_fits(shape, patch, remedy):
    with pytest.raises(
        DataError, match=rf"{shape[1]} x 90 pixels of 4 nm, smaller than one {patch}.*{remedy}\."
    ):
        PatchSampler([placed(shape)], patch, 1)


# -- drawn ahead -------------------------------------------------------------------------------------------------


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("ahead", [1, 3, 50])
def test_what_is_made_ahead_comes_in_order(ahead):
    assert list(prefetched(lambda i: i * i, 3, 20, ahead=ahead)) == [i * i for i in range(3, 20)]
    assert list(prefetched(lambda i: i, 5, 5)) == []


def test_no_more_is_made_ahead_than_asked_for():
    made = []
    results = prefetched(lambda i: made.append(i), 0, 100, ahead=3)
    for _ in range(5):
        next(results)
    assert len(made) <= 5 + 3
    results.close()


def test_an_error_while_making_reaches_the_caller():
    def make(i):
        if i == 2:
            raise DataError("gone")
        return i

    results = prefetched(make, 0, 10)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(DataError, match="gone"):
        next(results)
    assert not threads()


def test_the_thread_ends_when_nobody_wants_more():
    results = prefetched(lambda i: i, 0, 10**6)
    next(results)
    assert threads()
    results.close()
    assert not threads()

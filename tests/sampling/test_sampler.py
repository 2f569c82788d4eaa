"""Patches are reproducible, balanced, inside their boxes and at one pixel size.

Positions are encoded in the grey values and read back from the patches.
"""

from __future__ import annotations

import threading
from dataclasses import replace

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
from napari_emda.sampling.region import SamplingRegion
from napari_emda.sampling.sampler import PatchSampler

SPACING = (50.0, 4.0, 4.0)


def positions(shape):
    """An image whose grey values are the indices of its voxels."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def where(sampler, patches, domain, shape):
    """z, y, x of every pixel of a batch: three arrays B x H x W."""
    statistics = sampler.statistics[domain]
    grey = patches.image[:, 0].double().numpy() * statistics.std + statistics.mean
    assert np.abs(grey - grey.round()).max() < 0.2
    return np.unravel_index(grey.round().astype(int), shape)


def indexed_volume(shape, domain="source", **values):
    return Volume(domain, positions(shape), domain, VoxelGrid(SPACING), **values)


def same(batch, other):
    return all(
        torch.equal(batch[domain].image, other[domain].image)
        and torch.equal(batch[domain].labels, other[domain].labels)
        for domain in batch
    )


# -- reproducibility -------------------------------------------------------------------------------


def test_a_batch_depends_only_on_seed_rank_and_step(source, target):
    def batches(steps, **values):
        sampler = PatchSampler([source, target], 32, 3, **values)
        return {step: sampler.batch(step) for step in steps}

    forward = batches([0, 1, 7])
    backward = batches([7, 0, 1])
    assert all(same(forward[step], backward[step]) for step in forward)
    assert not same(forward[0], forward[1])
    assert not same(forward[0], batches([0], seed=1)[0])
    assert not same(forward[0], batches([0], rank=1)[0])


def test_memory_does_not_change_a_batch(source, target):
    lazy, held = (PatchSampler([source, target], 32, 3, memory=memory) for memory in (0, 2**30))
    assert same(lazy.batch(3), held.batch(3))


def test_the_global_random_states_do_not_change(source):
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].tolist()
    PatchSampler([source], 32, 3).batch(0)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.get_state()[1].tolist() == numpy_state


# -- where patches lie -----------------------------------------------------------------------------


def test_volumes_are_sampled_in_proportion_to_their_size():
    """One volume brightens along x, the other, four times as large, darkens."""
    images = {"rising": positions((2, 64, 64)), "falling": -positions((8, 64, 64))}
    volumes = [Volume(name, image, "target", VoxelGrid(SPACING)) for name, image in images.items()]
    sampler = PatchSampler(volumes, 32, 50)
    patches = torch.cat([sampler.batch(step)["target"].image for step in range(8)])
    from_falling = int((patches[:, 0, 0, 0] > patches[:, 0, 0, 1]).sum())
    assert binomtest(from_falling, len(patches), 0.8).pvalue > 0.01


def test_labelled_pixels_are_spread_evenly_over_the_middle_of_their_patches():
    """A patch is shifted by up to a quarter of its side from the one labelled pixel."""
    labels = np.zeros((1, 96, 96), np.uint8)
    labels[0, 48, 48] = 1
    sampler = PatchSampler([indexed_volume((1, 96, 96), labels=labels)], 32, 20)
    batches = [sampler.batch(step)["source"].labels[:10].numpy() for step in range(30)]
    pixels = np.argwhere(np.concatenate(batches) == 1)
    assert len(pixels) == 300
    for coordinates in pixels[:, 1:].T:
        assert coordinates.min() >= 16 - 8
        assert coordinates.max() <= 16 + 8
        assert chisquare(np.bincount(coordinates - 8, minlength=17)).pvalue > 0.01


def test_source_and_target_are_sampled_at_different_positions():
    shape = (4, 64, 64)
    sampler = PatchSampler([indexed_volume(shape), indexed_volume(shape, "target")], 32, 4)
    corners = [
        np.stack([axis[:, 0, 0] for axis in where(sampler, patches, domain, shape)])
        for domain, patches in sampler.batch(0).items()
    ]
    assert not (corners[0] == corners[1]).all(0).any()


def test_every_position_can_be_drawn_including_the_last():
    shape = (2, 33, 34)
    sampler = PatchSampler([indexed_volume(shape)], 32, 64)
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
    batch = PatchSampler([indexed_volume(shape, labels=labels)], 32, 2).batch(0)["source"]
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
    y0, y1, x0, x1 = ends
    z0, z1 = sorted(sections)
    box = Box((z0, y0, x0), (z1 + 1, 72 - y1, 72 - x1))
    labels = np.zeros(shape, np.uint8)
    labels[:, 5::9, 5::9] = 1
    annotations = {"annotations": labels + 1} if annotated else {}
    volumes = [
        indexed_volume(shape, labels=labels),
        indexed_volume(shape, "target", **annotations),
    ]
    sampler = PatchSampler(volumes, 32, 6, boxes={"source": str(box), "target": str(box)})
    for domain in ("source", "target"):
        balanced = [sampler.batch(step)[domain] for step in range(3)]
        for patches in [*balanced, sampler.anywhere(domain, 0)]:
            coordinates = where(sampler, patches, domain, shape)
            for axis, low, high in zip(coordinates, box.start, box.stop, strict=True):
                assert low <= axis.min()
                assert axis.max() < high


def test_statistics_come_from_inside_the_box():
    image = np.random.default_rng(0).normal(50, 5, (2, 80, 80)).astype(np.float32)
    image[:, 40:] += 1000
    volume = Volume("v", image, "source", VoxelGrid(SPACING))
    sampler = PatchSampler([volume], 32, 1, boxes={"source": ":,0:40,:"})
    assert sampler.statistics["v"].mean == pytest.approx(50, abs=1)


def test_a_target_without_annotations_is_sampled_uniformly():
    shape = (3, 36, 36)
    sampler = PatchSampler([indexed_volume(shape, "target", labels=None)], 32, 50)
    counts = np.zeros((3, 5, 5))
    for step in range(60):
        coordinates = where(sampler, sampler.batch(step)["target"], "target", shape)
        np.add.at(counts, tuple(axis[:, 0, 0] for axis in coordinates), 1)
    assert counts.sum() == 3000
    assert chisquare(counts.ravel()).pvalue > 0.01


# -- balance ---------------------------------------------------------------------------------------


@pytest.fixture
def bordered():
    """A labelled volume, three eighths of which are a constant border without objects."""
    image = np.random.default_rng(0).normal(100, 10, (6, 160, 160)).astype(np.float32)
    labels = (np.random.default_rng(1).random(image.shape) < 0.2).astype(np.uint8)
    image[:, :, :60] = 255
    labels[:, :, :60] = 0
    return Volume("source", image, "source", VoxelGrid(SPACING), labels=labels)


def test_class_shares_are_those_of_tissue(bordered):
    assert bordered.labels.mean() == pytest.approx(0.125, abs=0.005)
    shares = PatchSampler([bordered], 32, 1).prior("source", 2)
    assert shares[1] == pytest.approx(0.2, abs=0.01)
    blank = replace(bordered, image=np.where(bordered.image == 255, 100.5, bordered.image))
    varied = replace(blank, image=blank.image + np.arange(160, dtype=np.float32) / 100)
    without = PatchSampler([varied], 32, 1).prior("source", 2)
    assert without[1] == pytest.approx(bordered.labels.mean(), abs=1e-9)


def test_what_is_measured_anywhere_is_tissue_for_the_most_part(bordered):
    sampler = PatchSampler([replace(bordered, domain="target", labels=None)], 32, 4)
    grey = float(sampler.padding("target")[0])
    padded = [
        float((np.abs(patch[0].numpy() - grey) < 1e-4).mean())
        for index in range(8)
        for patch in sampler.anywhere("target", index).image
    ]
    assert np.mean(padded) < 0.05
    again = sampler.anywhere("target", 3).image
    assert torch.equal(again, sampler.anywhere("target", 3).image)


def test_a_search_for_tissue_ends_where_there_is_none(bordered, monkeypatch):
    sampler = PatchSampler([replace(bordered, domain="target", labels=None)], 32, 4)
    monkeypatch.setattr(SamplingRegion, "padding", lambda region, box: np.ones(box.shape, bool))
    assert sampler.anywhere("target", 0).image.shape == (4, 1, 32, 32)


def rare(shape=(4, 160, 160)):
    """Labels with 36 pixels of foreground."""
    labels = np.zeros(shape, np.uint8)
    labels[2, 100:106, 20:26] = 1
    return labels


def test_half_of_the_source_patches_contain_foreground_however_rare():
    labels = rare()
    sampler = PatchSampler([indexed_volume(labels.shape, labels=labels)], 32, 8)
    for step in range(5):
        with_foreground = (sampler.batch(step)["source"].labels == 1).flatten(1).any(1)
        assert 4 <= with_foreground.sum() <= 5
    unbalanced = torch.cat([sampler.anywhere("source", i).labels for i in range(5)])
    assert (unbalanced == 1).flatten(1).any(1).sum() <= 3


def test_every_foreground_class_is_equally_frequent():
    labels = rare()
    labels[0, 10:100, 50:150] = 2
    sampler = PatchSampler([indexed_volume(labels.shape, labels=labels, classes=3)], 32, 10)
    batches = [sampler.batch(step)["source"].labels[:5] for step in range(40)]
    share = np.mean([(patch == 1).any() for batch in batches for patch in batch.numpy()])
    assert 0.4 < share < 0.6


def test_half_of_the_target_patches_contain_annotations_also_of_background():
    annotations = np.zeros((4, 160, 160), np.uint8)
    annotations[1, 30:40, 30:40] = 1
    volume = indexed_volume(annotations.shape, "target", annotations=annotations)
    sampler = PatchSampler([volume], 32, 8)
    assert sampler.labelled("target")
    assert not sampler.foreground("target")
    for step in range(5):
        annotated = (sampler.batch(step)["target"].labels != IGNORE).flatten(1).any(1)
        assert 4 <= annotated.sum() <= 5


def test_labels_belong_to_their_pixels(source):
    shape = (3, 64, 64)
    labels = (positions(shape) * 7 % 5 > 3).astype(np.uint8)
    sampler = PatchSampler([indexed_volume(shape, labels=labels)], 32, 4)
    patches = sampler.batch(2)["source"]
    z, y, x = where(sampler, patches, "source", shape)
    assert np.array_equal(patches.labels, labels[z, y, x])


# -- pixel size and grey values --------------------------------------------------------------------


def test_both_domains_are_sampled_at_the_coarser_pixel_size(noise):
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
    volume = Volume("v", np.full((1, 40, 40), 7), "source", VoxelGrid(SPACING))
    with pytest.raises(DataError, match="one grey value only: choose"):
        PatchSampler([volume], 32, 1)


@pytest.mark.parametrize(
    ("shape", "patch", "remedy"),
    [((2, 70, 90), 96, "patch size 64 or less"), ((1, 20, 90), 32, "smaller pixel size")],
)
def test_a_volume_smaller_than_a_patch_is_refused_with_a_size_that_fits(shape, patch, remedy):
    message = rf"{shape[1]} x 90 pixels of 4 nm, smaller than one {patch}.*{remedy}\."
    with pytest.raises(DataError, match=message):
        PatchSampler([indexed_volume(shape)], patch, 1)


# -- prefetching -----------------------------------------------------------------------------------


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("ahead", [1, 3, 50])
def test_prefetched_results_come_in_order(ahead):
    assert list(prefetched(lambda i: i * i, 3, 20, ahead=ahead)) == [i * i for i in range(3, 20)]
    assert list(prefetched(lambda i: i, 5, 5)) == []


def test_no_more_than_the_given_number_is_prefetched():
    computed = []
    results = prefetched(lambda i: computed.append(i), 0, 100, ahead=3)
    for _ in range(5):
        next(results)
    assert len(computed) <= 5 + 3
    results.close()


def test_an_error_in_the_thread_reaches_the_caller():
    def compute(i):
        if i == 2:
            raise DataError("gone")
        return i

    results = prefetched(compute, 0, 10)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(DataError, match="gone"):
        next(results)
    assert not threads()


def test_the_thread_ends_when_the_results_are_closed():
    results = prefetched(lambda i: i, 0, 10**6)
    next(results)
    assert threads()
    results.close()
    assert not threads()


# -- neighbouring sections -------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0, 2**30])
def test_channels_are_the_neighbouring_sections_and_labels_those_of_the_middle(memory):
    """Sections of 20 and of 50 nm: both show 50 nm on either side."""
    shape = (9, 48, 48)
    noise = np.random.default_rng(0).integers(0, 2, shape).astype(np.uint8)
    thin = Volume("source", positions(shape), "source", VoxelGrid((20.0, 4.0, 4.0)), labels=noise)
    sampler = PatchSampler([thin, indexed_volume(shape, "target")], 32, 4, context=1, memory=memory)
    assert sampler.section_distance == 50
    batch = sampler.batch(0)
    steps = {"source": 3, "target": 1}
    for domain, patches in batch.items():
        assert patches.image.shape == (4, 3, 32, 32)
        statistics = sampler.statistics[domain]
        grey = patches.image.double().numpy() * statistics.std + statistics.mean
        z, y, x = np.unravel_index(grey.round().astype(int), shape)
        for channel, step in enumerate((-steps[domain], 0, steps[domain])):
            wanted = z[:, 1] + step
            # Beyond an end, as many sections from it on the other side.
            expected = np.where(wanted < 0, -wanted, np.minimum(wanted, 16 - wanted))
            np.testing.assert_array_equal(z[:, channel], expected)
            np.testing.assert_array_equal((y[:, channel], x[:, channel]), (y[:, 1], x[:, 1]))
        if domain == "source":
            np.testing.assert_array_equal(patches.labels, noise[z[:, 1], y[:, 1], x[:, 1]])


def test_context_does_not_change_where_patches_lie(source, target):
    alone, together = (PatchSampler([source, target], 32, 3, context=k) for k in (0, 2))
    for domain, patches in together.batch(3).items():
        expected = alone.batch(3)[domain]
        assert torch.equal(patches.image[:, 2], expected.image[:, 0])
        assert torch.equal(patches.labels, expected.labels)


def test_what_users_should_know_of_their_sections_is_said_by_volume(source, target):
    black = target.image.copy()
    black[2] = 0
    spoilt = replace(target, image=black)
    single = replace(source, image=source.image[:1], labels=source.labels[:1])
    sampler = PatchSampler([single, spoilt], 32, 1, context=1)
    assert [sentence.partition(" ")[0] for sentence in sampler.remarks()] == ["'source'", "Section"]
    assert sampler.spoilt == {"source": (), "target": (2,)}
    assert PatchSampler([single, spoilt], 32, 1).remarks() == []


# -- numbers of objects ----------------------------------------------------------------------------


def remarks_on(*volumes, objects=True):
    return PatchSampler(volumes, 32, 2, objects=objects).remarks()


def test_a_user_is_told_once_what_labels_without_numbers_teach(source, target):
    labels = np.asarray(source.labels)
    annotations = np.zeros(labels.shape, np.uint8)
    annotations[1, 20:60, 20:60] = 2
    annotated = replace(target, annotations=annotations)
    numbered = replace(source, name="numbered", ids=labels * np.arange(1, 5)[:, None, None])
    assert remarks_on(source, annotated, objects=False) == []
    assert remarks_on(numbered, target) == []
    (remark,) = remarks_on(source, annotated)
    assert "connected voxels of a class are taken for one object" in remark
    (remark,) = remarks_on(numbered, source, annotated, target)
    assert remark.startswith("The labels of 'source' and 'target' hold classes and no numbers")


def test_what_labels_without_numbers_teach_depends_on_the_other_volumes(source):
    ids = np.zeros(source.shape, np.int64)
    ids[:, 8:80, 8:80] = 1
    ids[0, :4, :4] = 2
    classes = replace(source, name="classes", labels=(ids > 0).astype(np.uint8), ids=None)
    numbered = replace(source, labels=ids, ids=ids)
    box = Box((1, 30, 30), (2, 62, 62))
    alone, beside = (
        PatchSampler(volumes, 32, 2, objects=True).regions("source")[0].read_borders(box)
        for volumes in ([classes], [classes, numbered])
    )
    assert alone.min() > 0
    assert not beside.any()

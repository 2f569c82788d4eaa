"""The phantom: seeded, any size, continuous in z, and not to be solved by a threshold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops

from napari_emda.errors import DataError
from napari_emda.synthetic.phantom import phantom, phantom_objects
from napari_emda.synthetic.sample_pair import RECORDINGS, sample_volume

SHAPE = (12, 192, 160)


@pytest.fixture(scope="module")
def pair() -> dict:
    return {domain: phantom(SHAPE, domain, seed=3) for domain in ("source", "target")}


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_the_same_seed_gives_the_same_volume(pair):
    for domain, (image, labels) in pair.items():
        again = phantom(SHAPE, domain, seed=3)
        np.testing.assert_array_equal(again[0], image)
        np.testing.assert_array_equal(again[1], labels)
        assert (phantom(SHAPE, domain, seed=4)[1] != labels).any()


def test_the_two_domains_have_different_anatomy(pair):
    assert iou(pair["source"][1] > 0, pair["target"][1] > 0) < 0.3


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 130), (3, 65, 33), (40, 20, 20), (2, 301, 64)])
@pytest.mark.parametrize("spacing", [(50.0, 8.0, 8.0), (10.0, 10.0, 10.0), (30.0, 4.0, 6.0)])
def test_any_size_and_voxel_size(shape, spacing):
    image, labels = phantom(shape, "target", 0, spacing)
    assert image.shape == labels.shape == shape
    assert image.dtype == labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1}


@pytest.mark.parametrize("domain", ["source", "target"])
@pytest.mark.parametrize("seed", range(4))
def test_mitochondria_take_a_share_as_in_tissue(domain, seed):
    _, labels = phantom((8, 256, 256), domain, seed)
    assert 0.06 < labels.mean() < 0.13


def test_a_patch_of_64_pixels_sees_one_or_two(pair):
    for _, labels in pair.values():
        counts = [
            ndimage.label(s[y : y + 64, x : x + 64])[1]
            for s in labels
            for y in (0, 64, 128)
            for x in (0, 64)
        ]
        assert 0.5 < np.mean(counts) < 3


def test_structures_continue_from_section_to_section(pair):
    for image, labels in pair.values():
        near = np.mean([iou(a > 0, b > 0) for a, b in pairwise(labels)])
        far = np.mean([iou(a > 0, b > 0) for a, b in zip(labels, labels[8:], strict=False)])
        assert near > 0.4
        assert near > far + 0.2
        smooth = ndimage.gaussian_filter(image.astype(float), (0, 3, 3))
        correlation = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairwise(smooth)]
        assert np.mean(correlation) > 0.3


def test_finer_sections_change_less_from_one_to_the_next():
    def near(z):
        labels = phantom((10, 192, 192), "source", 1, (z, 8.0, 8.0))[1] > 0
        return np.mean([iou(a, b) for a, b in pairwise(labels)])

    assert near(10.0) > near(50.0) + 0.1


def test_no_threshold_finds_the_mitochondria(pair):
    for image, labels in pair.values():
        smooth = ndimage.gaussian_filter(image.astype(float), (0, 2, 2))
        for values in (image, smooth):
            best = max(iou(values < t, labels > 0) for t in range(10, 250, 5))
            assert best < 0.5


def test_the_domains_look_different_beyond_brightness_and_contrast(pair):
    def look(image):
        z = (image - image.mean()) / image.std()
        return np.quantile(z, np.linspace(0.01, 0.99, 50)), np.std(
            z - ndimage.gaussian_filter(z, (0, 1, 1))
        )

    (source, source_noise), (target, target_noise) = (
        look(image.astype(float)) for image, _ in pair.values()
    )
    assert np.abs(source - target).mean() > 0.05
    assert abs(source_noise - target_noise) > 0.02
    assert abs(pair["source"][0].mean() - pair["target"][0].mean()) > 20


def test_the_sample_pair_differs_in_voxels_noise_and_stain():
    thickness, noise, contrast = {}, {}, {}
    for domain, recording in RECORDINGS.items():
        image, labels = sample_volume(domain, seed=3)
        assert image.shape == labels.shape == recording.shape
        assert 0.06 < labels.mean() < 0.13
        thickness[domain] = recording.shape[0] * recording.spacing[0]
        grey = image[:10].astype(float)
        noise[domain] = np.std(grey - ndimage.median_filter(grey, (1, 3, 3))) / grey.std()
        contrast[domain] = image[labels == 0].mean() - image[labels > 0].mean()
    assert RECORDINGS["source"].spacing != RECORDINGS["target"].spacing
    assert thickness["source"] == thickness["target"], "one slider goes through both"
    assert noise["target"] > 1.15 * noise["source"]
    assert contrast["target"] < 0.6 * contrast["source"]


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((0, 10, 10), (50, 8, 8)), ((10, 10), (50, 8, 8)), ((4, 10, 10), (50, 0, 8))],
)
def test_impossible_sizes_are_refused(shape, spacing):
    with pytest.raises(DataError, match="give three positive numbers for each"):
        phantom(shape, spacing=spacing)


# -- true objects ----------------------------------------------------------------------------------


def touching_pairs(ids):
    """Pairs of objects that share faces of voxels."""
    pairs = set()
    for axis in range(3):
        low, high = (np.delete(ids, end, axis) for end in (-1, 0))
        meet = (low != high) & (low > 0) & (high > 0)
        pairs |= set(zip(low[meet].tolist(), high[meet].tolist(), strict=True))
    return {tuple(sorted(pair)) for pair in pairs}


@pytest.mark.parametrize("spacing", [(50.0, 8.0, 8.0), (10.0, 10.0, 10.0)])
def test_objects_are_those_of_the_phantom_and_do_not_touch(spacing):
    image, ids = phantom_objects((20, 128, 160), "target", 2, spacing)
    same, labels = phantom((20, 128, 160), "target", 2, spacing)
    np.testing.assert_array_equal(image, same)
    np.testing.assert_array_equal(ids > 0, labels > 0)
    assert not touching_pairs(ids)


@pytest.mark.parametrize("spacing", [(50.0, 8.0, 8.0), (10.0, 10.0, 10.0)])
def test_touching_ones_are_numbered_apart(spacing):
    shape = (24, 256, 256)
    _, ids = phantom_objects(shape, "target", 0, spacing, touching=0.8, branching=0.3)
    assert len(touching_pairs(ids)) >= 4
    assert ndimage.label(ids)[1] < len(np.unique(ids)) - 1


def test_the_same_seed_gives_the_same_touching_ones():
    (image, ids), (same_image, same_ids) = (
        phantom_objects((12, 160, 160), "target", 0, touching=0.8, branching=0.3) for _ in range(2)
    )
    assert touching_pairs(ids)
    np.testing.assert_array_equal(same_image, image)
    np.testing.assert_array_equal(same_ids, ids)


def test_branches_make_objects_less_solid():
    def mean_solidity(branching):
        _, ids = phantom_objects((40, 200, 200), "target", 1, (10.0,) * 3, branching=branching)
        return np.mean([r.solidity for r in regionprops(ids.astype(int)) if r.area > 1000])

    assert mean_solidity(1) < mean_solidity(0) - 0.05

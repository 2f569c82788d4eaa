"""Touching objects are separated, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import KDTree

from napari_emda.data.box import Box
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.evaluation.object_scores import compare_objects
from napari_emda.events import result_of
from napari_emda.objects import basins
from napari_emda.objects.borders import CONTOUR, FARTHEST, STEPS, Borders
from napari_emda.objects.separation import find_separate_objects_in, separate
from napari_emda.settings.objects import SeparationSettings

WHOLE = (1000, 1000, 1000)


def separated(objects, spacing=(1, 1, 1), block=WHOLE, independent=False, **choices):
    """Separate in blocks of a shape; ids and their number."""
    block = tuple(min(a, b) for a, b in zip(block, objects.shape, strict=True))
    out = np.zeros(objects.shape, np.uint32)
    grid = VoxelGrid(spacing, "nm", independent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_emda.objects.separation._block_shape", lambda array: block)
        return out, result_of(separate(objects, out, grid, **choices))


def blobs(seed, shape, smoothness, share, independent):
    """Connected components of a smooth random field."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), smoothness)
    mask = field >= np.quantile(field, 1 - share)
    structure = ndimage.generate_binary_structure(3, 1)
    structure[[0, 2]] &= not independent
    return ndimage.label(mask, structure)[0].astype(np.uint32)


def balls(*centres, radius=12, shape=(40, 40, 70), spacing=(1, 1, 1)):
    """Balls that touch, as one object; lengths in nm."""
    grid = np.indices(shape).T * spacing
    inside = [((grid - centre) ** 2).sum(-1) < radius**2 for centre in centres]
    return np.any(inside, axis=0).T.astype(np.uint32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    smoothness=st.floats(0.3, 4),
    share=st.floats(0.1, 0.9),
    spacing=st.tuples(*[st.floats(1, 7)] * 3),
    block=st.tuples(*[st.integers(1, 12)] * 3),
    neck=st.floats(0.1, 1),
    minimum_size=st.integers(0, 20),
    independent=st.booleans(),
    mapped=st.booleans(),
)
def test_blocks_do_not_matter(
    seed, shape, smoothness, share, spacing, block, neck, minimum_size, independent, mapped
):
    objects = blobs(seed, shape, smoothness, share, independent)
    # Maps of any kind, few values of which make level ground.
    maps = np.random.default_rng(seed).choice([0, 3, 90, 255], (2, *shape)).astype(np.uint8)
    choices = {
        "maps": maps if mapped else None,
        "spacing": spacing,
        "independent": independent,
        "neck": neck,
        "minimum_size": minimum_size,
    }
    whole, count = separated(objects, **choices)
    parts, _ = separated(objects, block=block, **choices)
    np.testing.assert_array_equal(parts, whole)
    # Nothing is lost, and no part lies in two objects.
    np.testing.assert_array_equal(whole > 0, objects > 0)
    assert sorted(np.unique(whole[whole > 0])) == list(range(1, count + 1))
    pairs = np.unique(np.stack([whole, objects])[:, whole > 0], axis=1)
    assert pairs.shape[1] == count


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    smoothness=st.floats(0.3, 6),
    sides=st.tuples(*[st.integers(16, 60)] * 3),
    corner=st.tuples(*[st.integers(0, 20)] * 3),
)
def test_heights_are_distances_to_the_border(seed, smoothness, sides, corner):
    """However few voxels around the box are read at first."""
    objects = blobs(seed, (30, 28, 26), smoothness, 0.8, False)
    steps = basins.Steps.of(tuple(side / 16 for side in (16, *sides[1:])), False)
    box = Box(corner, tuple(start + 5 for start in corner))
    ids, heights, reach = basins.heights(objects, box, steps, reach=1)
    distances = ndimage.distance_transform_edt(objects > 0, sampling=steps.sides)
    if not (objects == 0).any():
        return
    expected = np.minimum(distances, 16 * basins.HIGHEST)[box.slices]
    np.testing.assert_allclose(heights, expected, rtol=1e-6)
    np.testing.assert_array_equal(ids, objects[box.slices])
    assert reach <= basins.HIGHEST


def test_two_balls_that_touch_are_two_objects():
    objects = balls((20, 20, 20), (20, 20, 42))
    assert objects.any(axis=(0, 1)).sum() > 40
    assert ndimage.label(objects)[1] == 1
    found, count = separated(objects, neck=0.8)
    assert count == 2
    # The plane between them is half-way.
    x = np.nonzero(found == found[20, 20, 20])[2]
    assert abs(x.max() - 30.5) <= 1


@pytest.mark.parametrize("spacing", [(1, 1, 1), (4, 1, 1), (1, 2, 1)])
def test_the_voxel_size_does_not_change_what_is_one_object(spacing):
    shape = tuple(int(n / s) for n, s in zip((50, 50, 80), spacing, strict=True))
    pair = balls((24, 24, 20), (24, 24, 50), radius=17, shape=shape, spacing=spacing)
    assert separated(pair, spacing, neck=0.8)[1] == 2
    one = balls((24, 24, 30), (24, 24, 34), radius=17, shape=shape, spacing=spacing)
    assert separated(one, spacing, neck=0.8)[1] == 1


@pytest.mark.parametrize(("neck", "count"), [(0.6, 2), (0.45, 1)])
def test_the_width_of_the_neck_decides(neck, count):
    """11 pixels between squares of 21 and 31: 0.52 of the narrower one."""
    objects = np.zeros((1, 31, 80), np.uint32)
    objects[0, 5:26, 3:24] = objects[0, :, 45:76] = objects[0, 10:21, 24:45] = 1
    assert separated(objects, neck=neck)[1] == count


def test_small_parts_stay_with_their_neighbours():
    objects = balls((20, 20, 20), (20, 20, 42))
    small = balls((20, 20, 35), radius=5) & ~balls((20, 20, 20))
    joined = np.where(balls((20, 20, 20)) | small, 1, 0).astype(np.uint32)
    assert separated(joined, neck=0.9)[1] == 2
    found, count = separated(joined, neck=0.9, minimum_size=1000)
    assert count == 1
    np.testing.assert_array_equal(found, joined)
    assert separated(objects, neck=0.9, minimum_size=1000)[1] == 2


def test_objects_thicker_than_any_surroundings_that_are_read(monkeypatch):
    monkeypatch.setattr(basins, "HIGHEST", 6)
    objects = balls((20, 20, 20), (20, 20, 42))
    whole, _ = separated(objects, neck=0.8)
    np.testing.assert_array_equal(separated(objects, neck=0.8, block=(9, 7, 8))[0], whole)
    assert separated(balls((20, 20, 30), radius=18), neck=0.8)[1] == 1


def test_voxels_that_are_too_long_are_refused():
    with pytest.raises(DataError, match="up to 64 times as long as another"):
        separated(balls((20, 20, 20)), (100, 1, 1), neck=0.8)


@pytest.mark.parametrize(("separate_at", "expected"), [(0, 1), (0.8, 2)])
def test_probabilities_in_objects_out(tmp_path, separate_at, expected):
    mask = balls((20, 20, 20), (20, 20, 42))
    stored = zarr.create_array(
        zarr.storage.MemoryStore(), data=255 * mask[None].astype(np.uint8), chunks=(1, 8, 32, 32)
    )
    settings = SeparationSettings(separate=separate_at, minimum_size=10)
    events = find_separate_objects_in(tmp_path, stored, settings, VoxelGrid((1, 1, 1)))
    shares = []
    while True:
        try:
            event = next(events)
            shares.append(event.done / event.total)
        except StopIteration as end:
            objects, count = end.value
            break
    assert count == expected == objects[...].max()
    np.testing.assert_array_equal(objects[...] > 0, mask > 0)
    assert shares == sorted(shares)
    assert shares[-1] == 1


# -- maps that a network predicts ------------------------------------------------------------------


def perfect_maps(ids):
    """What a network would predict that has learnt everything."""
    volume = Volume("v", ids, "source", VoxelGrid((1, 1, 1)), labels=ids, ids=ids)
    codes = Borders(Resampled(volume, 1), numbered=True, connected=False).whole() / STEPS
    contours = np.where((codes > 0) & (codes <= CONTOUR), 255, 0)
    return np.stack([contours, np.minimum(codes / FARTHEST, 1) * 255]).astype(np.uint8)


def test_a_contour_separates_what_has_no_neck():
    """Two bars side by side, and one as long."""
    ids = np.zeros((3, 40, 70), np.uint32)
    ids[:, 5:35, 5:20] = 1
    ids[:, 5:35, 20:35] = 2
    ids[:, 5:35, 40:65] = 3
    objects = ndimage.label(ids)[0].astype(np.uint32)
    assert separated(objects, neck=0.5)[1] == 2
    found, count = separated(objects, neck=0.5, maps=perfect_maps(ids))
    assert count == 3
    pairs = np.unique(np.stack([found, ids])[:, ids > 0], axis=1)
    assert pairs.shape[1] == 3


def test_with_perfect_maps_any_cells_are_found_again(noise):
    """Up to the voxels of a seam: cells around random points that fill the image."""
    points = noise.uniform(0, 128, (40, 2))
    pixels = np.indices((128, 128)).reshape(2, -1).T
    ids = (KDTree(points).query(pixels)[1].reshape(1, 128, 128) + 1).astype(np.uint32)
    ids[0, :8] = 0
    found, _ = separated(np.minimum(ids, 1), neck=0.5, maps=perfect_maps(ids), independent=True)
    scores = compare_objects(found, ids)
    assert scores["ap_75"] > 0.9
    assert scores["vi_merge"] < 0.1


def test_maps_do_not_separate_what_the_settings_leave_together(tmp_path):
    ids = np.zeros((1, 30, 60), np.uint32)
    ids[:, 5:25, 5:30] = 1
    ids[:, 5:25, 30:55] = 2
    maps = perfect_maps(ids)
    probabilities = (255 * (ids > 0))[None].astype(np.uint8)
    counts = []
    for neck in (0.0, 0.5):
        chosen = SeparationSettings(separate=neck)
        search = find_separate_objects_in(
            tmp_path / f"{neck}", probabilities, chosen, VoxelGrid((1, 1, 1)), maps=maps
        )
        counts.append(result_of(search)[1])
    assert counts == [1, 2]

"""Blockwise components against scikit-image on the whole volume."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import label
from skimage.morphology import remove_small_objects

from napari_emda.errors import DataError, SettingsError
from napari_emda.objects.components import find_objects

SHAPES = array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7)


class Chunked(np.ndarray):
    """Says how it would be stored, and is quicker than a store."""

    chunks: tuple[int, int, int]


def objects_of(probabilities, chunks=(2, 2, 2), **choices):
    out = np.full(probabilities.shape[1:], 7, np.uint32).view(
        Chunked
    )  # what it held before does not matter
    out.chunks = chunks
    events = find_objects(probabilities, out, volume="cell", **choices)
    seen = []
    while True:
        try:
            seen.append(next(events))
        except StopIteration as end:
            return out.view(np.ndarray), end.value, seen


def assert_same_partition(a, b):
    """Equal up to the names of the ids."""
    np.testing.assert_array_equal(a > 0, b > 0)
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@pytest.fixture(autouse=True)
def tiny_blocks(monkeypatch):
    monkeypatch.setattr("napari_emda.objects.components.block_shape", lambda array: array.chunks)


@settings(max_examples=150, deadline=None)
@given(arrays(np.bool_, SHAPES), st.sampled_from([1, 2, 3]), st.tuples(*[st.integers(1, 4)] * 3))
def test_blocks_do_not_matter(mask, connectivity, chunks):
    chunks = tuple(min(a, b) for a, b in zip(chunks, mask.shape, strict=True))
    objects, count, _ = objects_of(
        255 * mask[None].astype(np.uint8), chunks, connectivity=connectivity
    )
    expected = label(mask, connectivity=connectivity)
    assert_same_partition(objects, expected)
    assert count == expected.max()
    assert set(np.unique(objects)) <= set(range(count + 1))


@settings(max_examples=50, deadline=None)
@given(arrays(np.bool_, SHAPES), st.integers(0, 8))
def test_small_objects_are_dropped(mask, minimum):
    objects, count, _ = objects_of(255 * mask[None].astype(np.uint8), minimum_size=minimum)
    expected = label(
        remove_small_objects(mask, max_size=minimum - 1, connectivity=1), connectivity=1
    )
    assert_same_partition(objects, expected)
    assert sorted(np.unique(objects[objects > 0])) == list(range(1, count + 1))


def test_snakes_through_many_blocks_are_one_object():
    mask = np.zeros((1, 9, 40), bool)
    mask[0, ::2] = True
    mask[0, 1::4, -1], mask[0, 3::4, 0] = True, True
    objects, count, _ = objects_of(255 * mask[None].astype(np.uint8), (1, 2, 3))
    assert count == 1
    np.testing.assert_array_equal(objects, mask)


def test_threshold_and_classes():
    probabilities = np.array([[[[100, 130, 200, 40]]]], np.uint8)
    assert objects_of(probabilities, threshold=0.7)[0].tolist() == [[[0, 0, 1, 0]]]
    assert objects_of(probabilities, threshold=0.35)[0].tolist() == [[[1, 1, 1, 0]]]
    two = np.array([[[[100, 130, 0, 40]]], [[[110, 30, 200, 60]]]], np.uint8)
    assert objects_of(two)[0].tolist() == [[[0, 1, 0, 0]]]
    assert objects_of(two, class_id=2)[0].tolist() == [[[1, 0, 2, 0]]]


def test_zarr_in_zarr_out():
    mask = np.random.default_rng(0).random((5, 20, 30)) < 0.4
    stored = zarr.create_array(
        zarr.storage.MemoryStore(), data=255 * mask[None].astype(np.uint8), chunks=(1, 2, 8, 8)
    )
    out = zarr.create_array(
        zarr.storage.MemoryStore(), shape=mask.shape, chunks=(3, 7, 9), dtype="uint32"
    )
    list(find_objects(stored, out))
    assert_same_partition(out[...], label(mask, connectivity=1))


def test_events_count_the_blocks():
    _, _, events = objects_of(np.zeros((1, 4, 4, 4), np.uint8))
    assert [event.done for event in events] == list(range(1, 25))
    assert {event.total for event in events} == {24}
    assert events[-1].box == (2, 4, 2, 4, 2, 4)
    assert events[0].volume == "cell"


def test_what_cannot_be_labelled():
    probabilities = np.zeros((1, 2, 3, 4), np.uint8)
    with pytest.raises(SettingsError, match="threshold"):
        objects_of(probabilities, threshold=2)
    with pytest.raises(SettingsError, match="connectivity"):
        objects_of(probabilities, connectivity=4)
    with pytest.raises(DataError, match="no class 2"):
        objects_of(probabilities, class_id=2)
    with pytest.raises(DataError, match="make them equal"):
        next(find_objects(probabilities, np.zeros((2, 3, 3), np.uint32)))

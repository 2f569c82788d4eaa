"""Lazy arrays: equal to NumPy's answer, and a proposal never reaches the disk."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Labels

from napari_emda._gui.annotate.draft import Draft
from napari_emda._gui.predict.lazy_layers import MaskOnView, drop_small
from napari_emda.data.box import Box
from napari_emda.data.probabilities import ClassProbability, class_ids

SHAPE = (3, 20, 24)


def stored(tmp_path, values=None):
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=SHAPE, dtype="uint8", chunks=(1, 8, 8), fill_value=0
    )
    if values is not None:
        array[:] = values
    return array


def test_small_objects_go():
    section = np.zeros((6, 6), np.uint8)
    section[0, 0] = 1
    section[2:5, 2:5] = 2
    drop_small(section, 5)
    assert section[0, 0] == 0
    assert section.sum() == 18


def test_a_mask_is_worked_out_where_it_is_sliced():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 127, (2, *SHAPE)).astype(np.uint8)
    mask = MaskOnView(values)
    assert np.array_equal(mask[1], class_ids(values[:, 1], 0.5))
    mask.threshold = 0.6
    assert np.array_equal(mask[:, 3:9, ::2], class_ids(values, 0.6)[:, 3:9, ::2])
    mask.smallest = 4
    whole = class_ids(values[:, 2], 0.6)
    drop_small(whole, 4)
    assert np.array_equal(mask[2, 5:9, 5:9], whole[5:9, 5:9])
    assert np.array_equal(ClassProbability(values, 2)[2, 4:6], values[1, 2, 4:6])


index = st.one_of(
    st.integers(0, 2).map(lambda z: (z, slice(None), slice(None))),
    st.tuples(st.integers(0, 2), st.integers(0, 19), st.integers(0, 23)),
    st.tuples(st.slices(3), st.slices(20), st.slices(24)),
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 19), st.integers(0, 23)),
        min_size=1,
        max_size=9,
        unique=True,
    ).map(lambda points: tuple(np.array(axis) for axis in zip(*points, strict=True))),
)


@given(
    key=index,
    value=st.integers(0, 3),
    box=st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 12)),
)
@settings(max_examples=120, deadline=None)
def test_a_draft_reads_and_writes_like_the_two_laid_over_each_other(key, value, box):
    rng = np.random.default_rng(1)
    disk = rng.choice([0, 0, 1, 2], SHAPE).astype(np.uint8)
    lent = rng.choice([0, 2, 3], (1, 7, 9)).astype(np.uint8)
    z, y, x = box
    where = Box((z, y, x), (z + 1, y + 7, x + 9))
    shown = disk.copy()
    shown[where.slices] = np.where(shown[where.slices] == 0, lent, shown[where.slices])
    draft = Draft(disk.copy())
    draft.set_proposal(where, lent.copy())
    assert np.array_equal(draft[key], shown[key])
    before = shown.copy()
    forward = key
    if any(isinstance(part, slice) for part in key):  # napari writes forward slices only
        forward = tuple(
            part
            if not isinstance(part, slice)
            else slice(*part.indices(n))
            if part.indices(n)[2] > 0
            else slice(0, n)
            for part, n in zip(key, SHAPE, strict=True)
        )
    shown[forward] = value
    draft[forward] = value
    proposed = np.zeros(SHAPE, np.uint8)
    proposed[where.slices] = lent
    changed = shown != before
    shown[(shown == 0) & (proposed > 0)] = 1  # erasing a proposal says that it is background
    assert np.array_equal(draft[...], shown)
    assert np.array_equal(draft.stored[changed], shown[changed])
    assert np.array_equal(draft.stored[~changed], disk[~changed])


def test_painting_goes_through_to_disk_and_the_proposal_does_not(tmp_path):
    array = stored(tmp_path)
    draft = Draft(array)
    box = Box((1, 4, 4), (2, 12, 12))
    draft.set_proposal(box, np.full(box.shape, 2, np.uint8))
    layer = Labels(draft, scale=(50, 4, 4))
    layer.brush_size = 3
    layer.paint((1, 16, 16), 2)
    assert np.asarray(array[1, 16, 16]) == 2
    assert np.asarray(array[1, 4:12, 4:12]).sum() == 0
    assert np.asarray(draft[1, 4:12, 4:12]).min() == 2
    layer.paint((1, 8, 8), 0)
    assert np.asarray(array[1, 8, 8]) == np.asarray(draft[1, 8, 8]) == 1
    layer.fill((1, 5, 5), 3)
    assert np.asarray(array[1, 5, 5]) == 3
    assert np.asarray(draft[1, 8, 8]) == 1
    assert layer._slice.image.raw.shape == SHAPE[1:]
    layer.undo()
    layer.paint((1, 16, 16), 0)
    assert np.asarray(array[1, 16, 16]) == 0
    draft.set_proposal(box, None)
    assert np.asarray(draft[1, 4, 4]) == 2  # undoing wrote what was shown


@pytest.mark.parametrize("key", [(5, 0, 0), (0, 30, 0)])
def test_indices_outside_are_errors(tmp_path, key):
    with pytest.raises(IndexError):
        Draft(stored(tmp_path))[key]

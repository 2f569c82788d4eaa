"""Edits of objects: their effect, on the same objects and on others, against NumPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage
from skimage.measure import label, regionprops

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.objects import taught
from napari_emda.objects.edited import EditedObjects, Extents
from napari_emda.objects.edits import ObjectEdit, ObjectReference, Part, json_values
from napari_emda.objects.replay import apply, replay
from napari_emda.objects.splitting import split

GRID = VoxelGrid((1.0, 1.0, 1.0))


def edited(ids):
    found = regionprops(ids.astype(np.int64))
    extents = Extents.of(
        np.array([o.label for o in found], np.int64),
        np.array([o.num_pixels for o in found], np.int64),
        np.array([o.bbox[:3] for o in found], np.int64).reshape(-1, 3),
        np.array([o.bbox[3:] for o in found], np.int64).reshape(-1, 3),
    )
    return EditedObjects(ids.astype(np.uint32), extents)


def balls(*centres, radius=6, shape=(20, 40, 60)):
    """A mask of balls."""
    grid = np.indices(shape)
    mask = np.zeros(shape, bool)
    for centre in centres:
        squares = [(axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)]
        mask |= sum(squares) <= radius**2
    return mask


def edit_of(objects, kind, ids, base="now", **values):
    references = tuple(objects.reference(number) for number in ids)
    return ObjectEdit(
        id=f"{kind}-{ids[0]}",
        kind=kind,
        volume="target",
        class_name="mito",
        run="001-x",
        base=base,
        objects=references,
        **values,
    )


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_edits_have_the_effect_that_they_have_on_a_whole_array(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    ids = label(rng.random((4, 9, 11)) < 0.35, connectivity=1)
    objects = edited(ids)
    expected = ids.astype(np.uint32)
    highest = int(ids.max())
    for _ in range(data.draw(st.integers(1, 8))):
        left = np.unique(expected[expected > 0])
        if len(left) < 2:
            break
        first, second = rng.choice(left, 2, replace=False).tolist()
        kind = data.draw(st.sampled_from(["delete", "merge", "split"]))
        if kind == "delete":
            objects.delete(first)
            expected[expected == first] = 0
        elif kind == "merge":
            objects.merge([first, second])
            expected[expected == second] = first
        elif (expected == first).sum() > 1:
            mask = (expected == first) & (rng.random(ids.shape) < 0.5)
            if not mask.any() or (mask == (expected == first)).all():
                continue
            highest += 1
            assert objects.split(first, Part.of(mask, (0, 0, 0))) == highest
            expected[mask] = highest
    np.testing.assert_array_equal(objects[...], expected)
    parts = (slice(1, None, 2), slice(7, None, -3), slice(2, 9))
    np.testing.assert_array_equal(objects[parts], expected[parts])
    left, counts = np.unique(expected[expected > 0], return_counts=True)
    np.testing.assert_array_equal(objects.ids, left)
    for number, count in zip(left.tolist(), counts.tolist(), strict=True):
        assert objects.voxels(number) == count
        inside = np.argwhere(expected == number)
        box = objects.box(number)
        assert (inside >= box.start).all() and (inside < box.stop).all()
    objects.reset()
    np.testing.assert_array_equal(objects[...], ids)


def test_numbers_of_a_damaged_file_are_background():
    objects = edited(np.array([[[1, 1, 2]]]))
    objects.found = np.array([[[1, 2**32 - 1, 3]]], np.uint32)
    assert objects[...].tolist() == [[[1, 0, 0]]]


def test_a_reference_holds_voxels_of_its_object():
    ids = label(balls((9, 12, 20), (9, 28, 45)))
    reference = edited(ids).reference(2)
    assert reference.voxels == (ids == 2).sum()
    assert len(reference.sample) == 256
    assert (ids[tuple(reference.sampled.T)] == 2).all()


def test_an_edit_survives_its_line_of_json():
    ids = label(balls((9, 12, 20), (9, 12, 31)))
    objects = edited(ids)
    part = split(objects, 1, [(9, 12, 18), (9, 12, 33)], GRID)
    edit = edit_of(objects, "split", [1], seeds=((9, 12, 18), (9, 12, 33)), part=part)
    again = ObjectEdit.model_validate_json(json.dumps(json_values(edit)))
    assert again == edit
    np.testing.assert_array_equal(again.part.mask, part.mask)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "burn"},
        {"volume": "../x"},
        {"run": "a/b"},
        {"region": "../../x"},
        {"class_name": "\x1b[2J"},
        {"objects": []},
        {"seeds": [[0, 0, 0], [0, 0, 1]]},
        {"time": float("nan")},
        {"unknown": 1},
    ],
)
def test_nonsense_is_no_edit(change):
    edit = edit_of(edited(np.array([[[1, 1, 2]]])), "delete", [1])
    with pytest.raises(ValidationError):
        ObjectEdit.model_validate({**json_values(edit), **change})


def test_parts_and_references_are_bounded():
    part = Part.of(np.ones((3, 4, 5), bool), (0, 0, 0))
    # A few bytes that unfold to far more than the box holds.
    huge = {"low": (0, 0, 0), "high": (2**9, 2**9, 2**9), "bits": part.bits}
    with pytest.raises(ValidationError, match="never split off"):
        Part(**huge)
    with pytest.raises(ValidationError, match="not the bits"):
        Part(low=(0, 0, 0), high=(1, 1, 1), bits=part.bits)
    with pytest.raises(ValidationError):
        ObjectReference(id=1, voxels=1, low=(0, 0, 0), high=(1, 1, 1), sample=(1,))
    with pytest.raises(ValidationError):
        ObjectReference(id=0, voxels=1, low=(0, 0, 0), high=(1, 1, 1), sample=(0,))


def test_what_was_split_off_is_bounded_in_all(monkeypatch):
    ids = np.ones((1, 8, 64), int)
    objects = edited(ids)
    monkeypatch.setattr("napari_emda.objects.edited._MOST_BYTES", 40)
    for k in range(5):
        mask = np.zeros(ids.shape, bool)
        mask[0, k] = True
        objects.split(1, Part.of(mask, (0, 0, 0)))
    before = objects[...]
    mask = np.zeros(ids.shape, bool)
    mask[0, 6] = True
    with pytest.raises(DataError, match="take more than 512 MiB"):
        objects.split(1, Part.of(mask, (0, 0, 0)))
    np.testing.assert_array_equal(objects[...], before)
    with pytest.raises(ValidationError, match="No volume holds a box"):
        end = (2**31 - 1,) * 3
        ObjectReference(id=1, voxels=1, low=(0, 0, 0), high=end, sample=(0,))


# -- splitting -------------------------------------------------------------------------------------


def test_touching_balls_are_split_where_they_meet():
    ids = label(balls((9, 12, 20), (9, 12, 31)))
    assert ids.max() == 1
    objects = edited(ids)
    part = split(objects, 1, [(9, 12, 17), (6, 12, 33)], GRID)
    number = objects.split(1, part)
    cut = objects[...]
    # The plane in the middle between the centres.
    x = np.indices(ids.shape)[2]
    assert (cut[(ids > 0) & (x < 25)] == 1).all() != (cut[(ids > 0) & (x < 25)] == number).all()
    assert len(np.unique(cut[(ids > 0) & (x < 25)])) == 1
    assert len(np.unique(cut[(ids > 0) & (x > 26)])) == 1


def test_seeds_in_one_ball_cut_it_between_them():
    ids = balls((9, 15, 30), radius=9).astype(int)
    objects = edited(ids)
    part = split(objects, 1, [(9, 15, 24), (9, 15, 36)], GRID)
    assert 0.4 < part.mask.sum() / ids.sum() <= 0.5


def test_the_cut_follows_a_dip_of_the_probability():
    ids = np.zeros((1, 12, 40), int)
    ids[:, 1:-1, 1:-1] = 1
    probability = np.full(ids.shape, 255, np.uint8)
    probability[:, :, 12] = 130
    part = split(edited(ids), 1, [(0, 6, 8), (0, 6, 20)], GRID, probability)
    assert part.box.stop[2] in (12, 13) and part.box.start[2] == 1


def test_the_cut_follows_a_predicted_contour():
    ids = np.zeros((1, 12, 40), int)
    ids[:, 1:-1, 1:-1] = 1
    maps = np.zeros((2, *ids.shape), np.uint8)
    maps[1] = 200
    maps[0, :, :, 25] = 250
    certain = np.full(ids.shape, 255, np.uint8)
    part = split(edited(ids), 1, [(0, 6, 8), (0, 6, 30)], GRID, certain, maps)
    assert part.box.start[2] in (25, 26) and part.box.stop[2] == 39


def test_parts_that_do_not_touch_are_split_as_well():
    ids = label(balls((9, 12, 15), (9, 12, 40)))
    objects = edited(ids)
    objects.merge([1, 2])
    number = objects.split(1, split(objects, 1, [(9, 12, 15), (9, 12, 40)], GRID))
    cut = objects[...]
    assert {frozenset(np.unique(cut[ids == k])) for k in (1, 2)} == {
        frozenset([1]),
        frozenset([number]),
    }


@pytest.mark.parametrize(
    ("seeds", "problem"),
    [
        ([(9, 12, 15), (0, 0, 0)], "in the background"),
        ([(9, 12, 15), (9, 12, 40)], "in object 2"),
        ([(9, 12, 15), (99, 0, 0)], "outside of the volume"),
        ([(9, 12, 15), (-1, 12, 15)], "outside of the volume"),
        ([(9, 12, 15), (9, 12, 15)], "two different seeds"),
    ],
)
def test_seeds_elsewhere_are_refused(seeds, problem):
    objects = edited(label(balls((9, 12, 15), (9, 12, 40))))
    with pytest.raises(DataError, match=problem):
        split(objects, 1, seeds, GRID)


def test_what_is_too_large_to_split_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr("napari_emda.objects.splitting.MOST_VOXELS", 1000)
    objects = edited(label(balls((9, 12, 15))))
    with pytest.raises(DataError, match="up to 1000 can be split"):
        split(objects, 1, [(9, 12, 14), (9, 12, 17)], GRID)


def test_an_unknown_object_is_refused():
    objects = edited(np.array([[[1, 1, 2]]]))
    for act in (objects.delete, objects.reference, lambda number: objects.merge([1, number])):
        with pytest.raises(DataError, match="There is no object 7: there are 2 objects"):
            act(7)


# -- replay ----------------------------------------------------------------------------------------

CENTRES = [(9, 10, 10), (9, 10, 21), (9, 30, 12), (9, 30, 30), (9, 12, 48)]


def splitter(objects, number, seeds):
    return split(objects, number, seeds, GRID)


def made_edits(objects):
    """A split, a merge, a deletion and a confirmation, carried out."""
    ids = objects[...]
    pair = int(ids[CENTRES[0]])
    others = [int(ids[centre]) for centre in CENTRES[2:]]
    seeds = (CENTRES[0], CENTRES[1])
    edits = [
        edit_of(objects, "split", [pair], seeds=seeds, part=split(objects, pair, seeds, GRID)),
        edit_of(objects, "merge", others[:2]),
        edit_of(objects, "delete", others[2:]),
    ]
    for edit in edits:
        apply(objects, edit)
    good = edit_of(objects, "good", [int(objects[...][CENTRES[0]])])
    apply(objects, good)
    return [*edits, good]


def same_partition(some, other):
    pairs = np.unique(np.stack([some.ravel(), other.ravel()]), axis=1)
    return len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))


def test_edits_are_repeated_exactly_on_the_same_objects():
    ids = label(balls(*CENTRES))
    objects = edited(ids)
    edits = made_edits(objects)
    again = edited(ids)

    def never(*_):
        raise AssertionError("Parts that are known are not computed again")

    result = replay(again, edits, "now", never)
    np.testing.assert_array_equal(again[...], objects[...])
    assert again.good == objects.good
    assert result.sentence() == "The objects contain 4 edits."


def test_edits_find_their_objects_in_another_prediction():
    objects = edited(label(balls(*CENTRES)))
    edits = made_edits(objects)
    # Slightly other outlines, and other ids.
    ids = label(balls(*CENTRES, radius=7))
    ids = np.where(ids > 0, ids.max() + 1 - ids, 0)
    other = edited(ids)
    result = replay(other, edits, "later", splitter)
    assert not result.lost and result.moved
    assert "matched by overlap" in result.sentence()
    common = objects[...] > 0
    assert same_partition(objects[...][common], other[...][common])
    assert (other[...][balls(CENTRES[4])] == 0).all()
    assert other.good == {int(other[...][CENTRES[0]])}


def test_what_another_prediction_has_already_is_no_loss():
    first = edited(label(balls(*CENTRES)))
    edits = [edit for edit in made_edits(first) if edit.kind != "good"]
    # The new model separates the pair, joins the two, and does not find the last one.
    ids = np.zeros(first.shape, int)
    for number, centres in enumerate([CENTRES[:1], CENTRES[1:2], CENTRES[2:4]], start=1):
        ids[balls(*centres, radius=5)] = number
    other = edited(ids)
    result = replay(other, edits, "later", splitter)
    assert not result.lost
    np.testing.assert_array_equal(other[...], ids)


def test_what_no_longer_fits_is_listed():
    first = edited(label(balls(*CENTRES)))
    edits = made_edits(first)
    # A model that finds everything in one piece.
    other = edited(np.ones(first.shape, int))
    result = replay(other, edits, "later", splitter)
    assert [edit.kind for edit in result.lost] == ["split", "delete", "good"]
    assert result.sentence().startswith("The objects contain 1 of 4 edits; what no longer fits")
    assert "split of object 1 at z" in result.sentence()
    np.testing.assert_array_equal(other[...], 1)


# -- memory ----------------------------------------------------------------------------------------


class Watched:
    """An array that notes how much is read of it at once."""

    def __init__(self, array):
        self.array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, 3
        self.chunks = (2, 8, 8)
        self.most = 0

    def __getitem__(self, key):
        values = self.array[key]
        self.most = max(self.most, values.size)
        return values


def test_an_object_that_spans_the_volume_is_read_in_blocks(monkeypatch):
    ids = np.zeros((16, 64, 64), np.uint32)
    ids[1:-1, 1:-1, 30:34] = ids[1:-1, 30:34, 1:-1] = 1
    ids[2:5, 2:6, 2:6] = 2
    objects = edited(ids)
    watched = objects.found = Watched(ids)
    objects.chunks = watched.chunks
    limit = 1000
    monkeypatch.setattr("napari_emda.objects.edited._BLOCK_VOXELS", limit)
    monkeypatch.setattr("napari_emda.objects.taught._BLOCK_VOXELS", limit)
    reference = objects.reference(1)
    assert (ids[tuple(reference.sampled.T)] == 1).all()
    deleted = np.zeros(ids.shape, np.uint8)
    for box, values in taught.of_deleted(objects, 1):
        deleted[box.slices] = values
    np.testing.assert_array_equal(deleted, ids == 1)
    assert watched.most <= limit
    good = np.zeros(ids.shape, np.uint8)
    for box, values in taught.of_good(objects, 1, 1, GRID, lambda box: ids[box.slices] > 0):
        good[box.slices] = values
    distance = ndimage.distance_transform_edt(ids != 1)
    np.testing.assert_array_equal(good == 2, ids == 1)
    np.testing.assert_array_equal(good == 1, (ids == 0) & (distance <= 4))
    # With a rim of five voxels around each block of 16 x 8 x 8 or the like.
    assert watched.most < ids.size / 4


def test_a_split_teaches_the_seam_and_what_is_beside_it():
    ids = np.zeros((6, 30, 40), np.uint32)
    ids[1:5, 5:25, 5:35] = 1
    objects = edited(ids)
    part = np.zeros(ids.shape, bool)
    part[1:5, 5:25, 25:35] = True
    number = objects.split(1, Part.of(part, (0, 0, 0)))
    for gap in (True, False):
        found = np.zeros(ids.shape, np.uint8)
        for box, values in taught.of_split(objects, (1, number), 1, GRID, gap=gap):
            found[box.slices] = values
        seam = np.zeros(ids.shape, bool)
        seam[1:5, 5:25, 24:26] = True
        near = ndimage.distance_transform_edt(~seam) <= 4
        np.testing.assert_array_equal(found == 2, (ids > 0) & near & ~seam)
        np.testing.assert_array_equal(found == 1, seam if gap else np.zeros_like(seam))

"""Borders of objects against brute force, and what labels tell of them for sure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial.distance import cdist

from napari_emda.data.box import Box
from napari_emda.data.label_meaning import LabelMeaning, ObjectNumbers
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.objects.borders import STEPS, Borders, numbers_objects

KEPT = 22


def volume_of(labels, ids=None, annotations=None, **values):
    return Volume(
        "v",
        np.zeros(labels.shape, np.uint8),
        "source",
        VoxelGrid((50, 8, 8)),
        labels=labels,
        ids=ids,
        annotations=annotations,
        **values,
    )


def codes_of(volume, *, connected=True, pixel_size=8):
    borders = Borders(Resampled(volume, pixel_size), numbers_objects(volume), connected=connected)
    return borders.whole()


def brute_force(objects):
    """Distance of each pixel of a section to the nearest one of another object; 0 in none."""
    pixels = np.argwhere(np.ones_like(objects, bool))
    values = objects.ravel()
    apart = np.where(values[:, None] != values, cdist(pixels, pixels), np.inf)
    return np.where(objects > 0, apart.min(1).reshape(objects.shape), 0)


SMALL = arrays(np.int64, (2, 7, 8), elements=st.sampled_from([0, 0, 1, 1, 1, 5, 2**32 - 1]))


@given(SMALL)
def test_numbered_objects_have_the_distance_to_any_other_object(ids):
    # Two objects at least, so that the numbers are no class.
    ids[0, 0, :2] = (1, 5)
    codes = codes_of(volume_of(ids, ids))
    for section, found in zip(ids, codes, strict=True):
        expected = np.minimum(brute_force(section), KEPT)
        np.testing.assert_array_equal(found, np.round(expected * STEPS))


@given(arrays(np.uint8, (3, 7, 8), elements=st.integers(0, 2)))
def test_of_classes_alone_objects_are_the_components_in_3d(labels):
    """Numbering them changes no distance, which is why nobody has to do it."""
    components = np.zeros(labels.shape, np.int64)
    for class_id in (1, 2):
        found, _ = ndimage.label(labels == class_id)
        components[found > 0] = found[found > 0] + components.max()
    codes = codes_of(volume_of(labels, classes=3))
    for section, found in zip(components, codes, strict=True):
        np.testing.assert_array_equal(
            found, np.round(np.minimum(brute_force(section), KEPT) * STEPS)
        )


@given(SMALL, st.randoms())
def test_what_is_sure_is_true_whatever_the_unlabelled_pixels_are(ids, random):
    ids[0, 0, :2] = (1, 5)
    seen = np.array([random.random() < 0.7 for _ in range(ids.size)]).reshape(ids.shape)
    # -1 is ignored.
    labels = np.where(seen, ids, -1)
    meaning = LabelMeaning(0, (-1,))
    numbers = ObjectNumbers(labels, meaning, 2, numbered=True)
    classes = np.where(seen, (ids > 0) + 1, 0)
    codes = codes_of(volume_of(classes, numbers, labels_zero="unannotated")) / STEPS
    assert not codes[~seen].any()
    if not numbers_objects(volume_of(classes, numbers)):
        return
    for section, found in zip(ids, codes, strict=True):
        truth = np.minimum(brute_force(section), KEPT)
        sure = found > 0
        np.testing.assert_allclose(found[sure], truth[sure], atol=0.5 / STEPS)
        assert (-found <= truth)[found < 0].all()


def test_behind_unlabelled_pixels_a_border_may_be_nearer():
    labels = np.zeros((1, 30, 30), np.uint8)
    labels[0, 5:25, 5:25] = 2
    labels[0, :5] = 1
    codes = codes_of(volume_of(labels, labels_zero="unannotated"))[0] / STEPS
    # The background above is known, below nobody looked.
    assert codes[6, 15] == 2
    assert codes[23, 15] == -2
    # To all sides it is at least as far as the nearest unlabelled pixel.
    assert codes[20, 15] == -5


def test_where_others_number_objects_classes_teach_only_the_border_to_the_background():
    labels = np.zeros((1, 20, 20), np.uint8)
    labels[0, 5:15, 5:15] = 1
    codes = codes_of(volume_of(labels), connected=False)[0]
    distance = brute_force(labels[0])
    np.testing.assert_array_equal(codes, np.where(distance <= 2, distance * STEPS, 0))


def test_annotations_say_nothing_of_objects_where_the_labels_number_them():
    ids = np.zeros((1, 20, 20), np.int64)
    ids[0, 2:18, 2:10] = 3
    ids[0, 2:18, 10:18] = 4
    annotations = np.zeros(ids.shape, np.uint8)
    annotations[0, 8:12, 4:7] = 2
    volume = volume_of(ids, ids, annotations)
    codes = codes_of(volume)[0] / STEPS
    assert not codes[8:12, 4:7].any()
    assert codes[3, 9] == 1
    # Two pixels from what is annotated, and three from the border.
    assert codes[10, 7] == -1


@pytest.mark.parametrize("pixel_size", [8, 11])
def test_any_box_holds_a_part_of_the_whole(noise, pixel_size):
    ids = noise.integers(0, 9, (2, 9, 11)).repeat(9, 1).repeat(8, 2)
    annotations = np.zeros(ids.shape, np.uint8)
    annotations[1, 20:40, 30:50] = 2
    volume = volume_of(ids, ids, annotations)
    view = Resampled(volume, pixel_size)
    borders = Borders(view, numbered=True, connected=False)
    whole = borders.whole()
    _, height, width = view.shape
    for _ in range(20):
        y, x = noise.integers(0, height - 12), noise.integers(0, width - 15)
        box = Box((1, y, x), (2, y + 12, x + 15))
        np.testing.assert_array_equal(borders.read(box), whole[box.slices])


def test_at_a_coarser_pixel_size_every_pixel_of_an_object_has_its_number():
    ids = np.zeros((1, 90, 90), np.int64)
    ids[0, 10:41, 10:80] = 7
    ids[0, 41:80, 10:80] = 8
    view = Resampled(volume_of(ids, ids), 8 * 3)
    codes = Borders(view, numbered=True, connected=False).whole()[0] / STEPS
    is_object = view.read_labels(Box.whole(view.shape))[0] > 0
    assert (codes[is_object] > 0).all()
    # Row 41 is in pixel 13, so that the objects meet between pixels 13 and 14.
    assert codes[12:16, 15].tolist() == [2, 1, 1, 2]


@pytest.mark.parametrize("number", [-3, 2**32])
def test_numbers_that_are_no_ids_are_refused_in_a_sentence(number):
    ids = np.ones((1, 4, 4), np.int64)
    ids[0, 0, 0] = number
    with pytest.raises(DataError, match=f"the object id {number}: renumber"):
        numbers_objects(volume_of(np.ones((1, 4, 4), np.uint8), ids))


def test_numbers_of_64_bits_are_refused_as_they_are():
    labels = np.ones((1, 4, 4), np.uint64)
    labels[0, 0, 0] = 2**64 - 1
    numbers = ObjectNumbers(labels, LabelMeaning(), 2, numbered=True)
    with pytest.raises(DataError, match=f"the object id {2**63 - 1}: renumber"):
        numbers_objects(volume_of(labels, numbers))


def test_a_single_number_is_a_class():
    labels = np.zeros((1, 4, 4), np.uint8)
    labels[0, 1:3, 1:3] = 255
    assert not numbers_objects(volume_of(labels, labels))
    labels[0, 3, 3] = 1
    assert numbers_objects(volume_of(labels, labels))

"""Boxes, labels and pixel sizes, against NumPy, SciPy and scikit-image."""

from __future__ import annotations

import itertools

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import downscale_local_mean

from napari_emda.data.box import Box
from napari_emda.data.resampled import Resampled, common_pixel_size
from napari_emda.data.volume import IGNORE, Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)


def volume(image, **values):
    return Volume("v", image, "source", VoxelGrid((50.0, 4.0, 4.0)), **values)


@st.composite
def boxes(draw, low=0, high=9):
    ends = [
        sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high)))) for _ in range(3)
    ]
    return Box(tuple(a for a, _ in ends), tuple(b + 1 for _, b in ends))


def voxels(box):
    """The set of a box's voxels, one by one."""
    return set(itertools.product(*(range(a, b) for a, b in zip(box.start, box.stop, strict=True))))


# -- boxes -----------------------------------------------------------------------------------------


@given(boxes())
def test_a_box_survives_text_and_bounds(box):
    assert Box.parse(str(box), (10, 10, 10)) == box
    assert Box.from_bounds(box.bounds) == box
    assert Box.from_bounds(list(box.bounds)) == box


@given(boxes(-3, 12), SHAPES)
def test_clipping_keeps_the_voxels_inside(box, shape):
    assert voxels(box.clip(shape)) == voxels(box) & voxels(Box.whole(shape))


@given(boxes(), boxes())
def test_boxes_overlap_if_they_share_a_voxel(box, other):
    assert box.overlaps(other) == other.overlaps(box) == bool(voxels(box) & voxels(other))


@given(boxes())
def test_size_shape_and_slices_agree_with_numpy(box):
    part = np.zeros((10, 10, 10))[box.slices]
    assert (box.shape, box.size) == (part.shape, part.size)


def test_missing_ends_of_a_box_are_those_of_the_volume():
    assert Box.parse("", (3, 4, 5)) == Box.whole((3, 4, 5))
    assert Box.parse(":,2:, :3", (3, 4, 5)) == Box((0, 2, 0), (3, 4, 3))


@pytest.mark.parametrize(
    "text", ["1:2", "0:1,0:1", "a:b,0:1,0:1", "0:1:2,0:1,0:1", "0,0,0", "0:1,0:1,0:1,0:1"]
)
def test_text_that_is_no_box_is_refused(text):
    with pytest.raises(DataError, match="is not a box: write"):
        Box.parse(text, (3, 4, 5))


@pytest.mark.parametrize(
    "text", ["0:4,0:1,0:1", "2:2,0:1,0:1", "2:1,0:1,0:1", "-1:2,0:1,0:1", "0:1,0:1,5:6"]
)
def test_a_box_outside_the_volume_is_refused_with_the_limit(text):
    with pytest.raises(DataError, match="choose one inside 0:3,0:4,0:5"):
        Box.parse(text, (3, 4, 5))


# -- reading ---------------------------------------------------------------------------------------

IMAGE = np.random.default_rng(0).integers(0, 60000, (4, 7, 9)).astype(np.uint16)
LABELS = np.random.default_rng(1).integers(0, 3, (4, 7, 9)).astype(np.uint8)


@st.composite
def boxes_touching(draw, shape, beyond):
    """Boxes that share a voxel with an array of this shape and reach beyond it."""
    start = [draw(st.integers(-beyond, n - 1)) for n in shape]
    stop = [draw(st.integers(max(a + 1, 1), n + beyond)) for a, n in zip(start, shape, strict=True)]
    return Box(tuple(start), tuple(stop))


@given(boxes_touching(IMAGE.shape, 12))
def test_reads_are_mirrored_outside(box):
    whole = np.pad(IMAGE, 12, mode="symmetric").astype(np.float32)
    expected = whole[tuple(slice(axis.start + 12, axis.stop + 12) for axis in box.slices)]
    read = volume(IMAGE).read(box)
    np.testing.assert_array_equal(read, expected)
    assert read.dtype == np.float32


@given(boxes_touching(LABELS.shape, 5))
def test_labels_are_ignore_outside(box):
    whole = np.pad(LABELS, 5, constant_values=IGNORE)
    read = volume(IMAGE, labels=LABELS, classes=3).read_labels(box)
    np.testing.assert_array_equal(
        read, whole[tuple(slice(s.start + 5, s.stop + 5) for s in box.slices)]
    )


def row(values):
    return np.array(values).reshape(1, 1, -1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [IGNORE, IGNORE, IGNORE, IGNORE]),
        ({"labels": row([0, 1, 2, 0]), "classes": 3}, [0, 1, 2, 0]),
        ({"labels": row([0, 1, 700, 0])}, [0, 1, 1, 0]),
        ({"labels": row([False, True, True, False])}, [0, 1, 1, 0]),
        ({"labels": row([0, 1, 2, 0]), "labels_zero": "unannotated"}, [IGNORE, 0, 1, IGNORE]),
        ({"annotations": row([0, 1, 2, 0])}, [IGNORE, 0, 1, IGNORE]),
        ({"labels": row([0, 1, 0, 1]), "annotations": row([0, 0, 2, 1])}, [0, 1, 1, 0]),
    ],
    ids=[
        "none",
        "classes",
        "objects",
        "bool",
        "zero is unannotated",
        "annotations",
        "annotations win",
    ],
)
def test_label_conventions(values, expected):
    labelled = volume(np.zeros((1, 1, 4)), **values)
    assert labelled.read_labels(Box.whole((1, 1, 4))).ravel().tolist() == expected
    assert labelled.class_ids[:, :, 1:].ravel().tolist() == expected[1:]


def test_without_labels_annotations_stay():
    labelled = volume(np.zeros((1, 1, 2)), labels=row([1, 1]), annotations=row([0, 1]))
    class_ids = labelled.without_labels().read_labels(Box.whole((1, 1, 2)))
    assert class_ids.ravel().tolist() == [IGNORE, 0]


@pytest.mark.parametrize("kind", ["memmap", "zarr", "dask"])
@pytest.mark.parametrize("pixel_size", [4, 8, 6])
def test_every_kind_of_array_reads_as_numpy_does(kind, pixel_size, tmp_path):
    def stored(array, name):
        if kind == "memmap":
            file = np.memmap(tmp_path / name, array.dtype, "w+", shape=array.shape)
            file[:] = array
            return file
        if kind == "zarr":
            return zarr.create_array(tmp_path / name, data=array, chunks=(1, 4, 4))
        return dask.array.from_array(array, chunks=(2, 3, 5))

    plain = Resampled(volume(IMAGE, labels=LABELS, annotations=LABELS, classes=3), pixel_size)
    other = volume(
        stored(IMAGE, "image"),
        labels=stored(LABELS, "labels"),
        annotations=stored(LABELS, "a"),
        classes=3,
    )
    other = Resampled(other, pixel_size)
    box = Box((1, -2, 1), (3, 3, 8))
    np.testing.assert_array_equal(other.read(box), plain.read(box))
    np.testing.assert_array_equal(other.read_labels(box), plain.read_labels(box))


# -- other pixel sizes -----------------------------------------------------------------------------

SECTION = np.random.default_rng(2).random((2, 24, 36)).astype(np.float32)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_an_integer_factor_equals_binning(factor):
    view = Resampled(volume(SECTION), 4.0 * factor)
    expected = downscale_local_mean(SECTION, (1, factor, factor))
    np.testing.assert_allclose(view.read(Box.whole(view.shape)), expected, atol=1e-6)


@pytest.mark.parametrize(("times", "group"), [(2, 3), (3, 4), (2, 5)])
def test_a_rational_factor_takes_the_mean_over_the_area_of_a_pixel(times, group):
    view = Resampled(volume(SECTION[:, :20, :30]), 4.0 * group / times)
    fine = SECTION[:, :20, :30].repeat(times, 1).repeat(times, 2)
    whole = tuple(n // group * group for n in fine.shape[1:])
    expected = downscale_local_mean(fine[:, : whole[0], : whole[1]], (1, group, group))
    read = view.read(Box.whole(view.shape))
    np.testing.assert_allclose(
        read[:, : expected.shape[1], : expected.shape[2]], expected, atol=1e-6
    )


@pytest.mark.parametrize("factor", [2, 3, 1.7])
def test_enlarging_interpolates_linearly_between_pixel_centres(factor):
    view = Resampled(volume(SECTION), 4.0 / factor)
    axes = [(np.arange(n) + 0.5) / factor - 0.5 for n in view.shape[1:]]
    for z, section in enumerate(SECTION):
        expected = ndimage.map_coordinates(
            section, np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest"
        )
        np.testing.assert_allclose(view.read(Box.whole(view.shape))[z], expected, atol=1e-5)


@given(
    pixel_size=st.floats(1.1, 23),
    sides=st.tuples(st.integers(3, 24), st.integers(3, 36)),
    ends=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_a_block_equals_the_crop_of_the_whole(pixel_size, sides, ends):
    image = SECTION[:, : sides[0], : sides[1]]
    view = Resampled(volume(image, labels=image > 0.7), pixel_size)
    whole = Box.whole(view.shape)
    y0, y1 = sorted(int(end * (view.shape[1] - 1)) for end in ends[:2])
    x0, x1 = sorted(int(end * (view.shape[2] - 1)) for end in ends[2:])
    box = Box((0, y0, x0), (2, y1 + 1, x1 + 1))
    np.testing.assert_allclose(view.read(box), view.read(whole)[box.slices], atol=1e-5)
    np.testing.assert_array_equal(view.read_labels(box), view.read_labels(whole)[box.slices])


@given(pixel_size=st.floats(0.5, 50), rows=st.integers(1, 40), columns=st.integers(1, 40))
def test_constants_stay_constant_and_the_size_fits(pixel_size, rows, columns):
    view = Resampled(volume(np.full((1, rows, columns), 117.0)), pixel_size)
    np.testing.assert_allclose(view.read(Box.whole(view.shape)), 117.0, rtol=1e-5)
    for pixels, n in zip(view.shape[1:], (rows, columns), strict=True):
        # The pixel size may be off by a tenth, so that its ratio to the voxel size is whole.
        assert pixels == 1 or (pixels - 1) * pixel_size < n * 4.0 * 1.112
        assert pixels * pixel_size > n * 4.0 * 0.899


def test_rounded_voxel_sizes_still_bin_by_an_integer():
    view = Resampled(Volume("v", SECTION, "source", VoxelGrid((50.0, 4.6, 4.6000001))), 18.4)
    assert view.scale == (0.25, 0.25)


@pytest.mark.parametrize(
    ("voxel", "scale"), [(18.4, 1), (4.6, 0.25), (21.9, 1), (41.0, 2), (14.0, 0.7), (28.0, 1.4)]
)
def test_pixel_sizes_that_are_nearly_multiples_count_as_multiples(voxel, scale):
    view = Resampled(Volume("v", SECTION, "target", VoxelGrid((50.0, voxel, voxel))), 20)
    assert view.scale == pytest.approx((scale, scale))


@pytest.mark.parametrize("factor", [2, 3])
def test_a_label_is_the_class_that_covers_most(factor):
    labels = np.random.default_rng(3).integers(0, 3, (2, 12, 18)).astype(np.uint8)
    view = Resampled(volume(np.zeros(labels.shape), labels=labels, classes=3), 4.0 * factor)
    read = view.read_labels(Box.whole(view.shape))
    checked = 0
    for z, y, x in np.ndindex(*view.shape):
        block = labels[z, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        first, second = np.sort(np.bincount(block.ravel(), minlength=3))[:-3:-1]
        if first > second:
            assert read[z, y, x] == np.bincount(block.ravel()).argmax()
            checked += 1
    assert checked > 20


def test_a_pixel_mostly_not_annotated_is_ignored():
    labels = np.zeros((1, 4, 4), np.uint8)
    labels[0, 0, 0] = labels[0, 2:, 2:] = 2
    view = Resampled(volume(np.zeros(labels.shape), annotations=labels), 8.0)
    assert view.read_labels(Box.whole(view.shape)).tolist() == [[[IGNORE, IGNORE], [IGNORE, 1]]]


@pytest.mark.parametrize("pixel_size", [4.0, 8.0])
def test_a_volume_in_memory_reads_the_same(pixel_size):
    lazy = Resampled(volume(IMAGE, labels=LABELS, classes=3), pixel_size)
    in_memory = lazy.in_memory(10**6)
    too_large = lazy.in_memory(10)
    box = Box((0, -3, 1), (3, 2, 6))
    assert in_memory.held is not None
    assert too_large.held is None
    np.testing.assert_array_equal(in_memory.read(box), lazy.read(box))
    np.testing.assert_array_equal(in_memory.read_labels(box), lazy.read_labels(box))


@given(boxes(0, 23), st.sampled_from([4.0, 8.0, 12.0]))
def test_a_box_of_voxels_becomes_the_pixels_it_covers(box, pixel_size):
    view = Resampled(volume(np.zeros((24, 24, 24))), pixel_size)
    pixels = view.box_of(box)
    for axis in (1, 2):
        start = pixels.start[axis]
        stop = pixels.stop[axis]
        assert 0 <= start < stop <= 24 * 4 / pixel_size
        assert abs(start * pixel_size - box.start[axis] * 4) <= pixel_size
        assert abs(stop * pixel_size - box.stop[axis] * 4) <= pixel_size


def test_the_common_pixel_size_is_the_coarsest():
    volumes = [
        Volume("v", SECTION, "source", VoxelGrid(spacing))
        for spacing in ((50, 4, 4), (30, 9, 8), (100, 5, 5))
    ]
    assert common_pixel_size(volumes) == 8


# -- numbers of objects ----------------------------------------------------------------------------


@given(boxes(-3, 12))
def test_numbers_of_objects_are_read_beside_the_classes(box):
    ids = np.random.default_rng(0).integers(0, 2**32, (9, 8, 7))
    annotations = np.random.default_rng(1).integers(0, 3, ids.shape).astype(np.uint8)
    v = volume(ids, labels=ids, ids=ids, annotations=annotations)
    expected = np.where(annotations > 0, 0, ids)
    index = np.indices(box.shape).T + box.start
    inside = ((index >= 0) & (index < ids.shape)).all(-1).T
    assume(inside.any())
    found = v.read_ids(box)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found[inside], expected[box.clip(ids.shape).slices].ravel())
    assert not found[~inside].any()
    assert not v.without_labels().read_ids(box).any()


@pytest.mark.parametrize("pixel_size", [4, 6, 12])
def test_at_another_pixel_size_numbers_are_those_of_the_voxels_at_the_centres(pixel_size, noise):
    ids = noise.integers(0, 2**32, (2, 30, 40))
    view = Resampled(volume(ids, labels=ids, ids=ids), pixel_size)
    found = view.read_ids(Box.whole(view.shape))
    for z, y, x in np.ndindex(*view.shape):
        row, column = (int((i + 0.5) * pixel_size / 4) for i in (y, x))
        assert found[z, y, x] == ids[z, min(row, 29), min(column, 39)]
    box = Box((1, 2, 3), (2, 9, 10))
    np.testing.assert_array_equal(view.read_ids(box), found[box.slices])

"""Outlines of objects, drawn where they are sliced."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2hsv
from skimage.measure import label
from skimage.segmentation import find_boundaries

from napari_emda._gui.objects.layers import Marked, ObjectsOnView, colours_of_all, outlines
from napari_emda.objects.edited import EditedObjects, Extents


def sections():
    rng = np.random.default_rng(0)
    mask = ndimage.gaussian_filter(rng.random((3, 40, 50)), (0, 2, 2)) > 0.5
    return label(mask, connectivity=1).astype(np.uint32)


def test_thin_outlines_are_the_inner_boundaries():
    ids = sections()
    expected = np.stack(
        [
            # What lies beyond the section is not another object.
            find_boundaries(section, connectivity=1, mode="inner")
            for section in ids
        ]
    )
    np.testing.assert_array_equal(outlines(ids, 1), expected)


@pytest.mark.parametrize("width", [2, 4])
def test_wide_outlines_lie_in_their_objects_and_near_their_borders(width):
    ids = sections()
    found = outlines(ids, width)
    assert not found[ids == 0].any()
    assert (found | ~outlines(ids, 1)).all()
    border = outlines(ids, 1) | (ids == 0)
    near = np.stack([ndimage.distance_transform_cdt(~b, "taxicab") for b in border]) < width
    assert near[found].all()


def test_layers_follow_the_objects_and_fill_them_in_3d():
    ids = sections()
    numbers = np.arange(1, ids.max() + 1)
    found = ndimage.find_objects(ids.astype(int))
    low, high = (
        np.array([[getattr(part, end) for part in place] for place in found])
        for end in ("start", "stop")
    )
    extents = Extents.of(numbers, np.bincount(ids.ravel())[1:], low, high)
    objects = EditedObjects(ids, extents)
    view = ObjectsOnView(objects, 1)
    marked = Marked(view, 1)
    np.testing.assert_array_equal(view[1], np.where(outlines(ids, 1)[1], ids[1], 0))
    np.testing.assert_array_equal(view[...], ids)
    biggest = int(np.bincount(ids.ravel())[1:].argmax()) + 1
    marked.ids = (biggest,)
    np.testing.assert_array_equal(marked[...] == 1, ids == biggest)
    z = int(np.argwhere(ids == biggest)[0, 0])
    assert 0 < (marked[z] == 1).sum() <= (ids[z] == biggest).sum()
    objects.delete(biggest)
    view.forget()
    assert not (view[...] == biggest).any()


def test_no_object_looks_like_the_one_on_view_or_is_too_dark_to_be_seen():
    hsv = rgb2hsv(colours_of_all().map(np.arange(1, 2000))[:, :3])
    assert (hsv[:, 2] > 0.55).all()
    strong = hsv[(hsv[:, 1] > 0.85) & (hsv[:, 2] > 0.85)]
    assert len(strong) > 20
    # Yellow is at 50 degrees, magenta at 315.
    for hue in (50 / 360, 315 / 360):
        assert np.abs(strong[:, 0] - hue).min() > 10 / 360
    assert not colours_of_all().map(np.array([0])).any()
    neighbours = colours_of_all().map(np.arange(1, 2000))
    assert (neighbours[1:] != neighbours[:-1]).any(axis=1).all()

"""Labels that lie elsewhere than their image land where they are seen, or are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_emda.data.box import Box
from napari_emda.data.placement import Placement, placed
from napari_emda.errors import DataError

IMAGE = Placement((50, 8, 8), (100, 40, -16))
SHAPE = (4, 12, 10)
LABELS = np.random.default_rng(0).integers(1, 200, (4, 12, 10)).astype(np.uint8)


def on_image(labels, scale, translate):
    return placed("l", labels, Placement(scale, translate), SHAPE, IMAGE)


def test_labels_on_the_voxels_of_the_image_stay_as_they_are():
    assert on_image(LABELS, IMAGE.scale, IMAGE.translate) is None
    # As napari stores them after a change of units.
    assert on_image(LABELS, (50, 8.0000003, 8), (100, 40.01, -16)) is None


@given(st.tuples(*[st.integers(1 - n, n - 1) for n in SHAPE]))
def test_moved_labels_land_where_they_are_seen(shift):
    translate = tuple(
        t + s * d for t, s, d in zip(IMAGE.translate, IMAGE.scale, shift, strict=True)
    )
    found = on_image(LABELS, IMAGE.scale, translate)
    if shift == (0, 0, 0):
        assert found is None
        return
    expected = np.zeros(SHAPE, np.uint8)
    to = tuple(slice(max(0, d), min(n, n + d)) for d, n in zip(shift, SHAPE, strict=True))
    taken = tuple(slice(max(0, -d), min(n, n - d)) for d, n in zip(shift, SHAPE, strict=True))
    expected[to] = LABELS[taken]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found[1:3, 2:9, ::3], expected[1:3, 2:9, ::3])
    assert found.covered == Box(tuple(part.start for part in to), tuple(part.stop for part in to))


@pytest.mark.parametrize("by_edges", [True, False])
@pytest.mark.parametrize("factor", [2, 4])
def test_coarser_labels_are_repeated(factor, by_edges):
    coarse = LABELS[:, :3, :3]
    # By its edges the first coarse voxel covers the first fine ones; its centre lies between them.
    offset = (factor - 1) / 2 * 8 if by_edges else 0
    found = on_image(coarse, (50, 8 * factor, 8 * factor), (100, 40 + offset, -16 + offset))
    expected = coarse.repeat(factor, 1).repeat(factor, 2)[:, :12, :10]
    box = found.covered
    assert box.shape == (4, min(12, 3 * factor), min(10, 3 * factor))
    np.testing.assert_array_equal(np.asarray(found)[box.slices], expected)


@pytest.mark.parametrize("by_edges", [True, False])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_of_finer_labels_the_middle_one_counts(factor, by_edges):
    fine = np.random.default_rng(1).integers(1, 200, (4, 12 * factor, 10 * factor))
    offset = -(factor - 1) / 2 * 8 / factor if by_edges else 0
    found = on_image(fine, (50, 8 / factor, 8 / factor), (100, 40 + offset, -16 + offset))
    first = factor // 2 if by_edges else 0
    np.testing.assert_array_equal(found, fine[:, first::factor, first::factor])


@pytest.mark.parametrize(
    ("scale", "translate", "problem"),
    [
        ((50, -8, 8), (100, 128, -16), "are flipped along y"),
        ((50, 8, 12), IMAGE.translate, "have voxels of 1.5 times the size along x"),
        ((50, 8, 8.2), IMAGE.translate, "have voxels of 1.025 times the size along x"),
        ((50, 8, 8), (100, 44, -16), "lie 0.5 voxels beside its voxels along y"),
        ((50, 16, 16), (100, 42, -16), "lie 0.25 voxels beside its voxels along y"),
        ((50, 4, 4), (100, 41, -16), "lie 0.12 voxels beside its voxels along y"),
        ((50, 8, 8), (400, 40, -16), "lie outside it along z"),
    ],
)
def test_what_would_divide_voxels_is_refused(scale, translate, problem):
    with pytest.raises(DataError, match=f"they {problem}: move them") as error:
        on_image(LABELS, scale, translate)
    assert str(error.value).startswith("The labels 'l'")

"""Shapes against scikit-image on whole arrays and against closed forms."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.draw import disk
from skimage.measure import regionprops

from napari_emda.morphology import solidity, surface


def ball(radius: float) -> np.ndarray:
    n = math.ceil(radius)
    grid = np.mgrid[-n : n + 1, -n : n + 1, -n : n + 1]
    return (grid**2).sum(0) <= radius**2


def thick(mask: np.ndarray) -> bool:
    """Whether scikit-image can take the hull: voxels in four points that are not in one plane."""
    points = np.argwhere(mask)
    return len(points) > 3 and np.linalg.matrix_rank(points - points[0]) == 3


@settings(max_examples=150, deadline=None)
@given(arrays(np.bool_, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7), fill=st.just(False)))
def test_solidity_is_that_of_scikit_image(mask):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = solidity(mask)
    if thick(mask):
        assert value == pytest.approx(regionprops(mask.astype(np.uint8))[0].solidity)
    else:
        assert 0 <= value <= 1


def test_solidity_of_large_objects_is_that_of_scikit_image():
    random = np.random.default_rng(0)
    for _ in range(5):
        mask = np.zeros((30, 40, 50), bool)
        for centre in random.integers(8, 22, (4, 3)):
            mask |= ((np.moveaxis(np.indices(mask.shape), 0, -1) - centre) ** 2).sum(-1) < random.integers(9, 64)
        assert solidity(mask) == pytest.approx(regionprops(mask.astype(np.uint8))[0].solidity)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_section_has_the_solidity_of_its_plane(axis):
    plane = np.zeros((40, 40), bool)
    plane[disk((20, 20), 15)] = True
    plane[disk((20, 20), 7)] = False
    expected = regionprops(plane.astype(np.uint8))[0].solidity
    assert solidity(np.expand_dims(plane, axis)) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (7, 1, 1), (1, 5, 5), (3, 4, 5)])
def test_boxes_and_lines_are_solid(shape):
    assert solidity(np.ones(shape, bool)) == 1


def test_an_empty_mask_has_no_solidity():
    assert solidity(np.zeros((2, 3, 4), bool)) == 0


def test_a_box_has_its_surface():
    """Marching cubes rounds the edges off: the deviation is that of the edges, and shrinks as the box grows."""
    z, y, x = np.array((40, 60, 80)) * (50, 4.6, 4.6)
    expected = 2 * (z * y + y * x + z * x)
    assert surface(np.ones((40, 60, 80), bool), (50, 4.6, 4.6)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("radius", [5, 10, 20])
def test_a_ball_has_its_surface_but_for_the_steps(radius):
    assert surface(ball(radius), (2, 2, 2)) == pytest.approx(4 * math.pi * (2 * radius) ** 2, rel=0.1)


def test_a_section_has_two_faces_and_a_rim():
    sheet = np.ones((1, 100, 100), bool)
    assert surface(sheet, (50, 4, 4)) == pytest.approx(2 * 400**2 + 4 * 400 * 50, rel=0.02)


def test_one_voxel_has_the_surface_of_an_octahedron():
    """Half a voxel to each side: eight triangles of side sqrt(1/2)."""
    assert surface(np.ones((1, 1, 1), bool), (1, 1, 1)) == pytest.approx(8 * math.sqrt(3) / 4 / 2)

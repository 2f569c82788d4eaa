"""Shapes against scikit-image on whole arrays and against closed forms."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.draw import disk
from skimage.measure import label, regionprops
from sklearn.metrics import jaccard_score

from napari_emda.data.volume import IGNORE
from napari_emda.evaluation.label_free import (
    Prior,
    disagreement,
    label_free_score,
    objects_in,
    solidity_gap,
    uncertainty,
)
from napari_emda.io.read import open_labels
from napari_emda.objects.shape import solidity, surface_within

REAL = Path(__file__).parents[3] / "shared" / "data"


def ball(radius: float) -> np.ndarray:
    n = math.ceil(radius)
    grid = np.mgrid[-n : n + 1, -n : n + 1, -n : n + 1]
    return (grid**2).sum(0) <= radius**2


def thick(mask: np.ndarray) -> bool:
    """Whether scikit-image can take the hull: voxels in four points that are not in one plane."""
    points = np.argwhere(mask)
    return len(points) > 3 and np.linalg.matrix_rank(points - points[0]) == 3


@settings(max_examples=150, deadline=None)
@given(
    arrays(
        np.bool_, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7), fill=st.just(False)
    )
)
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
            mask |= ((np.moveaxis(np.indices(mask.shape), 0, -1) - centre) ** 2).sum(
                -1
            ) < random.integers(9, 64)
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


def surface(mask, spacing):
    """Area of the closed surface of an object."""
    return surface_within(np.pad(mask, 1), spacing)


def test_a_box_has_its_surface():
    """Marching cubes rounds edges off: the deviation shrinks as the box grows."""
    z, y, x = np.array((40, 60, 80)) * (50, 4.6, 4.6)
    expected = 2 * (z * y + y * x + z * x)
    assert surface(np.ones((40, 60, 80), bool), (50, 4.6, 4.6)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("radius", [5, 10, 20])
def test_a_ball_has_its_surface_but_for_the_steps(radius):
    assert surface(ball(radius), (2, 2, 2)) == pytest.approx(
        4 * math.pi * (2 * radius) ** 2, rel=0.1
    )


def test_a_section_has_two_faces_and_a_rim():
    sheet = np.ones((1, 100, 100), bool)
    assert surface(sheet, (50, 4, 4)) == pytest.approx(2 * 400**2 + 4 * 400 * 50, rel=0.02)


def test_one_voxel_has_the_surface_of_an_octahedron():
    """Half a voxel to each side: eight triangles of side sqrt(1/2)."""
    assert surface(np.ones((1, 1, 1), bool), (1, 1, 1)) == pytest.approx(8 * math.sqrt(3) / 4 / 2)


# -- the objects of a class ------------------------------------------------------------------------


def plane(radius: float, hole: float = 0, side: int = 100) -> np.ndarray:
    """A disc, perhaps with a hole, as class ids."""
    section = np.zeros((side, side), np.uint8)
    section[disk((side // 2, side // 2), radius)] = 1
    if hole:
        section[disk((side // 2, side // 2), hole)] = 0
    return section


def shape(name: str) -> np.ndarray:
    section = np.zeros((100, 100), np.uint8)
    if name == "square":
        section[20:60, 20:60] = 1
    elif name == "line":
        section[50, 10:90] = 1
    elif name == "L":
        section[20:60, 20:60] = 1
        section[20:40, 40:60] = 0
    return section


@pytest.mark.parametrize(
    ("section", "expected", "tolerance"),
    [
        (plane(10), 0.978, 5e-3),
        (plane(20), 0.982, 5e-3),
        (plane(40), 0.985, 5e-3),
        (shape("square"), 1.0, 1e-9),
        (shape("line"), 1.0, 1e-9),
        (shape("L"), 0.8633, 1e-3),
        (plane(30, 15), 0.7326, 2e-2),
    ],
    ids=["disc 10", "disc 20", "disc 40", "square", "line", "L", "annulus"],
)
def test_solidity_of_plane_shapes(section, expected, tolerance):
    """Discrete values, which depend on how a circle is drawn.

    The continuous shapes have 1 (disc), 6/7 (L) and 3/4 (annulus).
    """
    found = objects_in([section])
    assert found.solidity() == pytest.approx(expected, abs=tolerance)
    assert found.solidity() == pytest.approx(regionprops(section)[0].solidity)
    assert found.weighted_solidity() == pytest.approx(found.solidity())


def test_without_objects_all_is_defined_and_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sections in ([], [np.zeros((9, 9), np.uint8)]):
            found = objects_in(sections)
            assert (found.solidity(), found.weighted_solidity(), found.fraction) == (0, 0, 0)
            assert Prior.of(found) is None
        prior = Prior.of(objects_in([plane(20)]))
        assert solidity_gap(found, prior) == prior.solidity
        assert math.isfinite(label_free_score(found, prior, 1, 1))


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.uint8, (3, 24, 24), elements=st.sampled_from([0, 0, 1, 1, 1, 2, IGNORE])),
    st.sampled_from([1, 2]),
)
def test_objects_are_those_of_scikit_image_section_by_section(sections, k):
    found = objects_in(sections, k)
    regions = [
        r for s in sections for r in regionprops(label(s == k, connectivity=2)) if r.area > 10
    ]
    assert sorted(found.areas) == sorted(r.area for r in regions)
    assert found.pixels == np.count_nonzero(sections != IGNORE)
    assert found.foreground == np.count_nonzero(sections == k)
    if any(r.area > 3 for r in regions):
        assert found.solidity() == pytest.approx(np.mean([r.solidity for r in regions]))
        assert found.weighted_solidity() == pytest.approx(
            np.average([r.solidity for r in regions], weights=[r.area for r in regions])
        )
    backwards = objects_in(sections[::-1], k)
    assert backwards.solidity() == pytest.approx(found.solidity())


def test_pixels_that_share_a_corner_are_one_object():
    section = np.zeros((20, 20), np.uint8)
    section[2:8, 2:8] = section[8:14, 8:14] = 1
    found = objects_in([section])
    assert list(found.areas) == [72]
    assert found.solidity() == pytest.approx(regionprops(section)[0].solidity)


def test_of_very_many_objects_an_even_sample_is_measured():
    section = np.zeros((200, 300), np.uint8)
    for y in range(0, 198, 5):
        for x in range(0, 298, 5):
            section[y : y + 4, x : x + 4] = 1
    found = objects_in([section])
    assert len(found.areas) == 1000 and found.solidity() == 1
    assert found.fraction == np.mean(section)


def test_the_prior_tells_size_and_spread():
    sections = [plane(20), plane(10), plane(4)]
    prior = Prior.of(objects_in(sections))
    objects = [regionprops(s)[0] for s in sections]
    assert prior.spread == pytest.approx(np.std([r.solidity for r in objects]))
    assert prior.fraction == pytest.approx(np.mean(sections))
    assert prior.least == max(10, math.floor(np.percentile([r.area for r in objects], 1) / 4))


@pytest.mark.skipif(
    not (REAL / "vnc").is_dir(), reason="the real volumes (../shared/data) are not on this machine"
)
def test_mitochondria_of_the_nerve_cord_are_nearly_convex():
    masks = np.asarray(open_labels(REAL / "vnc" / "mitochondria.tif").array) > 0
    found = objects_in(masks.astype(np.uint8))
    assert len(found.areas) == 389
    assert found.solidity() == pytest.approx(0.971, abs=0.003)
    assert found.weighted_solidity() == pytest.approx(0.967, abs=0.003)
    assert found.fraction == pytest.approx(0.0539, abs=2e-4)


# -- scores without labels -------------------------------------------------------------------------


def test_what_looks_like_the_source_scores_best():
    source = [plane(12), plane(15), plane(10, 3)]
    prior = Prior.of(objects_in(source))
    assert label_free_score(objects_in(source), prior, 0, 0) == pytest.approx(0)
    ragged = [s * (np.random.default_rng(0).random(s.shape) < 0.8) for s in source]
    few = [source[0], 0 * source[1], 0 * source[2]]
    large = [np.kron(s[25:75, 25:75], np.ones((2, 2), np.uint8)) for s in source]
    for other in (ragged, few, large):
        found = objects_in([np.asarray(s, np.uint8) for s in other])
        assert label_free_score(found, prior, 0, 0) > 0.05


def test_the_terms_of_the_scores_have_their_weights():
    """Half as much foreground of the same shape is one octave."""
    prior = Prior.of(objects_in([plane(20)]))
    half = objects_in([plane(20), 0 * plane(20)])
    assert label_free_score(half, prior, 0, 0) == pytest.approx(0.25, abs=1e-3)
    assert label_free_score(half, prior, 0.3, 0.2) - label_free_score(
        half, prior, 0, 0
    ) == pytest.approx(0.5)
    annulus, disc = objects_in([plane(30, 15)]), objects_in([plane(20)])
    gap = disc.solidity() - annulus.solidity()
    amount = abs(math.log2((annulus.fraction + 1e-4) / (disc.fraction + 1e-4)))
    assert label_free_score(annulus, prior, 0, 0) == pytest.approx(gap / 0.02 / 16 + amount / 4)


def test_disagreement_is_one_minus_the_jaccard_score():
    random = np.random.default_rng(0)
    a, b = random.random((2, 50)) < 0.4
    assert disagreement(a, b) == pytest.approx(1 - jaccard_score(a, b))
    assert disagreement(a, a) == 0
    assert disagreement(0 * a > 0, 0 * a > 0) == 1


def test_uncertainty_is_one_minus_the_expected_iou():
    """Against drawing the truth from the probabilities many times."""
    random = np.random.default_rng(0)
    p = random.random(2000) ** 3
    mask = p >= 0.5
    truths = random.random((400, 2000)) < p
    expected = np.mean([jaccard_score(truth, mask) for truth in truths])
    assert uncertainty(p, mask) == pytest.approx(1 - expected, abs=0.005)
    assert uncertainty(mask.astype(float), mask) == 0
    assert uncertainty(p, p > 2) == 1

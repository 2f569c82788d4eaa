"""Turning, scaling and blurring against SciPy, and against kornia where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_emda.sampling.warping import blurred, sampled, similarity_grid

SIDES = [(40, 40), (33, 52)]


def images(size, n=4):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, 1, *size)).astype(np.float32))


def parameters(n=4):
    scale = torch.tensor([1.0, 0.8, 1.3, 1.0])[:n]
    return scale, torch.tensor([0.0, 0.3, -0.7, 1.4])[:n]


def by_scipy(image, scale, angle, **options):
    """Sampled at the inverse of x -> scale * R(angle) (x - centre) + centre, in (row, column) order."""
    forward = scale * np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )  # rows and columns swapped
    inverse = np.linalg.inv(forward)
    centre = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, inverse, centre - inverse @ centre, **options)


@pytest.mark.parametrize("size", SIDES)
def test_patches_are_turned_and_scaled_about_their_centre(size):
    given = images(size)
    scale, angle = parameters()
    grid = similarity_grid(scale, angle, size)
    mirrored = sampled(given, grid, padding="reflection")
    bordered = sampled(given, grid)
    inside = sampled(torch.ones_like(given), grid) > 1 - 1e-3
    for i in range(len(given)):
        image = given[i, 0].double().numpy()
        turn = (float(scale[i]), float(angle[i]))
        expected = by_scipy(image, *turn, order=1, mode="mirror")
        np.testing.assert_allclose(mirrored[i, 0], expected, atol=2e-4)
        whole = inside[i, 0].numpy()
        np.testing.assert_allclose(bordered[i, 0].numpy()[whole], expected[whole], atol=2e-4)
    assert torch.allclose(mirrored[0], given[0], atol=1e-4)


def test_places_are_exact_in_mixed_precision():
    scale, angle = parameters()
    grid = similarity_grid(scale, angle, (40, 40))
    given = images((40, 40))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(similarity_grid(scale, angle, (40, 40)), grid)
        half = sampled(given.bfloat16(), grid)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, sampled(given.bfloat16().float(), grid).bfloat16())


@pytest.mark.parametrize("size", SIDES)
def test_class_ids_go_where_the_image_goes(size):
    ids = torch.from_numpy(np.random.default_rng(1).integers(1, 4, (4, 1, *size))).float()
    scale, angle = parameters()
    moved = sampled(ids, similarity_grid(scale, angle, size), mode="nearest")
    for i in range(len(ids)):
        expected = by_scipy(
            ids[i, 0].numpy(), float(scale[i]), float(angle[i]), order=0, mode="grid-constant"
        )
        assert (
            moved[i, 0].numpy() != expected
        ).mean() < 0.01  # half-way between two, or at the edge


@pytest.mark.parametrize("radius", [2, 3])
@pytest.mark.parametrize("size", SIDES)
def test_each_patch_is_blurred_by_its_own_width(radius, size):
    given = images(size)
    sigma = torch.tensor([0.01, 0.5, 1.0, 1.5])
    ours = blurred(given, sigma, radius)
    for image, width, result in zip(
        given[:, 0].double().numpy(), sigma.tolist(), ours, strict=True
    ):
        expected = ndimage.gaussian_filter(image, width, mode="mirror", radius=radius)
        np.testing.assert_allclose(result[0], expected, atol=1e-5)
    assert torch.equal(ours[0], given[0])


@pytest.mark.parametrize("size", SIDES)
def test_kornia_does_the_same(size):
    kornia = pytest.importorskip("kornia")
    given, ids = (
        images(size),
        torch.from_numpy(np.random.default_rng(1).integers(1, 9, (4, 1, *size))).float(),
    )
    scale, angle = parameters()
    cy, cx = (size[0] - 1) / 2, (size[1] - 1) / 2
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack(
        [
            torch.stack([cos, -sin, cx - cos * cx + sin * cy], 1),
            torch.stack([sin, cos, cy - sin * cx - cos * cy], 1),
        ],
        1,
    )
    grid = similarity_grid(scale, angle, size)
    for padding in ("zeros", "reflection"):
        expected = kornia.geometry.transform.warp_affine(
            given, matrix, size, mode="bilinear", padding_mode=padding, align_corners=True
        )
        torch.testing.assert_close(
            sampled(given, grid, padding=padding), expected, rtol=0, atol=2e-4
        )
    expected = kornia.geometry.transform.warp_affine(
        ids, matrix, size, mode="nearest", align_corners=True
    )
    assert (sampled(ids, grid, mode="nearest") != expected).float().mean() < 0.01
    sigma = torch.tensor([0.01, 0.5, 1.0, 1.5])
    torch.testing.assert_close(
        blurred(given, sigma, 3),
        kornia.filters.gaussian_blur2d(given, (7, 7), sigma.view(-1, 1).expand(-1, 2)),
        rtol=0,
        atol=1e-5,
    )

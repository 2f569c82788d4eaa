"""Rotating, scaling and blurring against SciPy, and against kornia where it is installed."""

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
    """Scales and angles, the first of which are the identity."""
    scale = torch.tensor([1.0, 0.8, 1.3, 1.0])[:n]
    angle = torch.tensor([0.0, 0.3, -0.7, 1.4])[:n]
    return scale, angle


def by_scipy(image, scale, angle, **options):
    """Sampled at the inverse of x -> scale * R(angle) (x - centre) + centre."""
    # Transposed, because SciPy's coordinates are (row, column).
    forward = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(forward)
    centre = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(image, inverse, centre - inverse @ centre, **options)


@pytest.mark.parametrize("size", SIDES)
def test_patches_are_rotated_and_scaled_about_their_centre(size):
    image = images(size)
    scale, angle = parameters()
    grid = similarity_grid(scale, angle, size)
    with_reflection = sampled(image, grid, padding="reflection")
    with_zeros = sampled(image, grid)
    inside = sampled(torch.ones_like(image), grid) > 1 - 1e-3
    for i in range(len(image)):
        patch = image[i, 0].double().numpy()
        expected = by_scipy(patch, float(scale[i]), float(angle[i]), order=1, mode="mirror")
        np.testing.assert_allclose(with_reflection[i, 0], expected, atol=2e-4)
        mask = inside[i, 0].numpy()
        np.testing.assert_allclose(with_zeros[i, 0].numpy()[mask], expected[mask], atol=2e-4)
    assert torch.allclose(with_reflection[0], image[0], atol=1e-4)


def test_positions_are_exact_in_mixed_precision():
    scale, angle = parameters()
    grid = similarity_grid(scale, angle, (40, 40))
    image = images((40, 40)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(similarity_grid(scale, angle, (40, 40)), grid)
        result = sampled(image, grid)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result, sampled(image.float(), grid).bfloat16())


@pytest.mark.parametrize("size", SIDES)
def test_class_ids_are_transformed_like_the_image(size):
    ids = torch.from_numpy(np.random.default_rng(1).integers(1, 4, (4, 1, *size))).float()
    scale, angle = parameters()
    moved = sampled(ids, similarity_grid(scale, angle, size), mode="nearest")
    for i in range(len(ids)):
        expected = by_scipy(
            ids[i, 0].numpy(), float(scale[i]), float(angle[i]), order=0, mode="grid-constant"
        )
        # Pixels half-way between two, or at the edge, may differ.
        assert (moved[i, 0].numpy() != expected).mean() < 0.01


@pytest.mark.parametrize("radius", [2, 3])
@pytest.mark.parametrize("size", SIDES)
def test_each_patch_is_blurred_by_its_own_width(radius, size):
    image = images(size)
    sigma = torch.tensor([0.01, 0.5, 1.0, 1.5])
    results = blurred(image, sigma, radius)
    patches = image[:, 0].double().numpy()
    for patch, width, result in zip(patches, sigma.tolist(), results, strict=True):
        expected = ndimage.gaussian_filter(patch, width, mode="mirror", radius=radius)
        np.testing.assert_allclose(result[0], expected, atol=1e-5)
    assert torch.equal(results[0], image[0])


@pytest.mark.parametrize("size", SIDES)
def test_kornia_does_the_same(size):
    kornia = pytest.importorskip("kornia")
    image = images(size)
    ids = torch.from_numpy(np.random.default_rng(1).integers(1, 9, (4, 1, *size))).float()
    scale, angle = parameters()
    cy = (size[0] - 1) / 2
    cx = (size[1] - 1) / 2
    cos = scale * angle.cos()
    sin = scale * angle.sin()
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
            image, matrix, size, mode="bilinear", padding_mode=padding, align_corners=True
        )
        result = sampled(image, grid, padding=padding)
        torch.testing.assert_close(result, expected, rtol=0, atol=2e-4)
    expected = kornia.geometry.transform.warp_affine(
        ids, matrix, size, mode="nearest", align_corners=True
    )
    assert (sampled(ids, grid, mode="nearest") != expected).float().mean() < 0.01
    sigma = torch.tensor([0.01, 0.5, 1.0, 1.5])
    expected = kornia.filters.gaussian_blur2d(image, (7, 7), sigma.view(-1, 1).expand(-1, 2))
    torch.testing.assert_close(blurred(image, sigma, 3), expected, rtol=0, atol=1e-5)

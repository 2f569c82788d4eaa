"""The grid of voxels: sizes, axes, units."""

from __future__ import annotations

import math

import pytest

from napari_emda.data.voxel_grid import VoxelGrid


def test_sizes_of_an_anisotropic_voxel():
    grid = VoxelGrid((50.0, 4.0, 5.0))
    assert (grid.pixel_size, grid.pixel_area, grid.voxel_volume) == (4, 20, 1000)
    assert grid.axes == "zyx"
    assert VoxelGrid((50.0, 4.0, 5.0), sections_are_independent=True).axes == "yx"


def test_another_pixel_size_keeps_the_sections():
    grid = VoxelGrid((50.0, 4.0, 5.0), "pixel", sections_are_independent=True)
    changed = grid.with_pixel_size(8.0)
    assert changed == VoxelGrid((50.0, 8.0, 8.0), "pixel", sections_are_independent=True)
    assert changed.scale_to(8.0) == (1, 1)


@pytest.mark.parametrize(("unit", "factor"), [("nm", 1), ("\u00b5m", 1000), ("inch", 25_400_000)])
def test_lengths_become_nanometres(unit, factor):
    grid = VoxelGrid((0.5, 0.25, 0.125), unit, sections_are_independent=True).in_nanometres()
    assert grid.spacing == pytest.approx((0.5 * factor, 0.25 * factor, 0.125 * factor))
    assert (grid.unit, grid.sections_are_independent) == ("nm", True)


def test_a_unit_that_is_no_length_stays():
    grid = VoxelGrid((6.0, 1.0, 1.0), "pixel")
    assert grid.in_nanometres() == grid


@pytest.mark.parametrize("size", [4.0, 7.3, 8.0, 8.7, 12.0, 1.9, 1.5])
def test_scales_are_exact_or_whole_if_within_a_tenth(size):
    exact = 4.0 / size
    scale, other = VoxelGrid((50.0, 4.0, 4.0)).scale_to(size)
    assert scale == other
    coarser = max(scale, 1 / scale)
    if scale == exact:
        ratio = max(exact, 1 / exact)
        assert coarser == round(ratio) or abs(ratio - round(ratio)) > 0.1 * round(ratio)
    else:
        assert coarser == pytest.approx(round(coarser))
        assert math.isclose(scale, exact, rel_tol=0.12)

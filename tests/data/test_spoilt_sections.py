"""Empty and strange sections are found among others; good ones never are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_emda.data.resampled import Resampled
from napari_emda.data.spoilt_sections import spoilt_sections
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid

DEPTH = 9
SIDE = 160


@pytest.fixture(scope="module")
def tissue():
    """Sections of which neighbours share half of their variance, with noise of their own."""
    rng = np.random.default_rng(0)
    shared = gaussian_filter(rng.normal(size=(DEPTH, SIDE, SIDE)), (0.8, 4, 4))
    noise = rng.normal(size=shared.shape)
    image = 128 + 30 * shared / shared.std() + 20 * noise
    return np.clip(image, 1, 255).astype(np.uint8)


def found(image, *, pixel_size=8.0, independent=False):
    grid = VoxelGrid((50.0, 8.0, 8.0), "nm", independent)
    return spoilt_sections(Resampled(Volume("v", image, "target", grid), pixel_size))


def changed(tissue, z, section):
    image = tissue.copy()
    image[z] = section
    return image


@pytest.mark.parametrize("z", [0, 1, 4, DEPTH - 1])
@pytest.mark.parametrize("pixel_size", [8.0, 16.0])
def test_one_bad_section_is_found_wherever_it_is(z, pixel_size, tissue):
    noise = np.random.default_rng(z).integers(0, 256, (SIDE, SIDE))
    shifted = np.roll(tissue[z], 40, axis=1)
    pale = (0.4 * tissue[z] + 70).astype(np.uint8)
    bright = np.minimum(tissue[z], 200) + 55
    for section in (0, 255, noise, shifted, 255 - tissue[z], pale, bright):
        assert found(changed(tissue, z, section), pixel_size=pixel_size) == (z,)


def test_several_missing_sections_are_found(tissue):
    image = tissue.copy()
    image[[0, 3, 4]] = 0
    assert found(image) == (0, 3, 4)


def test_good_sections_are_left_alone(tissue):
    assert found(tissue) == ()
    # Slightly another brightness and contrast, and broken pixels, do not make it another one.
    bright = changed(tissue, 4, (0.8 * tissue[4] + 30).astype(np.uint8))
    bright[4, :2, :7] = 255
    assert found(bright) == ()
    # A misalignment from one section on spoils none: each resembles one of its neighbours.
    misaligned = tissue.copy()
    misaligned[5:] = np.roll(tissue[5:], 60, axis=2)
    assert found(misaligned) == ()
    # So does another contrast from one section on.
    pale = tissue.copy()
    pale[5:] = 0.4 * tissue[5:] + 70
    assert found(pale) == ()


def test_where_sections_have_nothing_in_common_nothing_can_be_told(tissue):
    unrelated = np.random.default_rng(1).integers(0, 256, (DEPTH, SIDE, SIDE)).astype(np.uint8)
    assert found(unrelated) == ()
    assert found(changed(tissue, 4, 0), independent=True) == ()
    assert found(tissue[[0, 5]]) == ()
    assert found(changed(unrelated, 4, 7)) == (4,)


def test_a_dark_field_with_few_objects_is_not_empty():
    image = np.zeros((5, 64, 64), np.uint8)
    image[:, 30:33, 30:33] = 200
    assert found(image) == ()


def test_small_and_single_sections_can_be_looked_at():
    assert found(np.arange(3.0).reshape(3, 1, 1)) == (0, 1, 2)
    assert found(np.zeros((1, 9, 9))) == (0,)
    assert found(np.arange(27.0).reshape(1, 3, 9)) == ()

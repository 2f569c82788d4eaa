"""Constant borders are padding, whatever their grey value; tissue never is."""

from __future__ import annotations

import numpy as np
import pytest

from napari_emda.data.box import Box
from napari_emda.data.padding import PatchPadding, padding_in, padding_of
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid

SHAPE = (5, 120, 150)


def volume(image, *, independent=False):
    grid = VoxelGrid((50.0, 8.0, 8.0), sections_are_independent=independent)
    return Volume("v", image, "target", grid)


def tissue(seed=0, shape=SHAPE):
    noise = np.random.default_rng(seed).normal(120, 25, shape)
    return noise.clip(0, 255).astype(np.uint8)


def bordered(grey):
    image = tissue()
    image[:, :, :40] = grey
    image[:, -20:] = grey
    return image


@pytest.mark.parametrize("grey", [0, 1, 128, 255])
def test_a_constant_border_is_padding(grey):
    image = bordered(grey)
    assert padding_of(volume(image)) == (grey,)
    expected = np.zeros(SHAPE, bool)
    expected[:, :, :40] = True
    expected[:, -20:] = True
    found = padding_in(volume(image), Box.whole(SHAPE), (grey,))
    # Single pixels of the same grey value touch the border here and there.
    assert (found != expected).mean() < 1e-3
    # Blocks of any size find the same.
    box = Box((1, 37, 33), (3, 61, 55))
    np.testing.assert_array_equal(padding_in(volume(image), box, (grey,)), found[box.slices])


def test_corners_of_two_greys_are_padding():
    image = tissue()
    rows, columns = np.indices(SHAPE[1:])
    image[:, rows + columns < 60] = 0
    image[:, rows - columns > 60] = 255
    assert padding_of(volume(image)) == (0, 255)


def test_missing_sections_are_padding():
    image = tissue()
    image[2] = 0
    assert padding_of(volume(image)) == (0,)


@pytest.mark.parametrize(
    "case", ["noise", "dark pixels", "hole", "thin line", "independent", "blank"]
)
def test_tissue_is_no_padding(case):
    image = tissue()
    if case == "dark pixels":
        image[np.random.default_rng(1).random(SHAPE) < 0.1] = 0
    elif case == "hole":
        image[:, 40:80, 40:80] = 255
    elif case == "thin line":
        image[:, :3] = 0
    elif case == "blank":
        image[:] = 0
    elif case == "independent":
        image = bordered(0)
    assert padding_of(volume(image, independent=case == "independent")) == ()


def test_patches_of_which_more_than_a_tenth_is_padding_are_too_much():
    image = bordered(77)
    padding = PatchPadding(volume(image))
    rng = np.random.default_rng(0)
    starts = np.stack([rng.integers(0, n - 31, 200) for n in (SHAPE[0] + 31, *SHAPE[1:])], 1)
    share = [(image[z, y : y + 32, x : x + 32] == 77).mean() for z, y, x in starts.tolist()]
    found = padding.too_much_in(starts, 32)
    one_by_one = [
        padding.too_much(Box((z, y, x), (z + 1, y + 32, x + 32))) for z, y, x in starts.tolist()
    ]
    assert found.tolist() == one_by_one
    clear = np.abs(np.array(share) - 0.1) > 0.02
    np.testing.assert_array_equal(found[clear], np.array(share)[clear] > 0.1)
    assert 20 < found.sum() < 180

"""Layers as volumes: which can be used, and as what."""

import dask.array as da
import dask.callbacks
import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Image, Labels
from napari.layers._source import layer_source

from napari_emda._gui.common.layer_volumes import (
    array_of,
    path_of,
    refusal,
    sizes_of,
    spacing_of,
    transform_of,
)
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.io.tiff import write_tiff

IMAGE = np.arange(8 * 40 * 30, dtype=np.uint16).reshape(8, 40, 30)
COLOUR = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)


def from_file(path):
    """A layer as napari's reader makes it."""
    with layer_source(path=str(path)):
        return Image(tifffile.imread(path))


@pytest.mark.parametrize(
    ("options", "spacing"),
    [
        ({"scale": (50, 4.6, 4.6), "units": ("nm",) * 3}, (50, 4.6, 4.6)),
        ({"scale": (0.05, 0.0046, 0.0046), "units": ("um",) * 3}, (50, 4.6, 4.6)),
        ({"scale": (50, 4.6, 4.6)}, None),
        ({}, None),
        ({"scale": (-50, 4.6, 4.6), "units": ("nm",) * 3}, (50, 4.6, 4.6)),
    ],
)
def test_voxel_sizes_come_in_nanometres(options, spacing):
    assert spacing_of(Image(IMAGE, **options)) == (
        None if spacing is None else pytest.approx(spacing)
    )


def test_a_single_image_is_as_thick_as_its_rows():
    layer = Image(IMAGE[0], scale=(4, 5), units=("nm", "nm"))
    assert spacing_of(layer) == (4, 4, 5)
    assert array_of(layer).shape == (1, 40, 30)


def test_the_file_tells_when_the_layer_does_not(tmp_path):
    path = tmp_path / "image.tif"
    write_tiff(path, IMAGE, IMAGE.shape, IMAGE.dtype, VoxelGrid((50, 4.6, 4.6)))
    layer = from_file(path)
    assert spacing_of(layer) == pytest.approx((50, 4.6, 4.6))
    assert path_of(layer) == path
    layer.data = layer.data + 1
    assert path_of(layer) is None
    assert spacing_of(layer) is None


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Image(COLOUR, rgb=True), "colour"),
        (Image(np.zeros((2, 2, 9, 9), np.uint8)), "4 axes"),
        (Image(IMAGE, rotate=(0, 0, 30)), "rotated or sheared"),
        (Image(IMAGE, shear=(0.1, 0, 0)), "rotated or sheared"),
        (
            Image(IMAGE, affine=[[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "rotated or sheared",
        ),
        (Image(IMAGE, scale=(50, 4, 4), translate=(1, 2, 3)), None),
        (Labels(IMAGE), None),
        (Image(np.stack([IMAGE] * 3, -1), rgb=True), None),
        (Image(np.stack([IMAGE[0]] * 4, -1), rgb=True), None),
        (Image(np.stack([COLOUR[..., 0], COLOUR[..., 1], COLOUR[..., 1]], -1), rgb=True), "colour"),
        (Image(IMAGE[None]), None),
        (Image(IMAGE[None, :, None]), None),
        (Image(IMAGE, axis_labels=("x", "y", "z")), None),
        (Image(IMAGE, axis_labels=("T", "Y", "X")), None),
        (Image(IMAGE, axis_labels=("x", "b", "a")), "has the axes x, b, a: name them z, y, x"),
        (Image(IMAGE[None], axis_labels=("a", "b", "y", "z")), "has the axes"),
        (Image(IMAGE, affine=np.diag([40, 4, 5, 1])), None),
        (Image([IMAGE, IMAGE[:, ::2, ::2]], multiscale=True), None),
    ],
)
def test_layers_that_do_not_fit_say_why(layer, words):
    why = refusal(layer)
    assert (why is None) if words is None else words in why


@pytest.mark.parametrize("stored", [np.asarray, da.from_array, zarr.array])
@pytest.mark.parametrize(
    ("axes", "labels"),
    [
        ("xyz", ("x", "y", "z")),
        ("yzx", ("Y", "Z", "X")),
        ("1zyx", None),
        ("1z1yx", ("t", "z", "c", "y", "x")),
        ("z1yx", None),
        ("yx1z", ("y", "x", "c", "z")),
        ("zyx3", None),
        ("1zyx3", None),
    ],
)
def test_axes_are_put_in_order(stored, axes, labels):
    order = ["zyx".index(axis) for axis in axes if axis in "zyx"]
    data = IMAGE.transpose(order)
    for place, axis in enumerate(axes):
        if axis == "1":
            data = np.expand_dims(data, place)
    if rgb := "3" in axes:
        data = np.stack([data] * 3, -1)
    options = {} if labels is None else {"axis_labels": labels}
    layer = Image(stored(data), rgb=rgb, multiscale=False, **options)
    assert refusal(layer) is None
    volume = array_of(layer)
    assert volume.shape == IMAGE.shape
    assert np.array_equal(np.asarray(volume[2:5, 1, ::2]), IMAGE[2:5, 1, ::2])
    assert np.array_equal(np.asarray(volume[3]), IMAGE[3])


def test_the_voxel_size_follows_its_axis():
    options = {"units": ("um", "nm", "nm"), "scale": (0.004, 5, 50)}
    layer = Image(IMAGE.T, axis_labels=("x", "y", "z"), **options)
    assert spacing_of(layer) == (50, 5, 4)
    single = Image(IMAGE[None], scale=(1, 50, 5, 4), units=("s", "nm", "nm", "nm"))
    assert spacing_of(single) == (50, 5, 4)


def test_a_diagonal_affine_is_a_scale():
    layer = Image(IMAGE, affine=np.diag([40, 4, 5, 1]), translate=(1, 2, 3), units=("nm",) * 3)
    assert transform_of(layer) == ((40, 4, 5), (40, 8, 15))
    assert spacing_of(layer) == (40, 4, 5)


def test_sizes_that_are_known_are_not_asked_for_again():
    layer = Image(IMAGE, scale=(1, 4, 5), units=("pixel", "nm", "nm"))
    assert sizes_of(layer) == (None, 4, 5)
    assert spacing_of(layer) is None


def test_colours_in_a_section_that_was_not_compared_are_found_when_it_is_read():
    data = np.stack([IMAGE] * 3, -1)
    data[1, 1, 1, 0] += 1
    layer = Image(data, rgb=True, name="photo")
    assert refusal(layer) is None
    with pytest.raises(DataError, match="'photo' is a colour image"):
        array_of(layer)[1]


@pytest.mark.parametrize("section", [0, 4])
def test_a_layer_with_another_section_is_not_that_of_the_file(section, tmp_path):
    path = tmp_path / "image.tif"
    write_tiff(path, IMAGE, IMAGE.shape, IMAGE.dtype, VoxelGrid((50, 4.6, 4.6)))
    layer = from_file(path)
    changed = IMAGE.copy()
    changed[section, 3, 5] = 1
    layer.data = changed
    assert path_of(layer) is None


def test_a_damaged_file_is_as_good_as_none(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, IMAGE)
    layer = from_file(path)
    path.write_bytes(b"nothing")
    assert path_of(layer) is None


def test_reading_in_a_thread_leaves_the_cache_of_napari_alone():
    computed = []
    layer = Image(da.from_array(IMAGE, chunks=(1, 20, 30)) + 1)
    with dask.callbacks.Callback(pretask=lambda key, *_: computed.append(key)):
        values = array_of(layer)[2:5, 3:25, :]
        assert not computed
        np.asarray(layer.data[0])
    assert computed
    np.testing.assert_array_equal(values, IMAGE[2:5, 3:25] + 1)

"""DM3 and DM4 files; those of version 4 are read by the library dm4 as well."""

import struct

import dm4
import numpy as np
import pytest

from napari_emda.errors import DataError
from napari_emda.io.location import SeveralImages
from napari_emda.io.read import open_image
from tests.io.dm_file import RGB, write_dm

SUFFIXES = pytest.mark.parametrize("suffix", [".dm3", ".dm4"])


@pytest.fixture
def volume(noise):
    return (noise.random((5, 33, 41)) * 120).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["i2", "f4", "u1", "i4", "i1", "u2", "u4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@SUFFIXES
def test_a_stack_comes_with_its_voxel_size(tmp_path, volume, suffix, dtype, order):
    expected = volume.astype(dtype)
    path = write_dm(tmp_path / f"a{suffix}", [expected], order=order)
    stored = open_image(path)
    np.testing.assert_array_equal(stored.array[:], expected)
    np.testing.assert_array_equal(stored.array[-1:, 3:20:2, 5:9], expected[-1:, 3:20:2, 5:9])
    assert (stored.nanometres, stored.unit) == ((50, 8, 4), "nm")


@pytest.mark.parametrize("dtype", ["i2", "f4", "u1", "u2"])
def test_the_library_dm4_finds_the_same(tmp_path, volume, dtype):
    path = write_dm(tmp_path / "a.dm4", [volume.astype(dtype)])
    with dm4.DM4File.open(path) as file:
        tags = file.read_directory()
        image = tags.named_subdirs["ImageList"].unnamed_subdirs[1].named_subdirs["ImageData"]
        sides = [file.read_tag_data(t) for t in image.named_subdirs["Dimensions"].unnamed_tags]
        values = np.array(file.read_tag_data(image.named_tags["Data"]))
        if values.dtype.kind == "S":
            values = values.view(np.uint8)
    stored = open_image(path)
    np.testing.assert_array_equal(stored.array[:], values.reshape(sides[::-1]))


@SUFFIXES
def test_a_folder_of_sections_of_a_3view(tmp_path, volume, suffix):
    (tmp_path / "a").mkdir()
    for number, section in enumerate(volume):
        write_dm(tmp_path / "a" / f"s_{number}{suffix}", [section])
    stored = open_image(tmp_path / "a")
    np.testing.assert_array_equal(stored.array[:], volume)
    assert stored.sizes[1:] == (8, 4)


@pytest.mark.parametrize(
    ("unit", "size", "sizes"),
    [
        ("µm", (0.05, 0.008, 0.004), (50, 8, 4)),
        ("", (1, 1, 1), (None, None, None)),
        ("eV", (1, 1, 1), (None, None, None)),
        ("nm", (0, 8, 4), (None, 8, 4)),
    ],
)
def test_no_voxel_size_is_made_up(tmp_path, volume, unit, size, sizes):
    path = write_dm(tmp_path / "a.dm4", [volume], size, unit)
    assert open_image(path).sizes == sizes


def test_of_images_of_one_size_one_is_chosen(tmp_path, volume):
    path = write_dm(tmp_path / "a.dm4", [volume, volume + 1, volume[0]])
    with pytest.raises(SeveralImages, match=r"2 images of the same size"):
        open_image(path)
    np.testing.assert_array_equal(open_image(f"{path}?scene=1").array[:], volume + 1)
    with pytest.raises(DataError, match="the scenes 0 to 1, and 2 is none"):
        open_image(f"{path}?scene=2")


def test_colours_and_complex_numbers_are_refused(tmp_path, volume):
    path = write_dm(tmp_path / "a.dm4", [volume.astype("u4")], types=[3])
    with pytest.raises(DataError, match="type 3, which are no grey values"):
        open_image(path)
    path = write_dm(tmp_path / "b.dm4", [volume.astype("u4")], types=[RGB])
    with pytest.raises(DataError, match="colour image"):
        open_image(path)


@SUFFIXES
def test_counts_that_lie_are_refused_before_they_are_believed(tmp_path, volume, suffix):
    """Every number that says how much follows becomes as large as it can be."""
    path = write_dm(tmp_path / f"a{suffix}", [volume])
    content = path.read_bytes()
    side = 8 if suffix == ".dm4" else 4
    places = [content.index(b"%%%%", start) + 4 for start in (0, 300, 600, 900)]
    # In version 4, the length of a group stands before its number of entries.
    places.append(content.index(b"ImageList") + 9 + (8 if suffix == ".dm4" else 0) + 2)
    for place in places:
        for number in (2 ** (8 * side) - 1, 2 ** (4 * side)):
            lie = struct.pack(">Q" if side == 8 else ">I", number)
            path.write_bytes(content[:place] + lie + content[place + side :])
            with pytest.raises(DataError, match=rf"a{suffix} cannot be read as DM3"):
                open_image(path)

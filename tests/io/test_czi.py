"""CZI files, as Zeiss's own library writes them."""

import numpy as np
import pytest

from napari_emda.errors import DataError
from napari_emda.io.location import SeveralImages
from napari_emda.io.read import open_image
from tests.io.czi_file import write_czi, write_tiles
from tests.io.opening import REGION


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("packed", [None, "zstd1:ExplicitLevel=2"])
def test_a_channel_comes_with_its_voxel_size(tmp_path, volume, dtype, packed):
    channels = np.stack([volume, volume[::-1]]).astype(dtype)
    channels *= 1 if dtype == np.uint8 else 250
    path = write_czi(tmp_path / "a.czi", channels, compression_options=packed, corner=(-20, 7))
    with pytest.raises(SeveralImages, match="channel 2") as asked:
        open_image(path)
    for part, expected in zip(asked.value.parts, channels, strict=True):
        stored = open_image(f"{path}{part}")
        assert stored.array.dtype == dtype
        np.testing.assert_array_equal(stored.array[:], expected)
        np.testing.assert_array_equal(stored.array[REGION], expected[REGION])
        assert stored.nanometres == pytest.approx((50, 8, 4))
        assert not stored.notices


def test_of_several_scenes_one_is_chosen(tmp_path, volume):
    channels = np.stack([volume, volume // 2])
    path = write_czi(tmp_path / "a.czi", channels, scenes=3)
    with pytest.raises(SeveralImages, match="holds 3 scenes"):
        open_image(path)
    with pytest.raises(SeveralImages, match="channel"):
        open_image(f"{path}?scene=1")
    for scene in range(3):
        stored = open_image(f"{path}?scene={scene}&channel=1")
        np.testing.assert_array_equal(stored.array[:], channels[1] + scene)
    for wrong in ("scene=3", "scene=0&channel=2", "scene=0&time=1"):
        with pytest.raises(DataError, match=r"a\.czi has the"):
            open_image(f"{path}?{wrong}")


def test_a_mosaic_is_one_plane(tmp_path, volume):
    """Tiles that overlap, in which the later one is seen, as in Zeiss's program."""
    tiles = {}
    for z, section in enumerate(volume):
        tiles |= {(z, -5, 3): section[:20, :25], (z, 15, 3): section[:20, 20:]}
        tiles |= {(z, -5, 20): section[17:, :25], (z, 15, 20): section[17:, 20:]}
    stored = open_image(write_tiles(tmp_path / "a.czi", tiles))
    np.testing.assert_array_equal(stored.array[:], volume)
    np.testing.assert_array_equal(stored.array[REGION], volume[REGION])
    assert stored.array.chunks == (1, 20, 25)
    assert stored.notices == () and stored.nanometres is None


def test_what_is_missing_is_said(tmp_path, volume):
    tiles = {(z, 0, 0): volume[z] for z in (1, 2, 4)}
    stored = open_image(write_tiles(tmp_path / "a.czi", tiles))
    np.testing.assert_array_equal(stored.array[:], volume[[1, 2, 4]])
    assert "3 sections numbered 1 to 4, and 1 is missing (3)" in stored.gap
    far = open_image(write_tiles(tmp_path / "a.czi", {(z, 0, 0): volume[0] for z in (0, 2**30)}))
    assert f"{2**30 - 1} are missing:" in far.gap
    # A tile that is missing in one section alone, too.
    tiles = {(z, 41 * k, 0): volume[z] for z in range(2) for k in range(2)}
    del tiles[1, 0, 0]
    stored = open_image(write_tiles(tmp_path / "a.czi", tiles))
    np.testing.assert_array_equal(stored.array[1, :, 41:], volume[1])
    assert not stored.array[1, :, :41].any()
    assert "at least 50 % of a section uncovered" in stored.notices[0]


def test_no_voxel_size_is_made_up(tmp_path, volume):
    path = write_czi(tmp_path / "a.czi", volume[None], size=(None, 8e-9, 4e-9))
    assert open_image(path).sizes == (None, pytest.approx(8), pytest.approx(4))


def test_a_colour_image_is_refused(tmp_path, volume):
    path = write_tiles(tmp_path / "a.czi", {(0, 0, 0): np.stack([volume[0]] * 3, -1)})
    with pytest.raises(DataError, match=r"a\.czi is a colour image"):
        open_image(path)


def test_a_file_that_is_cut_short_while_it_is_open(tmp_path, volume):
    path = write_czi(tmp_path / "a.czi", np.tile(volume[None], (1, 1, 9, 9)))
    array = open_image(path).array
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(len(content) // 2)
    with pytest.raises(DataError, match=r"a\.czi is damaged at section"):
        array[:]

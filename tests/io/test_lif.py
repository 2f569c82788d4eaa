"""LIF files, read as Leica's description and the library liffile say."""

import liffile
import numpy as np
import pytest

from napari_emda.errors import DataError
from napari_emda.io.location import SeveralImages
from napari_emda.io.read import open_image
from tests.io.lif_file import write_lif

SIZE = (pytest.approx(50), pytest.approx(8), pytest.approx(4))


@pytest.fixture
def volume(noise):
    return (noise.random((2, 3, 5, 33, 41)) * 250).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("axes", "choice"),
    [("zyx", ""), ("yx", ""), ("czyx", "?channel=1"), ("tczyx", "?time=1&channel=2")],
)
def test_an_image_comes_with_its_voxel_size(tmp_path, volume, dtype, axes, choice):
    array = volume[(0,) * (5 - len(axes))].astype(dtype)
    path = write_lif(tmp_path / "a.lif", {"one": (array, axes)})
    with liffile.LifFile(path) as file:
        np.testing.assert_array_equal(file.images[0].asarray(), array)
    chosen = {"?channel=1": (1,), "?time=1&channel=2": (1, 2)}.get(choice, ())
    stored = open_image(f"{path}{choice}")
    expected = array[chosen] if axes != "yx" else array[None]
    np.testing.assert_array_equal(stored.array[:], expected)
    np.testing.assert_array_equal(stored.array[-1:, 3:20:2, 5:9], expected[-1:, 3:20:2, 5:9])
    assert stored.array.dtype == dtype
    assert stored.sizes == ((None, *SIZE[1:]) if axes == "yx" else SIZE)


def test_sections_that_alternate_with_channels(tmp_path, volume):
    array = np.ascontiguousarray(volume[0].swapaxes(0, 1))
    path = write_lif(tmp_path / "a.lif", {"one": (array, "zcyx")})
    np.testing.assert_array_equal(open_image(f"{path}?channel=2").array[:], volume[0, 2])


def test_of_several_images_one_is_chosen(tmp_path, volume):
    images = {"overview": (volume[0, 0], "zyx"), "detail & more": (volume[1], "czyx")}
    path = write_lif(tmp_path / "a.lif", images)
    with pytest.raises(SeveralImages, match=r"2 images \(overview and detail & more\)") as asked:
        open_image(path)
    assert asked.value.titles == ("overview", "detail & more")
    np.testing.assert_array_equal(open_image(f"{path}?scene=0").array[:], volume[0, 0])
    with pytest.raises(SeveralImages, match="channel 3") as asked:
        open_image(f"{path}?scene=1")
    second = f"{path}{asked.value.parts[2]}"
    np.testing.assert_array_equal(open_image(second).array[:], volume[1, 2])
    with pytest.raises(DataError, match="the scenes 0 to 1, and 2 is none"):
        open_image(f"{path}?scene=2")


def changed(path, before, after):
    """Change a number in the description, which keeps its length."""
    content = path.read_bytes()
    before, after = before.encode("utf-16-le"), after.encode("utf-16-le")
    assert len(before) == len(after) and before in content
    path.write_bytes(content.replace(before, after))
    return path


def test_a_description_that_lies_is_refused(tmp_path, volume):
    def path():
        return write_lif(tmp_path / "a.lif", {"one": (volume[0, 0], "zyx")})

    for before, after in (
        ('NumberOfElements="41"', 'NumberOfElements="99"'),
        ('NumberOfElements="5"', 'NumberOfElements="9"'),
        ('NumberOfElements="5"', 'NumberOfElements="0"'),
        ('NumberOfElements="33"', 'NumberOfElements="-3"'),
        ('Resolution="8"', 'Resolution="9"'),
        ('BytesInc="41"', 'BytesInc="40"'),
        ('MemoryBlockID="MemBlock_0"', 'MemoryBlockID="MemBlock_7"'),
    ):
        with pytest.raises(DataError, match=r"a\.lif"):
            np.asarray(open_image(changed(path(), before, after)).array[:])


def test_voxels_in_other_files_are_not_followed(tmp_path):
    secret = tmp_path / "secret.tif"
    secret.write_bytes(b"secret")
    (tmp_path / "a.lif").write_text(
        '<?xml version="1.0"?><LMSDataContainerHeader Version="2"><Element Name="a"><Data>'
        "<Image/></Data>"
        '<Memory Size="6"><Frame File="secret.tif" Offset="0" Size="6"/></Memory></Element>'
        "</LMSDataContainerHeader>"
    )
    with pytest.raises(DataError, match="has its voxels in other files"):
        open_image(tmp_path / "a.lif")


def test_no_voxel_size_is_made_up(tmp_path, volume):
    path = write_lif(tmp_path / "a.lif", {"one": (volume[0, 0], "zyx")}, size=(0, 8e-9, 4e-9))
    assert open_image(path).sizes == (None, pytest.approx(8), pytest.approx(4))

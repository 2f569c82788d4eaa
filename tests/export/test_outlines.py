"""Outlines as IMOD's models, read by the library imodmodel."""

import numpy as np
import pytest
from imodmodel import ImodModel
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.measure import label

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.export.base import exporters
from tests.export.exporting import export

GRID = VoxelGrid((0.05, 0.008, 0.004), "µm")


@pytest.fixture
def probabilities():
    """Two classes: blobs that the border cuts, and a box with a hole."""
    noise = np.random.default_rng(0).standard_normal((2, 5, 50, 60))
    field = ndimage.gaussian_filter(noise, (0, 1, 3, 3))
    values = (255 * (field > 0.04)).astype(np.uint8)
    values[:, 2, 20:40, 20:40] = 0
    values[0, 2, 22:36, 21:37] = 255
    values[0, 2, 25:30, 25:31] = 0
    values[1][values[0] > 0] = 0
    return values


def filled(contours, shape, flip=False):
    """Pixels whose centres lie inside an odd number of outlines, by surface and section."""
    masks = {}
    for contour in contours:
        x, y, z = contour.points.T
        assert len(set(z)) == 1
        y = shape[0] - y if flip else y
        inside = polygon2mask(shape, np.stack([y, x], 1) - 0.5)
        key = (contour.header.surf, int(z[0]))
        masks[key] = masks.get(key, False) ^ inside
    return masks


@pytest.mark.parametrize("flip", [False, True])
def test_outlines_enclose_the_objects(tmp_path, probabilities, flip):
    path = tmp_path / "a.mod"
    list(export("outlines", probabilities, path, GRID, minimum_size=20, flip_y=flip))
    model = ImodModel.from_file(path)
    assert [found.header.name for found in model.objects] == ["class 1", "class 2"]
    for found, values in zip(model.objects, probabilities, strict=True):
        expected = label(values > 127, connectivity=1)
        sizes = np.bincount(expected.ravel())
        large = [k for k in range(1, len(sizes)) if sizes[k] >= 20]
        masks = {
            (number, z): expected[z] == k
            for number, k in enumerate(large, start=1)
            for z in np.flatnonzero((expected == k).any((1, 2)))
        }
        result = filled(found.contours, expected.shape[1:], flip)
        assert result.keys() == masks.keys()
        for key, mask in masks.items():
            np.testing.assert_array_equal(result[key], mask)
        assert found.header.surfsize == len(large)
        assert not found.header.flags.open and not found.header.flags.scattered
    # The box has ten corners of slanted steps at most, not a point for each of its pixels.
    assert min(len(contour.points) for contour in model.objects[0].contours) <= 8
    header = model.header
    assert (header.xmax, header.ymax, header.zmax) == (60, 50, 5)
    assert header.pixelsize == pytest.approx(4) and header.units == -9
    assert header.zscale == pytest.approx(12.5)


def test_what_a_model_does_not_state(tmp_path, probabilities, monkeypatch):
    outlines = exporters["outlines"]
    exporter = outlines(outlines.Settings())

    class Result:
        class volume:
            grid = GRID

    assert "the one along y differs" in exporter.lost(Result, tmp_path / "a.mod")
    assert "set flip_y=true" in exporter.lost(Result, tmp_path / "a.mod")
    Result.volume.grid = VoxelGrid((1.0, 1.0, 1.0), "pixel")
    assert "states no pixel size" in exporter.lost(Result, tmp_path / "a.mod")
    with pytest.raises(DataError, match="There are no objects in 'cell'"):
        list(export("outlines", probabilities * 0, tmp_path / "a.mod", GRID))
    monkeypatch.setattr("napari_emda.export.outlines._MOST", 3)
    with pytest.raises(DataError, match=r"outlines, and a model holds at most 3: raise minimum"):
        list(export("outlines", probabilities, tmp_path / "a.mod", GRID))
    monkeypatch.setattr("napari_emda.export.outlines.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"imodmodel: install it with .*napari-emda\[formats\]"):
        list(export("outlines", probabilities, tmp_path / "a.mod", GRID))
    assert not list(tmp_path.iterdir())

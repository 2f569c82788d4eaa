"""Layers and world coordinates, without a window."""

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_emda._gui.common.adapters import Placement, check_fit, look_at, section_on_view
from napari_emda._gui.common.layer_volumes import spacing_of
from napari_emda.data.box import Box
from napari_emda.errors import DataError

IMAGE = np.zeros((8, 40, 30), np.uint8)


def test_swapped_source_and_target_are_seen_by_shape_and_by_voxel_size():
    nm = {"units": ("nm",) * 3}
    source = Image(IMAGE, name="a")
    target = Image(IMAGE[:4], name="b")
    with pytest.raises(DataError, match="swap the two images"):
        check_fit(source, Labels(IMAGE[:4]), target)
    check_fit(source, Labels(IMAGE), target)
    fine = Image(IMAGE, scale=(50, 4, 4), **nm)
    coarse = Image(IMAGE, scale=(20, 5, 5), **nm)
    with pytest.raises(DataError, match="swap the two images"):
        check_fit(fine, Labels(IMAGE, scale=(20, 5, 5), **nm), coarse)
    check_fit(fine, Labels(IMAGE, scale=(50, 4, 4), **nm), coarse)


@pytest.mark.parametrize("unit", ["nm", "um"])
@pytest.mark.parametrize("other", ["nm", "um", None])
def test_sections_and_cameras_are_in_world_units(unit, other):
    factor = {"nm": 1, "um": 1e-3}[unit]
    viewer = ViewerModel()
    layer = viewer.add_image(
        IMAGE,
        scale=(50 * factor, 4.6 * factor, 4.6 * factor),
        units=(unit,) * 3,
        translate=(100 * factor, 46 * factor, 0),
    )
    if other:
        scale = {"nm": 1, "um": 1e-3}[other]
        viewer.add_image(IMAGE, scale=(50 * scale, 4.6 * scale, 4.6 * scale), units=(other,) * 3)
    place = Placement.of(layer, (50, 4.6, 4.6))
    assert place.unit == {"nm": "nanometer", "um": "micrometer"}[unit]
    box = Box((5, 10, 8), (6, 26, 24))
    look_at(viewer, place, box, (500, 500))
    assert section_on_view(viewer, place, IMAGE.shape).start[0] == 5
    assert place.to_index(viewer, viewer.scene.camera.center)[1:] == pytest.approx((17.5, 15.5))
    assert place.to_world(viewer, place.to_index(viewer, (9, 8, 7))) == pytest.approx((9, 8, 7))
    side = 16 * 4.6 * factor * (place._factor(viewer))
    assert viewer.scene.camera.zoom * side == pytest.approx(350, rel=1e-6)


def test_a_large_section_is_previewed_around_the_camera():
    viewer = ViewerModel()
    place = Placement((1, 1, 1))
    viewer.add_image(np.zeros((2, 8, 8)), **place.arguments())
    viewer.scene.camera.center = (0, 5000, 200)
    box = section_on_view(viewer, place, (2, 10_000, 10_000))
    assert box.shape == (1, 1536, 1536)
    assert box.start == (0, 5000 - 768, 0)


def test_a_large_section_is_previewed_up_to_its_last_pixel():
    viewer = ViewerModel()
    place = Placement((1, 1, 1))
    viewer.add_image(np.zeros((2, 8, 8)), **place.arguments())
    viewer.scene.camera.center = (0, 9_999, 9_500)
    box = section_on_view(viewer, place, (2, 10_000, 10_000))
    assert box.shape == (1, 1536, 1536)
    assert box.stop[1:] == (10_000, 10_000)


def test_beyond_the_last_section_the_last_one_is_previewed():
    viewer = ViewerModel()
    place = Placement((1, 1, 1))
    viewer.add_image(np.zeros((20, 8, 8)), **place.arguments())
    viewer.dims.set_point(0, 19)
    assert section_on_view(viewer, place, (5, 8, 8)).start[0] == 4
    viewer.dims.set_point(0, 0)
    further = Placement((1, 1, 1), translate=(10, 0, 0))
    assert section_on_view(viewer, further, (5, 8, 8)).start[0] == 0


@pytest.mark.parametrize(("start", "stop", "seen"), [(3, 4, 3), (2, 6, 3), (2, 5, 3)])
def test_of_several_sections_the_first_of_the_middle_ones_is_shown(start, stop, seen):
    viewer = ViewerModel()
    place = Placement((50, 4.6, 4.6))
    viewer.add_image(IMAGE, **place.arguments())
    look_at(viewer, place, Box((start, 10, 8), (stop, 26, 24)))
    assert viewer.dims.current_step[0] == seen


@pytest.mark.parametrize("ours", ["nm", "um"])
@pytest.mark.parametrize("finest", ["nm", "um"])
def test_points_of_a_volume_lie_where_napari_draws_them(ours, finest):
    """World coordinates are those of the layer times its unit, in the finest unit of all layers."""
    size = {"nm": 1, "um": 1000}
    viewer = ViewerModel()
    arguments = {
        "scale": [n / size[ours] for n in (50, 4.6, 4.6)],
        "translate": [n / size[ours] for n in (100, 46, 0)],
        "units": (ours,) * 3,
    }
    layer = viewer.add_image(IMAGE, **arguments)
    viewer.add_image(IMAGE[:1, :2, :2], units=(finest,) * 3)
    place = Placement.of(layer, (50, 4.6, 4.6))
    np.testing.assert_allclose(place.scale, arguments["scale"])
    np.testing.assert_allclose(place.translate, arguments["translate"])
    world = min(size[ours], size[finest])
    point = np.array([100 + 7 * 50, 46 + 39 * 4.6, 29 * 4.6]) / world
    np.testing.assert_allclose(place.to_world(viewer, (7, 39, 29)), point)
    np.testing.assert_allclose(place.to_index(viewer, point), (7, 39, 29))
    if world == size[ours]:  # where both layers have it, napari itself can tell
        np.testing.assert_allclose(layer.data_to_world((7, 39, 29)), point)


def test_a_typed_voxel_size_is_given_to_the_layer():
    layer = Image(IMAGE, translate=(2, 10, 10))
    place = Placement.of(layer, (50, 4.6, 4.6))
    place.apply(layer)
    assert spacing_of(layer) == (50, 4.6, 4.6)
    assert layer.translate.tolist() == pytest.approx([100, 46, 46])
    assert str(layer.units[0]) == "nanometer"
    assert layer.axis_labels == ("z", "y", "x")

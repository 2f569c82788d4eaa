"""Image, paint and mask of a volume stay on top of each other, whatever a user drags or types."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_emda._gui.common.adapters import Placement
from napari_emda._gui.common.held_places import HeldPlaces
from napari_emda._gui.predict.layers import show_classes
from tests.gui.suggested import with_suggestions

CHANGES = {
    "translate": (50, 9.2, 4.6),
    "scale": (50, 2.3, 2.3),
    "rotate": 30,
    "shear": (0.5, 0, 0),
    "affine": np.diag([1, 2, 2, 1.0]),
    "units": ("um", "um", "um"),
}


@pytest.fixture
def layers(session, predicted):
    """The layers of the target, by role."""
    patches = with_suggestions(session, predicted)
    show_classes(session.opened, "001-fake", "target")
    patches.next()
    opened = session.opened
    outputs = {role: opened.output(role, "target") for role in ("mask", "patches", "annotations")}
    return {"image": opened.image("target"), **outputs}


def corners(layers):
    """Where napari has two voxels of each layer in the world, in nm."""
    points = [(0, 0, 0), (3, 20, 30)]
    return np.array(
        [
            [
                np.asarray(layer.data_to_world(point)) * (1 * layer.units[-1]).to("nm").magnitude
                for point in points
            ]
            for layer in layers.values()
        ]
    )


@pytest.mark.parametrize("which", ["image", "mask", "patches", "annotations"])
def test_a_layer_that_is_moved_comes_back(session, layers, which):
    before = corners(layers)
    layer = layers[which]
    for change, value in CHANGES.items():
        session.notices.clear()
        setattr(layer, change, value)
        assert np.allclose(corners(layers), before), change
        # A unit alone may be that of the world.
        if change != "units":
            assert f"The layer '{layer.name}' was put back" in session.notices[-1][1], change


def test_a_layer_of_the_user_may_be_moved(session, layers):
    mine = session.viewer.add_image(np.zeros((5, 48, 40)), scale=(50, 4.6, 4.6), units=("nm",) * 3)
    mine.translate = (0, 9.2, 0)
    assert tuple(mine.translate) == (0, 9.2, 0)


def test_linked_layers_of_two_volumes_stay_apart(session, layers):
    opened = session.opened
    viewer = session.viewer
    viewer.layers.link_layers([opened.image("source"), layers["image"]])
    before = corners(layers)
    opened.image("source").translate = (0, 46, 0)
    assert np.allclose(corners(layers), before)


@pytest.mark.parametrize("change", ["translate", "scale"])
@pytest.mark.parametrize("moved", [0, 1, 2])
def test_linked_layers_of_different_places_return_to_their_own(moved, change):
    viewer = ViewerModel()
    shown = [viewer.add_image(np.zeros((4, 30, 30)), name=name) for name in "abc"]
    places = [Placement((50, 4, 4)), Placement((50, 4, 4), (0, 80, 0)), Placement((40, 8, 8))]
    put_back = []
    held = HeldPlaces(viewer, put_back.append)
    for layer, place in zip(shown, places, strict=True):
        place.apply(layer)
        held.hold(layer, lambda place=place: place)
    mine = viewer.add_image(np.zeros((4, 30, 30)))
    viewer.layers.link_layers([*shown, mine])
    before = [np.asarray(layer.data_to_world((3, 20, 10))) for layer in shown]
    setattr(shown[moved], change, CHANGES[change])
    after = [np.asarray(layer.data_to_world((3, 20, 10))) for layer in shown]
    assert np.allclose(after, before)
    assert put_back
    # What does not move them is still linked.
    shown[0].opacity = 0.25
    assert [layer.opacity for layer in viewer.layers] == [0.25] * 4


def test_layers_are_the_users_again_when_the_dock_is_closed(session, layers):
    image = layers["image"]
    session.close()
    image.translate = (0, 46, 0)
    assert tuple(image.translate) == (0, 46, 0)


def test_another_voxel_size_moves_all_layers(session, layers):
    project = session.opened.project
    project.volumes.change_grid("target", (40.0, 8.0, 8.0), sections_are_independent=False)
    session.show_again()
    assert tuple(session.opened.image("target").scale) == (40, 8, 8)

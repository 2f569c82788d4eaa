"""Keys: letters that napari leaves free, bound while the dock is there."""

import pytest
from app_model.types import KeyBinding
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils.shortcuts import _default_shortcuts

from napari_emda._gui.annotate.keys import KEYS, help_text
from napari_emda._gui.common.key_bindings import KeyBindings, binding

# What napari does at the same key, on the layers that it binds them for.
SAME = {
    "P": "napari:activate_labels_paint_mode",
    "E": "napari:activate_labels_erase_mode",
    "F": "napari:activate_labels_fill_mode",
    "L": "napari:activate_labels_picker_mode",
    "Z": "napari:activate_labels_pan_zoom_mode",
    "Escape": "napari:reset_polygon",
    "Delete": "napari:delete_selected_shapes",
}


def test_napari_s_own_keys_keep_their_meaning_and_digits_alone_get_another():
    widgets_keys = {}
    for name, keys in _default_shortcuts.items():
        for key in keys:
            widgets_keys.setdefault(KeyBinding.from_int(key), []).append(name)
    for key, name in SAME.items():
        assert name in widgets_keys[binding(key)]
    others = {key for key in KEYS if binding(key) in widgets_keys} - set(SAME)
    # A new label is no class, and napari's layers of sections have no plane to turn. The size of
    # the brush is that of the object while objects are clicked. The others are of images, points
    # and shapes, where they keep napari's meaning.
    assert {widgets_keys[binding(key)][0] for key in others if not key.isdigit()} <= {
        "napari:new_label",
        "napari:orient_plane_normal_along_view_direction",
        "napari:decrease_brush_size",
        "napari:increase_brush_size",
        "napari:auto_contrast_once",
        "napari:activate_points_select_mode",
        "napari:activate_vertex_insert_mode",
    }


@pytest.mark.parametrize(("key", "name"), [("Ctrl-Z", "undo"), ("Ctrl-Shift-Z", "redo")])
def test_strokes_have_napari_s_keys(key, name):
    assert Labels.class_keymap[binding(key)].__name__ == name


def test_the_help_names_every_key():
    for key, (name, text) in KEYS.items():
        assert name.startswith("class") or (f"<b>{key}</b>" in help_text() and text in help_text())
    assert "1 … 9" in help_text()


def test_keys_are_bound_once_and_unbound():
    viewer = ViewerModel()
    pressed = []
    viewer.bind_key("N", lambda viewer: pressed.append("before"))
    keys = KeyBindings(
        KEYS, {name: lambda name=name: pressed.append(name) for name, _ in KEYS.values()}
    )
    keys.bind(viewer)
    keys.bind(viewer)
    for key in KEYS:
        viewer.keymap[binding(key)](viewer)
    assert pressed == [name for name, _ in KEYS.values()]
    keys.unbind()
    assert set(viewer.keymap) == {binding("N")}
    viewer.keymap[binding("N")](viewer)
    assert pressed[-1] == "before"

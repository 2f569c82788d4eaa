"""Keys: letters that napari leaves free, bound while the dock is there."""

from app_model.types import KeyBinding
from napari.components import ViewerModel
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import _default_shortcuts

from napari_emda._gui.annotate.keys import KEYS, KeyBindings, help_text


def test_no_letter_is_napari_s_own_and_digits_only_take_the_place_of_modes():
    taken = {
        KeyBinding.from_int(key): name for name, keys in _default_shortcuts.items() for key in keys
    }
    clashes = {key: taken[binding] for key in KEYS if (binding := coerce_keybinding(key)) in taken}
    assert all(key.isdigit() for key in clashes)


def test_napari_s_modes_for_painting_can_be_reached_by_letters():
    for mode in ("erase", "paint", "fill", "picker", "pan_zoom"):
        keys = [
            str(KeyBinding.from_int(key))
            for key in _default_shortcuts[f"napari:activate_labels_{mode}_mode"]
        ]
        assert any(key.isalpha() and key not in KEYS for key in keys), mode


def test_the_help_names_every_key():
    for key, (name, text) in KEYS.items():
        assert name.startswith("class") or (key in help_text() and text in help_text())


def test_keys_are_bound_once_and_unbound():
    viewer = ViewerModel()
    pressed = []
    viewer.bind_key("N", lambda viewer: pressed.append("before"))
    keys = KeyBindings({name: lambda name=name: pressed.append(name) for name, _ in KEYS.values()})
    keys.bind(viewer)
    keys.bind(viewer)
    for key in KEYS:
        viewer.keymap[coerce_keybinding(key)](viewer)
    assert pressed == [name for name, _ in KEYS.values()]
    keys.unbind()
    assert set(viewer.keymap) == {coerce_keybinding("N")}
    viewer.keymap[coerce_keybinding("N")](viewer)
    assert pressed[-1] == "before"

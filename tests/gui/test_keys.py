"""Keys: none of napari's own, bound while the dock is there."""

from app_model.types import KeyBinding
from napari.components import ViewerModel
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import _default_shortcuts

from napari_emda._gui.keys import KEYS, KeyBindings, help_text


def test_no_key_is_napari_s_own():
    taken = {KeyBinding.from_int(key) for keys in _default_shortcuts.values() for key in keys}
    assert not taken & {coerce_keybinding(key) for key in KEYS}


def test_the_help_names_every_key():
    for key, (name, text) in KEYS.items():
        assert name.startswith("class") or (key in help_text() and text in help_text())


def test_keys_are_bound_once_and_unbound():
    viewer, pressed = ViewerModel(), []
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

"""What napari offers to its users, as actions of a random sequence: name, function, weight."""

import contextlib

import numpy as np
import tifffile
from napari._app_model.actions._layerlist_context_actions import LAYERLIST_CONTEXT_ACTIONS
from napari.layers import Image, Labels, Shapes
from qtpy.QtTest import QTest

from tests.viewer.chaos.projects import SHAPE, SPACING
from tests.viewer.chaos.user import chance, integers, random_array
from tests.viewer.hands import drop

_MENU = {
    action.id.removeprefix("napari.layer."): action
    for action in LAYERLIST_CONTEXT_ACTIONS
    if action.id.startswith("napari.layer.")
}
_NAMES = ("target", "x", "emda: mask", "emda: annotations", "source labels", "ü ✓")
_UNITS = ("nm", "um", "pixel")


# -- the list of layers ----------------------------------------------------------------------------


def rename(user, rng):
    layer = user.layer(rng)
    if layer is not None:
        layer.name = str(rng.choice(_NAMES))
        user.renamed.add(id(layer))


def delete(user, rng):
    """Choose one to three layers, and press the button below the list."""
    user.choose(rng, 3)
    user.viewer.window._qt_viewer.layerButtons.deleteButton.click()


def delete_all(user, rng):
    user.viewer.layers.select_all()
    user.viewer.layers.remove_selected()


def reorder(user, rng):
    """Drag one to three layers to another place in the list."""
    count = len(user.viewer.layers)
    if count > 1:
        moved = sorted(set(rng.integers(count, size=integers(rng, 1, 4)).tolist()))
        user.viewer.layers.move_multiple(moved, integers(rng, 0, count + 1))


def hide(user, rng):
    layer = user.layer(rng)
    if layer is not None:
        layer.visible = not layer.visible


def select(user, rng):
    layer = user.layer(rng)
    if layer is not None:
        user.viewer.layers.selection.active = layer


def _menu(name, kind=None, most=3):
    """An entry of the menu of layers, if napari offers it for those that are chosen."""

    def act(user, rng):
        layers = user.viewer.layers
        chosen = user.choose(rng, most, kind)
        before = set(map(id, layers))
        action = _MENU[name]
        if chosen and (action.enablement is None or action.enablement.eval(layers._ctx)):
            # Refused for some layers, such as images of several shapes: in words of napari's.
            with contextlib.suppress(ValueError, NotImplementedError):
                action.callback(layers)
        user.renamed |= {id(layer) for layer in layers} - before

    act.__name__ = name
    return act


def opacity(user, rng):
    layer = user.layer(rng)
    if layer is not None:
        layer.opacity = float(rng.uniform(0.3, 1))


# -- where a layer lies ----------------------------------------------------------------------------


def move(user, rng):
    layer = user.layer(rng)
    if layer is not None:
        layer.translate = rng.integers(-2, 3, layer.ndim) * np.array(layer.scale)


def rescale(user, rng):
    layer = user.layer(rng)
    if layer is not None:
        layer.scale = np.array(layer.scale) * float(rng.choice([0.5, 2]))


def change_unit(user, rng):
    layer = user.layer(rng)
    if layer is not None:
        layer.units = (str(rng.choice(_UNITS)),) * layer.ndim


def transform(user, rng):
    """Drag a layer on the canvas with napari's tool for it."""
    layer = user.layer(rng, Image | Labels)
    if layer is not None and layer.visible:
        user.viewer.layers.selection.active = layer
        layer.mode = "transform"
        user.drag(rng)
        layer.mode = "pan_zoom"


# -- the view --------------------------------------------------------------------------------------


def transpose(user, rng):
    user.viewer.dims.transpose()


def roll(user, rng):
    user.viewer.dims.roll()


def three_d(user, rng):
    user.viewer.dims.ndisplay = 5 - user.viewer.dims.ndisplay


def theme(user, rng):
    user.viewer.theme = "light" if user.viewer.theme == "dark" else "dark"


def grid(user, rng):
    user.viewer.canvas.grid.enabled = not user.viewer.canvas.grid.enabled


def slide(user, rng):
    axis = integers(rng, 0, user.viewer.dims.ndim)
    low, high, _ = user.viewer.dims.range[axis]
    user.viewer.dims.set_point(axis, rng.uniform(low, high))


def zoom(user, rng):
    user.viewer.scene.camera.zoom *= float(rng.choice([0.5, 2]))


def reset_view(user, rng):
    user.viewer.reset_view()


def resize(user, rng):
    width, height = rng.integers((900, 550), (1366, 768))
    user.viewer.window.resize(int(width), int(height))


# -- layers of the user ----------------------------------------------------------------------------


def add(user, rng):
    shapes = (SHAPE, SHAPE, SHAPE[1:], (2, *SHAPE))
    values = random_array(rng, shapes[integers(rng, 0, 4)], 3)
    adding = (user.viewer.add_image, user.viewer.add_labels)[integers(rng, 0, 2)]
    scale = (1.0, *SPACING)[-values.ndim :]
    placed = {"scale": scale, "units": ("nm",) * values.ndim}
    user.renamed.add(id(adding(values, name="mine", **(placed if chance(rng, 0.7) else {}))))


def add_with_button(user, rng):
    """One of the three buttons above the list of layers."""
    buttons = user.viewer.window._qt_viewer.layerButtons
    name = ("newPointsButton", "newShapesButton", "newLabelsButton")[integers(rng, 0, 3)]
    before = set(map(id, user.viewer.layers))
    getattr(buttons, name).click()
    user.renamed |= {id(layer) for layer in user.viewer.layers} - before


def save_and_open(user, rng):
    """Save the chosen layers, and open what was written."""
    chosen = user.choose(rng, 2, Image | Labels)
    folder = user.folder.parent / f"saved-{len(user.log)}"
    folder.mkdir(exist_ok=True)
    path = folder / ("saved.tif" if len(chosen) == 1 else "saved")
    # Refused for some data, in words: that is napari's writer.
    with contextlib.suppress(ValueError, OSError):
        user.viewer.layers.save(str(path), selected=True)
    before = set(map(id, user.viewer.layers))
    for written in sorted(path for path in folder.rglob("*.tif")):
        user.viewer.open(str(written), plugin="napari")
    user.renamed |= {id(layer) for layer in user.viewer.layers} - before


def drop_file(user, rng):
    """Drop a file on the canvas: an image of the project, if it is a TIFF, or another one."""
    paths = [user.folder.parent / f"{name}.tif" for name in ("source", "target", "second")]
    paths = [path for path in paths if path.exists()]
    if not paths or chance(rng, 0.3):
        paths = [user.folder.parent / "found.tif"]
        tifffile.imwrite(paths[0], random_array(rng, SHAPE, 255))
    before = set(map(id, user.viewer.layers))
    drop(user.viewer, [paths[integers(rng, 0, len(paths))]])
    user.renamed |= {id(layer) for layer in user.viewer.layers} - before


def edit_shapes(user, rng):
    """Drag or delete shapes with napari's own tools, those of the dock, too."""
    layer = user.layer(rng, Shapes)
    if layer is None:
        return
    user.viewer.layers.selection.active = layer
    layer.mode = str(rng.choice(["select", "direct", "add_rectangle"]))
    user.drag(rng)
    if chance(rng, 0.3):
        layer.selected_data = set(range(len(layer.data)))
        user.press("Delete")
    layer.mode = "pan_zoom"


# -- painting --------------------------------------------------------------------------------------


def stroke(user, rng):
    """A drag over the canvas, with whatever tool is active."""
    user.drag(rng)


def undo_within_stroke(user, rng):
    """Press a key in the middle of a stroke."""
    key = str(rng.choice(["Ctrl-Z", "U", "N", "Escape", "K", "H", "Shift-N", "Delete"]))
    user.drag(rng, between=lambda: user.press(key))


def look_within_stroke(user, rng):
    """Change the view in the middle of a stroke."""
    change = (roll, transpose, three_d, slide, hide, delete)[integers(rng, 0, 6)]
    user.drag(rng, between=lambda: change(user, rng))


def polygon(user, rng):
    """Draw a polygon; some are never finished."""
    user.press("G")
    for _ in range(integers(rng, 1, 5)):
        user.click(user.point(rng))
    if chance(rng, 0.6):
        user.click(user.point(rng), double=True)


def tool(user, rng):
    user.press(str(rng.choice(["P", "P", "E", "F", "L", "Z", "Q", "G"])))


def digit(user, rng):
    user.press(str(rng.integers(1, 7)))


def number(user, rng):
    """Type into napari's box of the label, or step it."""
    if user.painting is not None:
        user.painting.selected_label = integers(rng, 0, 300)


def options(user, rng):
    """Napari's other settings of painting."""
    layer = user.painting
    if layer is None:
        return
    layer.n_edit_dimensions = integers(rng, 2, 4)
    layer.contiguous = chance(rng, 0.5)
    layer.preserve_labels = chance(rng, 0.3)
    layer.brush_size = integers(rng, 1, 20)


def undo_stroke(user, rng):
    for _ in range(integers(rng, 1, 4)):
        user.press("Ctrl-Z" if chance(rng, 0.7) else "Ctrl-Shift-Z")


def undo_in_layer(user, rng):
    """Undo as other plugins do it, on whichever layer is active."""
    layer = user.viewer.layers.selection.active
    if isinstance(layer, Labels | Shapes) and layer.editable and hasattr(layer, "undo"):
        (layer.undo if chance(rng, 0.7) else layer.redo)()


def wait(user, rng):
    QTest.qWait(integers(rng, 20, 200))


ACTIONS = (
    (rename, 2),
    (delete, 3),
    (delete_all, 0.5),
    (reorder, 3),
    (hide, 3),
    (select, 2),
    (opacity, 1),
    (_menu("duplicate"), 1),
    (_menu("split_stack", Image, 1), 0.2),
    (_menu("merge_stack", Image), 0.5),
    (_menu("convert_to_labels", Image), 1),
    (_menu("convert_to_image", Labels), 1),
    (_menu("convert_to_uint16", Labels, 1), 0.3),
    (_menu("toggle_visibility"), 1),
    (_menu("show_selected"), 0.5),
    (_menu("hide_unselected"), 0.7),
    (_menu("show_unselected"), 0.7),
    (_menu("link_selected_layers"), 0.5),
    (_menu("toggle_lock"), 0.3),
    (_menu("bounding_box"), 0.3),
    (move, 1.5),
    (rescale, 1.5),
    (change_unit, 1),
    (transform, 1),
    (transpose, 1.5),
    (roll, 1.5),
    (three_d, 1.5),
    (theme, 0.5),
    (grid, 0.7),
    (slide, 2),
    (zoom, 1),
    (reset_view, 1),
    (resize, 0.5),
    (add, 1),
    (add_with_button, 1),
    (save_and_open, 1),
    (drop_file, 1.5),
    (edit_shapes, 1),
    (stroke, 8),
    (undo_within_stroke, 1.5),
    (look_within_stroke, 1),
    (polygon, 1.5),
    (tool, 2),
    (digit, 1),
    (number, 1),
    (options, 1),
    (undo_stroke, 2),
    (undo_in_layer, 1),
    (wait, 0.5),
)

"""Checks after each action: where paint went, what the canvas shows, and that nothing is lost."""

from dataclasses import dataclass, field

import numpy as np
from napari.layers import Labels

from napari_emda._gui.common.layer_order import PREFIX
from tests.viewer.chaos.drawn import (
    flat,
    likeness,
    photograph,
    pixels_of,
    section_of,
    stored_image,
    visual_of,
)
from tests.viewer.chaos.projects import painted

# The end of a sequence, within a stroke or after it.
CLOSING = "closing"
# Actions that paint in the patch on view, by whichever tool is active.
PAINTING = {
    CLOSING,
    "stroke",
    "undo_within_stroke",
    "look_within_stroke",
    "polygon",
    "correct",
    "click_canvas",
    "undo_stroke",
    "undo_in_layer",
    "transform",
    "draw",
}
# Actions that decide, or take decisions back: they write patches as a whole.
DECIDED = {"done": "accepted", "skip": "skipped", "unsure": "unsure"}
DECIDING = {*DECIDED, "partial", "delete_patch"}
TAKING_BACK = {"undo", "redo", "undo_within_stroke"}
# Correlation of the canvas with a random section from which on it is a picture of that section.
# By chance, 256 voxels reach 0.2 once in a thousand times.
_IS_PICTURE = 0.4
# Distance in voxels between two layers at which one of them is in the wrong place.
_APART = 0.6


@dataclass
class State:
    """What is there between two actions."""

    painted: dict
    regions: dict
    current: object = None
    outside: bool = False
    seen: dict = field(default_factory=dict)


class Watch:
    """Compares the state before and after each action.

    Args:
        user: who acts.
    """

    def __init__(self, user):
        self.user = user
        self._images = {}

    def state(self):
        """What is there now."""
        user = self.user
        if user.opened is None:
            return State(painted(user.folder), {})
        regions = {region.id: region for region in user.opened.project.regions.all()}
        outside = user.patches is not None and user.patches.paint.tools.outside
        state = State(painted(user.folder), regions, user.current, outside)
        if user.current is not None and isinstance(user.painting, Labels):
            state.seen = self._seen(user.current)
        return state

    def wrong(self, action, before, now):
        """Sentences about what is wrong after an action."""
        wrong = list(self._paint(action, before, now))
        if self.user.opened is None:
            return wrong
        wrong += self._nothing_lost(action, before, now)
        wrong += self._layers()
        current = now.current
        come = current is not None and (before.current is None or before.current.id != current.id)
        if come or (current is not None and action in ("next", "back", "click_list")):
            wrong += self._on_view(current)
        return wrong

    # -- paint -------------------------------------------------------------------------------

    def _paint(self, action, before, now):
        """Paint goes nowhere but into the patch, and into the volume that is seen there."""
        for volume, values in now.painted.items():
            old = before.painted.get(volume)
            changed = values != (0 if old is None else old)
            if changed.any():
                yield from self.changed(action, before, volume, changed)
        for volume, old in before.painted.items():
            if volume not in now.painted and old.any():
                yield f"{action}: the annotations of {volume} are gone"

    def changed(self, action, before, volume, changed):
        """Sentences about paint that an action has changed where it may not."""
        allowed = np.zeros_like(changed)
        kept = np.zeros_like(changed)
        for region in before.regions.values():
            if region.volume == volume and region.strategy != "imported" and region.annotated:
                kept[region.voxels.slices] = True
        current = before.current
        mine = current is not None and current.volume == volume
        if mine and (action in PAINTING | DECIDING or current.annotated):
            allowed[current.voxels.slices] = True
            kept[current.voxels.slices] = False
        if action in TAKING_BACK or action in ("import_labels", "wait"):
            allowed[:] = True
            kept[:] = False
        elif action in PAINTING and self._anywhere(before, volume, action):
            allowed[:] = True
        what = f"{action} changed {int(changed.sum())} voxels of {volume}"
        where = f"current {None if current is None else (current.volume, current.box)}"
        if (changed & ~allowed).any():
            yield f"{what}, {int((changed & ~allowed).sum())} of them where it may not; {where}"
        if (changed & kept).any():
            yield f"{what}, {int((changed & kept).sum())} of them in patches that are done; {where}"
        if action in ("stroke", "polygon") and mine and before.seen:
            seen_before = before.seen.get(volume, 0.0)
            other, most = max(before.seen.items(), key=lambda item: item[1])
            if other != volume and most > _IS_PICTURE and most > seen_before:
                yield f"{what} over the picture of {other} ({most:.2f}, its own {seen_before:.2f})"

    def _anywhere(self, before, volume, action):
        """Whether the brush may leave the patch: in the volume of the patch, or on view."""
        if not before.outside and action not in ("undo_stroke", "undo_in_layer"):
            return False
        return before.current is None or before.current.volume == volume

    # -- what is on the canvas ---------------------------------------------------------------

    def _seen(self, region):
        layer = self.user.opened.output("annotations", region.volume)
        if layer is None or visual_of(self.user, layer) is None:
            return {}
        return likeness(self.user, region, layer, self._pictures())

    def _pictures(self):
        entries = self.user.opened.project.volumes.entries
        for entry in entries:
            if entry.name not in self._images:
                self._images[entry.name] = stored_image(self.user, entry.name)
        return self._images

    def _on_view(self, region):
        """A patch that was opened is on view, in its volume's picture, with nothing over it."""
        user = self.user
        opened = user.opened
        image = opened.image(region.volume)
        if image is None or not image.visible:
            yield f"the patch of {region.volume} was opened without its picture"
            return
        layers = user.viewer.layers
        above = [layer for layer in layers[layers.index(image) + 1 :] if layer.visible]
        covering = [layer for layer in above if not opened.is_output(layer)]
        if any(opened.is_volume(layer) for layer in covering):
            yield f"another volume lies over the patch of {region.volume}"
        annotations = opened.output("annotations", region.volume)
        if annotations is None or section_of(annotations) != region.voxels.start[0]:
            yield f"another section than that of the patch of {region.volume} is on view"
            return
        rectangles = opened.output("patches", region.volume)
        corner = np.array(region.voxels.start) - (0, 0.5, 0.5)
        if not any(np.allclose(shape[0], corner) for shape in rectangles.data):
            yield f"the patch of {region.volume} has no rectangle where it is"
        seen = self._seen(region)
        if covering or image.opacity < 1 or not seen:
            return
        if seen.get(region.volume, 0) < _IS_PICTURE:
            dark = photograph(user).std() < 1
            yield f"the patch of {region.volume} is not seen on the canvas: {seen}, dark {dark}"

    def _layers(self):
        """Layers are where the dock believes them, have the names it gives, and lie in place."""
        user = self.user
        opened = user.opened
        layers = user.viewer.layers
        for volume in opened.volumes:
            image = opened.image(volume)
            if image is not None and image not in layers:
                yield f"the dock believes in a layer of {volume} that is not there"
            if image is None and volume not in opened.missing:
                yield f"{volume} has no layer, and the dock does not say so"
        several = len(opened.project.volumes.targets()) > 1
        for (role, volume), layer in list(opened._outputs.items()):
            if layer not in layers:
                yield f"the dock believes in the layer {role} of {volume} that is not there"
                continue
            named = layer.name.startswith(PREFIX) and (not several or volume in layer.name)
            if not named and id(layer) not in user.renamed:
                yield f"the {role} of {volume} is called '{layer.name}'"
            yield from self._in_place(role, volume, layer)

    def _in_place(self, role, volume, layer):
        """A layer of a volume lies on its image, voxel by voxel."""
        user = self.user
        image = user.opened.image(volume)
        if role.startswith("preview") or image is None or not flat(user):
            return
        if not (image.visible and layer.visible and layer.ndim == image.ndim == 3):
            return
        if visual_of(user, image) is None or visual_of(user, layer) is None:
            return
        if role == "patches":
            return
        if section_of(image) is None or section_of(layer) is None:
            return
        rows = np.array([0, 10, 0, 10])
        columns = np.array([0, 0, 10, 10])
        first = pixels_of(user, image, rows, columns)
        second = pixels_of(user, layer, rows, columns)
        voxel = np.linalg.norm(first[3] - first[0]) / np.sqrt(200)
        apart = np.abs(first - second).max() / max(voxel, 1e-9)
        if apart > _APART:
            yield f"the {role} of {volume} lies {apart:.1f} voxels beside the image"
        if section_of(image) != section_of(layer):
            yield (
                f"the {role} of {volume} shows section {section_of(layer)}, its image "
                f"{section_of(image)}"
            )

    # -- nothing is lost ---------------------------------------------------------------------

    def _nothing_lost(self, action, before, now):
        """A decision is recorded, and stays what it is until it is taken back."""
        if action in DECIDED and before.current is not None:
            state = now.regions[before.current.id].state
            if state != DECIDED[action]:
                yield f"{action}: the patch is {state}, not {DECIDED[action]}"
        for name, old in before.regions.items():
            new = now.regions.get(name)
            if new is None:
                yield f"{action}: the patch {name} is gone"
            elif old.state != new.state and old.state not in ("suggested", "replaced"):
                mine = before.current is not None and before.current.id == name
                if action not in TAKING_BACK and not (mine and action in DECIDING):
                    yield f"{action}: the patch {name} was {old.state} and is {new.state}"

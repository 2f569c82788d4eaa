"""The layers that show objects: all of them as outlines, and the one that is looked at. No Qt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from napari.layers import Points
from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap, label_colormap
from napari.utils.colormaps.standardize_color import transform_color
from numpy.typing import NDArray

from napari_emda._gui.common.copies import CopiedAsArray
from napari_emda._gui.common.outlined_labels import OutlinedLabels
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import outline_width
from napari_emda.objects.edited import EditedObjects

ALL = "objects"
"""Role of the layer of all objects."""
ONE = "object"
"""Role of the layer of the object that is looked at."""
SEEDS = "seeds"
"""Role of the points of a split."""
LIVE = "preview of objects"
"""Role of the objects of the section on view by settings that were not applied yet."""
ROLES = (ALL, ONE, SEEDS, LIVE)

# The object that is looked at, and the one that it may be merged with: yellow and magenta are seen
# on grey values, and differ for those who cannot tell red from green. Outlines, because the image
# inside is what one judges by.
_OUTLINED = 0.9
_FILLED = 0.4
_COLOURS = {None: "transparent", 1: "#ffd400", 2: "#ff2fd0"}
# All others have colours that differ from these by more than this, with red, green and blue from 0
# to 1, and one of which is as bright as this: dark outlines are not seen on dark objects.
_APART = 0.5
_BRIGHT = 0.6


def colours_of_all() -> CyclicLabelColormap:
    """Colours of labels, without dark ones and those that look like the object on view."""
    colours = label_colormap().colors
    highlights = np.concatenate([transform_color(colour) for colour in (_COLOURS[1], _COLOURS[2])])
    distances = np.linalg.norm(colours[:, None, :3] - highlights[None, :, :3], axis=-1)
    keep = (distances.min(axis=1) > _APART) & (colours[:, :3].max(axis=1) > _BRIGHT)
    keep[0] = True  # the background's
    return CyclicLabelColormap(colors=colours[keep])


class ObjectsOnView(CopiedAsArray):
    """Ids of objects, or of their outlines; the last section that was read is kept.

    Two layers show each section, and a section of a large volume takes a while to decode. Outlines
    are drawn here: napari's own take ten times as long, at each change of the view.

    Args:
        objects: ids, uint32 (z, y, x); read lazily.
        width: of outlines in pixels; 0 for filled areas.

    Attributes:
        objects: may be replaced by others of the same shape.
        width: may be changed; the next slice follows it.
    """

    def __init__(self, objects: EditedObjects, width: int = 0) -> None:
        super().__init__(objects.shape, np.uint32)
        self.objects = objects
        self.width = width
        self._last: tuple[Any, NDArray[np.uint32]] | None = None

    def forget(self) -> None:
        """Read again, because the objects have changed."""
        self._last = None

    def whole(self, z: slice, y: slice, x: slice) -> NDArray[np.uint32]:
        """The ids of the objects, filled."""
        key = tuple((part.start, part.stop, part.step) for part in (z, y, x))
        last = self._last
        if last is None or last[0] != key:
            # Assigned at once: a worker thread may be reading, too.
            self._last = last = key, self.objects[z, y, x]
        return last[1]

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint32]:
        ids = self.whole(z, y, x)
        # In 3-D, outlines of sections would be hulls with holes.
        if not self.width or len(ids) > 1:
            return ids
        return np.where(outlines(ids, self.width), ids, np.uint32(0))


def outlines(ids: NDArray[np.generic], width: int) -> NDArray[np.bool_]:
    """Pixels of objects from which another object or background is near along a row or column.

    Args:
        ids: (z, y, x) of objects; sections are outlined one by one.
        width: how near, in pixels; narrower parts of objects are outlines as a whole.
    """
    edges = np.zeros(ids.shape, bool)
    for axis in (1, 2):
        for near in {1, width}:
            before = tuple(slice(None, -near if a == axis else None) for a in range(3))
            after = tuple(slice(near if a == axis else None, None) for a in range(3))
            differs = ids[before] != ids[after]
            edges[before] |= differs
            edges[after] |= differs
    return edges & (ids != 0)


class Marked(CopiedAsArray):
    """Outlines of some objects, as numbers from 1 in the order of naming, uint8 (z, y, x).

    Args:
        view: of all objects.

    Attributes:
        ids: of the objects.
        width: of the outlines in pixels.
    """

    def __init__(self, view: ObjectsOnView, width: int) -> None:
        super().__init__(view.shape, np.uint8)
        self.view = view
        self.width = width
        self.ids: tuple[int, ...] = ()

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        ids = self.view.whole(z, y, x)
        marked = np.zeros(ids.shape, np.uint8)
        for number, object_id in enumerate(self.ids, start=1):
            mask = ids == object_id
            # In 3-D, outlines of sections would be hulls with holes.
            seen = mask if len(ids) > 1 else outlines(mask, self.width)
            marked[seen] = number
        return marked


class ObjectLayers:
    """The layers of the objects of a volume.

    Args:
        opened: the project.
        volume: name of the volume.
        objects: ids, read lazily.
    """

    def __init__(self, opened: OpenProject, volume: str, objects: EditedObjects) -> None:
        self._opened = opened
        self.volume = volume
        # As wide as those of the mask: seen while a whole section is in view.
        self._width = outline_width(objects.shape)
        self.view, self.marked = self._shown_before(objects) or self._new(objects)

    def _new(self, objects: EditedObjects) -> tuple[ObjectsOnView, Marked]:
        view = ObjectsOnView(objects, self._width)
        # Seen around the outlines of all.
        return view, Marked(view, self._width + 1)

    def _shown_before(self, objects: EditedObjects) -> tuple[ObjectsOnView, Marked] | None:
        """What the layers of other objects of the volume show, with these in their place.

        napari takes a third of a second to add or remove a layer.
        """
        layers = [self._opened.output(role, self.volume) for role in (ALL, ONE)]
        view, marked = (None if layer is None else layer.data for layer in layers)
        if not isinstance(view, ObjectsOnView) or not isinstance(marked, Marked):
            return None
        if view.shape != objects.shape or marked.view is not view:
            return None
        view.objects = objects
        view.forget()
        marked.ids = ()
        return view, marked

    def show(self) -> None:
        """Add the layers, or show them again."""
        for _ in self.showing():
            pass

    def showing(self) -> Iterator[None]:
        """The steps of `show`, for `Session.in_turns`: a new layer takes a while to draw."""
        opened = self._opened
        place = opened.place(self.volume).arguments()
        if opened.output(ALL, self.volume) is None:
            layer = OutlinedLabels(
                self.view,
                name=opened.called(ALL, self.volume),
                multiscale=False,
                colormap=colours_of_all(),
                opacity=_OUTLINED,
                **place,
            )
            layer.editable = False
            opened.add_output(ALL, self.volume, layer)
            yield
        if opened.output(ONE, self.volume) is None:
            colours = DirectLabelColormap(color_dict=_COLOURS)
            one = OutlinedLabels(
                self.marked,
                name=opened.called(ONE, self.volume),
                multiscale=False,
                colormap=colours,
                opacity=1.0,
                **place,
            )
            one.editable = False
            opened.add_output(ONE, self.volume, one)
            yield
        self.set_visible(True)
        self.refresh()
        # Their keys act while one of them is selected.
        opened.viewer.layers.selection.active = opened.output(ALL, self.volume)

    def set_visible(self, visible: bool) -> None:
        """Show or hide the layers."""
        for role in (ALL, ONE, SEEDS):
            layer = self._opened.output(role, self.volume)
            if layer is not None and layer.visible != visible:
                layer.visible = visible

    @property
    def visible(self) -> bool:
        """Whether the objects are shown."""
        layer = self._opened.output(ALL, self.volume)
        return layer is not None and bool(layer.visible)

    def mark(self, *ids: int) -> None:
        """Highlight objects."""
        self.marked.ids = ids
        self._refresh(ONE)

    def refresh(self) -> None:
        """Draw again, because objects have changed."""
        self.view.forget()
        self._refresh(ALL)
        self._refresh(ONE)

    def _refresh(self, role: str) -> None:
        layer = self._opened.output(role, self.volume)
        # A hidden layer is read when it is shown.
        if layer is not None and layer.visible:
            layer.refresh()

    def toggle_outlines(self) -> None:
        """Filled areas instead of outlines, and back."""
        self.view.width = 0 if self.view.width else self._width
        layer = self._opened.output(ALL, self.volume)
        if layer is not None:
            layer.opacity = _OUTLINED if self.view.width else _FILLED
        self._refresh(ALL)

    def show_seeds(self, seeds: list[tuple[int, int, int]]) -> None:
        """Show where the user has clicked to split an object."""
        opened = self._opened
        opened.remove_output(SEEDS, self.volume)
        if not seeds:
            return
        points = Points(
            np.array(seeds, float),
            name=opened.called(SEEDS, self.volume),
            size=6,
            face_color="#00e5ff",
            border_color="black",
            **opened.place(self.volume).arguments(),
        )
        points.editable = False
        opened.add_output(SEEDS, self.volume, points)

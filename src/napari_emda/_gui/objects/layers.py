"""The layers that show objects: all of them as outlines, and the one that is looked at. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Points
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_emda._gui.common.copies import CopiedAsArray
from napari_emda._gui.common.outlined_labels import OutlinedLabels
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import draw_outlines
from napari_emda.data.array import Array

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
_COLOURS = {None: "transparent", 1: "#ffd400", 2: "#ff2fd0"}


class ObjectsOnView(CopiedAsArray):
    """Ids of objects, of which the last section that was read is kept.

    Two layers show each section, and a section of a large volume takes a while to decode.

    Args:
        objects: ids, uint32 (z, y, x); read lazily.
    """

    def __init__(self, objects: Array) -> None:
        z, y, x = objects.shape
        super().__init__((z, y, x), np.uint32)
        self.objects = objects
        self._last: tuple[Any, NDArray[np.uint32]] | None = None

    def forget(self) -> None:
        """Read again, because the objects have changed."""
        self._last = None

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint32]:
        key = tuple((part.start, part.stop, part.step) for part in (z, y, x))
        last = self._last
        if last is None or last[0] != key:
            # Assigned at once: a worker thread may be reading, too.
            self._last = last = key, np.asarray(self.objects[z, y, x])
        return last[1]


class Marked(CopiedAsArray):
    """Some objects, as numbers from 1 in the order in which they are named, uint8 (z, y, x).

    Attributes:
        ids: of the objects.
    """

    def __init__(self, view: ObjectsOnView) -> None:
        super().__init__(view.shape, np.uint8)
        self.view = view
        self.ids: tuple[int, ...] = ()

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint8]:
        ids = self.view[z, y, x]
        marked = np.zeros(ids.shape, np.uint8)
        for number, object_id in enumerate(self.ids, start=1):
            marked[ids == object_id] = number
        return marked


class ObjectLayers:
    """The layers of the objects of a volume.

    Args:
        opened: the project.
        volume: name of the volume.
        objects: ids, read lazily.
    """

    def __init__(self, opened: OpenProject, volume: str, objects: Array) -> None:
        self._opened = opened
        self.volume = volume
        self.view = ObjectsOnView(objects)
        self.marked = Marked(self.view)

    def show(self) -> None:
        """Add the layers, or show them again."""
        opened = self._opened
        place = opened.place(self.volume).arguments()
        if opened.output(ALL, self.volume) is None:
            layer = OutlinedLabels(
                self.view, name=opened.called(ALL, self.volume), multiscale=False, **place
            )
            draw_outlines(layer, outlines=True)
            layer.editable = False
            opened.add_output(ALL, self.volume, layer)
        if opened.output(ONE, self.volume) is None:
            colours = DirectLabelColormap(color_dict=_COLOURS)
            one = OutlinedLabels(
                self.marked,
                name=opened.called(ONE, self.volume),
                multiscale=False,
                colormap=colours,
                **place,
            )
            draw_outlines(one, outlines=True)
            # Seen around the outlines of all.
            one.contour += 1
            one.editable = False
            opened.add_output(ONE, self.volume, one)
        self.set_visible(True)
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
        layer = self._opened.output(ALL, self.volume)
        if isinstance(layer, OutlinedLabels):
            draw_outlines(layer, outlines=layer.contour == 0)

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
            # Seen from the sections above and below as well.
            out_of_slice_display=True,
            **opened.place(self.volume).arguments(),
        )
        points.editable = False
        opened.add_output(SEEDS, self.volume, points)

    def remove(self) -> None:
        """Remove the layers."""
        for role in ROLES:
            self._opened.remove_output(role, self.volume)

"""The patches as rectangles in the viewer: coloured by score, to be clicked, and drawn by the user. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from napari.layers import Shapes
from numpy.typing import NDArray

from napari_emda._gui.common.adapters import show, show_sections
from napari_emda._gui.common.palette import score_colours
from napari_emda._gui.session import Session
from napari_emda.data.box import Box
from napari_emda.project.regions import IMPORTED, Region

SMALLEST = 8
"""Pixels along a side of a patch that the user draws."""


class Rectangles:
    """One layer of rectangles per volume.

    Args:
        session: whose viewer.
        drawn: called with the volume and box of a rectangle that the user has drawn.
    """

    def __init__(self, session: Session, drawn: Callable[[str, Box], None]) -> None:
        self._session, self._drawn = session, drawn
        self._shown: list[Region] = []
        self._drawing = ""

    def show(self, regions: Sequence[Region], latest: int) -> None:
        """Show the patches of all rounds; scores are coloured within the latest round."""
        self._end_drawing()  # a rectangle of ours must not be taken for one of the user's
        hidden = ("skipped", "unsure", "replaced")
        self._shown = [r for r in regions if r.state not in hidden and r.strategy != IMPORTED]
        scores = [r.score for r in self._shown if r.round == latest and r.state == "suggested"] or [
            0.0
        ]
        volumes = {region.volume for region in regions}
        for volume in volumes:
            own = [region for region in self._shown if region.volume == volume]
            self._draw(volume, own, (min(scores), max(scores)))

    def _draw(self, volume: str, regions: list[Region], limits: tuple[float, float]) -> None:
        layer = self._layer(volume)
        corners = [rectangle(region.voxels) for region in regions]
        scores = [min(max(region.score, limits[0]), limits[1]) for region in regions]
        colours = score_colours(scores, [region.state for region in regions], limits)
        if len(corners) == len(layer.data) and all(map(np.array_equal, corners, layer.data)):
            layer.edge_color = colours  # drawing them anew takes ten times as long
        else:
            layer.data = []
            if corners:
                layer.add_rectangles(
                    corners,
                    edge_color=colours,
                    face_color="transparent",
                    edge_width=list(map(width, regions)),
                )
        layer.selected_data = set()
        layer.mode = "pan_zoom"

    def _layer(self, volume: str) -> Shapes:
        session = self._session
        layer = session.output(
            "patches",
            volume,
            lambda: Shapes(
                ndim=3,
                name=session.called("suggested patches", volume),
                face_color="transparent",
                **session.place_to_paint(volume).arguments(),
            ),
        )
        assert isinstance(layer, Shapes)
        return layer

    def reveal(self, volume: str) -> None:
        """Show the rectangles of a volume, if it has any."""
        layer = self._session.output("patches", volume)
        if layer is not None:
            show(layer)

    # -- clicks --------------------------------------------------------------------------------------------------

    def at(self, point: Sequence[float]) -> Region | None:
        """The patch at a point of the world, the latest on top; of volumes that are on view."""
        viewer = self._session.viewer
        for region in reversed(self._shown):
            image = self._session.image(region.volume)
            if image is None or not image.visible:
                continue
            place = self._session.place(region.volume)
            index = np.round(place.to_index(viewer, point))
            if all(
                a <= i < b
                for i, a, b in zip(index, region.voxels.start, region.voxels.stop, strict=True)
            ):
                return region
        return None

    def clicks(self, chosen: Callable[[Region], None]) -> Callable[[Any, Any], Iterator[None]]:
        """A mouse callback for the viewer: a click in a rectangle chooses it, unless a layer's tool is at work."""

        def on_press(viewer: Any, event: Any) -> Iterator[None]:
            active = viewer.layers.selection.active
            idle = active is None or str(getattr(active, "mode", "pan_zoom")) == "pan_zoom"
            yield
            moved = False
            while event.type == "mouse_move":
                moved = True
                yield
            region = self.at(event.position) if idle and not moved and event.button == 1 else None
            if region is not None:
                chosen(region)

        return on_press

    # -- the user's own ------------------------------------------------------------------------------------------

    def begin_drawing(self, volume: str) -> None:
        """Let the user draw one rectangle in the section on view."""
        show_sections(self._session.viewer)
        layer = self._layer(volume)
        self._session.place_to_paint(volume).apply(layer)
        show(layer)
        self._session.viewer.layers.selection.active = layer
        layer.mode = "add_rectangle"
        self._end_drawing()
        self._drawing = volume
        layer.events.data.connect(self._on_data)

    def _end_drawing(self) -> str:
        """Expect no rectangle of the user's any more; returns the volume in which one was expected."""
        volume, self._drawing = self._drawing, ""
        layer = self._session.output("patches", volume)
        if layer is not None:
            layer.events.data.disconnect(self._on_data)
        return volume

    def _on_data(self, event: Any) -> None:
        if str(event.action) != "added":
            return
        volume = self._end_drawing()
        corners = np.asarray(self._layer(volume).data[-1])
        self._drawn(volume, box_of(corners, self._session.shape(volume)))


def width(region: Region) -> float:
    """Of a patch's outline, in pixels of its volume."""
    return max(0.5, max(region.voxels.shape) / 80)


def rectangle(box: Box) -> NDArray[np.float64]:
    """The outline of a patch in voxel coordinates: its four corners in its first section."""
    z0, _, y0, y1, x0, x1 = box.bounds
    low_y, high_y, low_x, high_x = y0 - 0.5, y1 - 0.5, x0 - 0.5, x1 - 0.5
    return np.array(
        [[z0, low_y, low_x], [z0, low_y, high_x], [z0, high_y, high_x], [z0, high_y, low_x]]
    )


def box_of(corners: NDArray[Any], shape: tuple[int, int, int]) -> Box:
    """The voxels of one section from one corner of a drawn rectangle to the other, as far as the volume goes."""
    low, high = (
        np.round(corners.min(0)).astype(int).tolist(),
        np.round(corners.max(0)).astype(int).tolist(),
    )
    z = min(max(low[0], 0), shape[0] - 1)
    return Box((z, low[1], low[2]), (z + 1, high[1] + 1, high[2] + 1)).clip(shape)

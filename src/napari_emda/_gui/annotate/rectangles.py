"""Rectangles around the patches: coloured by score, clicked, and drawn by the user. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from napari.layers import Shapes
from numpy.typing import NDArray

from napari_emda._gui.common.adapters import show, show_sections, stay_in_section
from napari_emda._gui.common.mouse import MouseCallback, on_click
from napari_emda._gui.common.palette import score_colours
from napari_emda._gui.open_project import OpenProject
from napari_emda.data.box import Box
from napari_emda.project.region import Region

# Least side in pixels of a patch that the user draws; a smaller one was drawn by mistake.
SMALLEST = 8
# Width of an outline as a share of the patch's longest side. A patch fills most of the canvas when
# it is annotated, so the outline is as wide on the screen for small patches and large ones.
_WIDTH = 1 / 80
# Least width of an outline in pixels of the volume; a thinner one is not visible.
_THINNEST = 0.5


class Rectangles:
    """One layer of rectangles per volume.

    Args:
        opened: the project with the patches.
        drawn: called with the volume and box of a rectangle that the user has drawn.
    """

    def __init__(self, opened: OpenProject, drawn: Callable[[str, Box], None]) -> None:
        self._opened = opened
        self._drawn = drawn
        self._shown: list[Region] = []
        self._drawing = ""
        self._section: int | None = None  # where the slider was while a patch is drawn

    def show(self, regions: Sequence[Region], latest: int, current: Region | None = None) -> None:
        """Show the patches of all rounds; the colours span the scores of the latest round.

        Args:
            regions: of the project; those that were put aside are not shown.
            latest: number of the latest round.
            current: the patch on view, which is shown in any case.
        """
        # Rectangles that are added below must not be taken for one that the user has drawn.
        self._end_drawing()
        hidden = ("skipped", "unsure", "replaced")
        on_view = "" if current is None else current.id
        drawn = [r for r in regions if r.is_patch]
        self._shown = [r for r in drawn if r.state not in hidden or r.id == on_view]
        scores = [r.score for r in self._shown if r.round == latest and r.state == "suggested"]
        limits = (min(scores, default=0.0), max(scores, default=0.0))
        for volume in {region.volume for region in regions}:
            in_volume = [region for region in self._shown if region.volume == volume]
            self._draw(volume, in_volume, limits)

    def _draw(self, volume: str, regions: list[Region], limits: tuple[float, float]) -> None:
        layer = self._layer(volume)
        corners = [rectangle(region.voxels) for region in regions]
        scores = [min(max(region.score, limits[0]), limits[1]) for region in regions]
        colours = score_colours(scores, [region.state for region in regions], limits)
        if len(corners) == len(layer.data) and all(map(np.array_equal, corners, layer.data)):
            # Recolouring takes a tenth of the time of drawing them again.
            layer.edge_color = colours
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
        _protect(layer)

    def _layer(self, volume: str) -> Shapes:
        opened = self._opened
        layer = opened.output("patches", volume)
        if isinstance(layer, Shapes):
            return layer
        return opened.add_output("patches", volume, self._new(volume))

    def _new(self, volume: str) -> Shapes:
        return Shapes(
            ndim=3,
            name=self._opened.called("patches", volume),
            face_color="transparent",
            **self._opened.place_to_paint(volume).arguments(),
        )

    def prepare(self, volume: str) -> Iterator[None]:
        """Make the layer of a volume, which has no rectangle yet: drawing a new one takes long."""
        if self._opened.output("patches", volume) is not None:
            return
        layer = self._new(volume)
        yield
        # Suggestions may have come meanwhile, and have made it.
        if self._opened.output("patches", volume) is None:
            self._opened.add_output("patches", volume, layer)

    def has(self, region: Region) -> bool:
        """Whether a patch has its rectangle."""
        layer = self._opened.output("patches", region.volume)
        return layer is not None and any(region.id == other.id for other in self._shown)

    def reveal(self, volume: str) -> None:
        """Show the rectangles of a volume, if it has any."""
        layer = self._opened.output("patches", volume)
        if layer is not None:
            show(layer)

    # -- clicks ------------------------------------------------------------------------------

    def at(self, point: Sequence[float]) -> Region | None:
        """The patch at a point of the world, the latest on top; of volumes that are on view."""
        opened = self._opened
        for region in reversed(self._shown):
            image = opened.image(region.volume)
            if image is None or not image.visible:
                continue
            index = np.round(opened.place(region.volume).to_index(opened.viewer, point))
            bounds = zip(index, region.voxels.start, region.voxels.stop, strict=True)
            if all(start <= i < stop for i, start, stop in bounds):
                return region
        return None

    def clicks(self, chosen: Callable[[Region], None]) -> MouseCallback:
        """A mouse callback: a click chooses a rectangle, unless a layer's tool is in use."""

        def clicked(point: Sequence[float]) -> None:
            region = self.at(point)
            if region is not None:
                chosen(region)

        # A click while a tool is active belongs to the tool.
        def idle(viewer: Any) -> bool:
            active = viewer.layers.selection.active
            return active is None or str(getattr(active, "mode", "pan_zoom")) == "pan_zoom"

        return on_click(clicked, idle)

    # -- drawing ----------------------------------------------------------------------

    def begin_drawing(self, volume: str) -> None:
        """Let the user draw one rectangle in the current section."""
        show_sections(self._opened.viewer)
        layer = self._layer(volume)
        self._opened.place_to_paint(volume).apply(layer)
        show(layer)
        self._opened.viewer.layers.selection.active = layer
        layer.editable = True
        layer.mode = "add_rectangle"
        self._end_drawing()
        self._drawing = volume
        self._section = None
        layer.events.data.connect(self._on_data)
        self._opened.viewer.dims.events.point.connect(self._on_point)
        self._on_point()

    def stop_drawing(self) -> bool:
        """Give up drawing; returns whether the user was about to draw."""
        volume = self._end_drawing()
        layer = self._opened.output("patches", volume)
        if isinstance(layer, Shapes):
            _protect(layer)
        return bool(volume)

    def _end_drawing(self) -> str:
        """Stop waiting for a rectangle of the user; returns the volume that it was for."""
        volume = self._drawing
        self._drawing = ""
        layer = self._opened.output("patches", volume)
        if layer is not None:
            layer.events.data.disconnect(self._on_data)
        self._opened.viewer.dims.events.point.disconnect(self._on_point)
        return volume

    def _on_point(self) -> None:
        # napari stores corners as float32. Between two sections they differ from the slider's
        # float64, so that napari misses the rectangle that it has just begun, and raises.
        placement = self._opened.place(self._drawing)
        self._section = stay_in_section(self._opened.viewer, placement, self._section)

    def _on_data(self, event: Any) -> None:
        # napari emits this event for every step of the drawing; "added" is the last one.
        if str(event.action) != "added":
            return
        volume = self._end_drawing()
        corners = np.asarray(self._layer(volume).data[-1])
        self._drawn(volume, box_of(corners, self._opened.shape(volume)))


def _protect(layer: Shapes) -> None:
    """Put the tool away, and take napari's tools from the user.

    A rectangle that was dragged or deleted would no longer be where its patch is.
    """
    layer.mode = "pan_zoom"
    layer.editable = False


def width(region: Region) -> float:
    """Width of a patch's outline, in pixels of its volume."""
    return max(_THINNEST, max(region.voxels.shape) * _WIDTH)


def rectangle(box: Box) -> NDArray[np.float64]:
    """The four corners of a patch in its first section, in voxel coordinates (z, y, x)."""
    z0, _, y0, y1, x0, x1 = box.bounds
    corners = [[z0, y0, x0], [z0, y0, x1], [z0, y1, x1], [z0, y1, x0]]
    # Voxel i extends from i - 0.5 to i + 0.5.
    return np.array(corners) - (0, 0.5, 0.5)


def box_of(corners: NDArray[Any], shape: tuple[int, int, int]) -> Box:
    """The voxels in a drawn rectangle, in one section and within the volume."""
    low = np.round(corners.min(0)).astype(int).tolist()
    high = np.round(corners.max(0)).astype(int).tolist()
    z = min(max(low[0], 0), shape[0] - 1)
    return Box((z, low[1], low[2]), (z + 1, high[1] + 1, high[2] + 1)).clip(shape)

"""Tools that correct the patch on view by object: clicks with a preview, and the smart brush."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer

from napari_emda._gui.annotate.annotation_layer import AnnotationLayer
from napari_emda._gui.annotate.correction_preview import CorrectionPreview
from napari_emda._gui.annotate.patch_sections import PatchSections
from napari_emda._gui.annotate.patches import Patches
from napari_emda._gui.common.adapters import show
from napari_emda._gui.common.mouse import on_click
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.session import Session
from napari_emda.data.box import Box
from napari_emda.objects.between import interpolated
from napari_emda.objects.clicks import Correction
from napari_emda.objects.flood import Pixel
from napari_emda.project.region import Region

OBJECTS = "objects"
BETWEEN = "between"
# Milliseconds between previews while the mouse moves: five times as long as one takes in a patch of
# usual size, so that the window answers.
_PATIENCE = 30
_CURSOR = "cross"
_HELP = {
    OBJECTS: "Click an object to drop it, or a missed one to add it; [ and ] make it smaller and "
    "larger, Escape puts the tool away.",
    BETWEEN: "Click where the object is: its outline is taken from annotated sections before and "
    "behind; Escape puts the tool away.",
}


@dataclass(frozen=True)
class _Target:
    """A pixel of a section of the patch."""

    z: int
    pixel: Pixel


@dataclass(frozen=True)
class _Applied:
    """The last correction, as long as nothing else was painted."""

    stroke: object
    z: int
    correction: Correction


class ClickTools(QObject):
    """The tools of the patch on view that correct by object.

    Args:
        session: shows messages.
        opened: the project.
        patches: one of which may be on view.
    """

    def __init__(self, session: Session, opened: OpenProject, patches: Patches) -> None:
        super().__init__()
        self._session = session
        self._opened = opened
        self._patches = patches
        self._tools = patches.paint.tools
        self._view = CorrectionPreview(opened)
        self._sections: PatchSections | None = None
        self._point: Sequence[float] | None = None
        self._pressed: Region | None = None
        self._shown: tuple[_Target, Correction | None] | None = None
        self._applied: _Applied | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PATIENCE)
        self._timer.timeout.connect(self._preview)
        patches.changed.connect(self._on_patches)
        patches.paint.painted.connect(self._on_painted)
        self._tools.changed.connect(self._on_tools)
        session.project_changed.connect(self.forget)
        self._snap()

    def close(self) -> None:
        """Leave the tools, which outlive the project, and the mouse to others."""
        self._timer.stop()
        self._tools.changed.disconnect(self._on_tools)
        self._session.project_changed.disconnect(self.forget)

    # -- choosing a tool ---------------------------------------------------------------------

    def take(self, clicks: str) -> None:
        """Take the tool that corrects objects, or the one that interpolates."""
        self._tools.take_clicks(clicks)
        layer = self._layer()
        if layer is None:
            self._session.say("No patch is on view: go to the next one (N) to correct it.")
            return
        self._opened.viewer.layers.selection.active = layer
        show(layer)
        layer.mode = "pan_zoom"
        layer.cursor = _CURSOR
        self._prepare()
        self._session.say(_HELP[clicks])

    def take_brush(self, *, snaps: bool) -> None:
        """Take the brush, which keeps to edges or does not."""
        self._tools.take_brush(snaps=snaps)
        self._patches.paint.use(self._patches.volume(), "paint")

    def leave(self) -> bool:
        """Put the tool in use away; returns whether there was one."""
        layer = self._layer()
        if not self._tools.clicks or layer is None:
            return False
        self._tools.take_clicks("")
        layer.cursor = "standard"
        return True

    def _on_tools(self) -> None:
        self._snap()
        self._hide()
        self._look_again()

    def _on_patches(self) -> None:
        self._sections = None
        self._applied = None
        self._snap()
        self._hide()
        layer = self._layer()
        if layer is not None and self._tools.clicks:
            layer.cursor = _CURSOR
            self._prepare()

    def _on_painted(self) -> None:
        self._hide()

    def forget(self) -> None:
        """Read the map and the annotations again: the project has changed."""
        self._sections = None

    # -- the mouse ---------------------------------------------------------------------------

    def callbacks(self) -> list[tuple[list[Any], Any]]:
        """What to call, and the viewer's list of callbacks that it belongs to."""
        viewer = self._opened.viewer

        def moved(viewer: Any, event: Any) -> None:
            if self._tools.clicks:
                self._point = tuple(event.position)
                self._look_again()

        return [
            (viewer.mouse_move_callbacks, moved),
            (viewer.mouse_drag_callbacks, on_click(self._click, self._press)),
        ]

    def _press(self, viewer: Any) -> bool:
        """Whether a click that begins is one of the tool."""
        self._pressed = self._patches.current
        return self._is_in_hand()

    def _is_in_hand(self) -> bool:
        layer = self._layer()
        active = self._opened.viewer.layers.selection.active
        return bool(self._tools.clicks) and layer is not None and active is layer

    def _click(self, point: Sequence[float]) -> None:
        # A click may have led to another patch meanwhile.
        if self._patches.current is not self._pressed:
            return
        target = self._target(point)
        if target is None:
            # A click on another patch goes to that one.
            if self._patches.rectangles.at(point) is None:
                self._session.say("Click inside the patch; Escape puts the tool away.")
            return
        self._session.moved_on.emit()
        with self._session.showing_errors():
            correction = self._correction(target)
            if correction is None or not correction.changes.any():
                self._session.say(self._why_not(correction))
                return
            self._apply(target.z, correction)

    def _why_not(self, correction: Correction | None) -> str:
        sections = self._current()
        if correction is not None:
            return "That is as it would be already."
        if not self._tools.class_index:
            return "Background is chosen: choose the class of the object, such as 2."
        if self._tools.clicks == BETWEEN:
            if sections is not None and sections.sections_are_independent:
                return "The images are independent: there is nothing between two of them."
            return (
                "No such object is annotated here both before and behind this section: annotate it "
                "in both, up to 10 sections away."
            )
        if sections is not None and sections.is_predicted:
            return "The model finds nothing here: paint it with the smart brush (S)."
        if self._opened.auditing:
            return "In an audit the prediction does not help: paint with a brush (P or S)."
        return "This patch is not predicted: press Predict, or paint with a brush (P or S)."

    # -- sizes -------------------------------------------------------------------------------

    def resize(self, by: int) -> None:
        """Make the object under the mouse larger or smaller; without a tool, the brush."""
        target = self._target(self._point) if self._point is not None else None
        layer = self._layer()
        if self._tools.clicks != OBJECTS or not self._is_in_hand():
            if layer is not None and not self._tools.clicks:
                layer.brush_size = max(1, layer.brush_size + by)
        elif target is not None:
            with self._session.showing_errors():
                self._resize(target, by)

    def _resize(self, target: _Target, by: int) -> None:
        sections = self._current()
        layer = self._layer()
        if sections is None or layer is None:
            return
        applied = self._applied
        if applied is not None and self._is_last(applied, layer, target):
            resized = applied.correction.resized(by)
            if resized is not applied.correction and resized.step != applied.correction.step:
                # One stroke, however often it is resized.
                layer.undo()
                self._apply(target.z, resized)
            return
        correction = sections.clicks(target.z).resize(sections.paint(target.z), target.pixel, by)
        if correction is not None:
            self._apply(target.z, correction)
        elif self._shown is not None and self._shown[0] == target and self._shown[1] is not None:
            self._show(target, self._shown[1].resized(by))
        else:
            self._session.say("There is no object under the mouse that the model knows.")

    @staticmethod
    def _is_last(applied: _Applied, layer: AnnotationLayer, target: _Target) -> bool:
        """Whether the last correction was at this pixel, and nothing was painted since."""
        if applied.stroke is not layer.draft.strokes.latest or applied.z != target.z:
            return False
        return applied.correction.flood is not None and bool(
            applied.correction.flood.levels[target.pixel]
        )

    # -- corrections -------------------------------------------------------------------------

    def _correction(self, target: _Target) -> Correction | None:
        """What a click would do; as previewed, if it is."""
        if self._shown is not None and self._shown[0] == target and self._shown[1] is not None:
            return self._shown[1]
        sections = self._current()
        if sections is None:
            return None
        class_id = self._tools.class_index
        if self._tools.clicks == OBJECTS:
            paint = sections.paint(target.z)
            return sections.clicks(target.z).click(paint, target.pixel, class_id)
        if not class_id or sections.sections_are_independent:
            return None
        shape = sections.between(target.z, target.pixel, class_id)
        if shape is None:
            return None
        return interpolated(sections.paint(target.z), shape, class_id)

    def _apply(self, z: int, correction: Correction) -> None:
        sections = self._current()
        layer = self._layer()
        if sections is None or layer is None or not correction.changes.any():
            return
        before = layer.draft.strokes.latest
        layer.correct(sections.box(z), correction.values[None])
        stroke = layer.draft.strokes.latest
        if stroke is not None and stroke is not before:
            self._applied = _Applied(stroke, z, correction)

    # -- the preview -------------------------------------------------------------------------

    def _look_again(self) -> None:
        # Not restarted at each move: it would wait for the mouse to rest.
        if self._tools.clicks and not self._timer.isActive():
            self._timer.start()

    def _preview(self) -> None:
        point = self._point
        target = self._target(point) if point is not None and self._is_in_hand() else None
        if target is None:
            self._hide()
            return
        if self._shown is not None and self._shown[0] == target:
            return
        # What was just corrected is looked at without an outline over it.
        applied = self._applied
        if (
            applied is not None
            and applied.z == target.z
            and applied.correction.changes[target.pixel]
        ):
            self._hide()
            return
        with self._session.showing_errors():
            self._show(target, self._correction(target))

    def _show(self, target: _Target, correction: Correction | None) -> None:
        """Outline what a click would do, in the colour that it would paint."""
        self._hide()
        self._shown = (target, correction)
        sections = self._current()
        if correction is None or sections is None:
            return
        box = sections.box(target.z)
        self._view.show(sections.region.volume, box, correction.values[None])

    def _prepare(self) -> None:
        region = self._patches.current
        if region is not None and self._tools.clicks:
            z = region.voxels.start[0]
            self._view.prepare(region.volume, region.voxels.in_sections(z, z + 1))

    def _hide(self) -> None:
        self._shown = None
        self._view.hide()

    # -- where -------------------------------------------------------------------------------

    def _layer(self) -> AnnotationLayer | None:
        region = self._patches.current
        layer = None if region is None else self._opened.output("annotations", region.volume)
        return layer if isinstance(layer, AnnotationLayer) else None

    def _current(self) -> PatchSections | None:
        """The sections of the patch on view; None if there is none."""
        region = self._patches.current
        layer = self._layer()
        if region is None or layer is None:
            return None
        if self._sections is None or self._sections.region is not region:
            self._sections = PatchSections(self._opened, region, layer.draft)
        return self._sections

    def _target(self, point: Sequence[float]) -> _Target | None:
        """The pixel of the patch at a point of the world; None outside of it."""
        region = self._patches.current
        viewer = self._opened.viewer
        if region is None or viewer.dims.ndisplay != 2:
            return None
        index = self._opened.place(region.volume).to_index(viewer, point)
        z, y, x = (round(i) for i in index)
        box = region.voxels
        if not all(a <= i < b for i, a, b in zip((z, y, x), box.start, box.stop, strict=True)):
            return None
        return _Target(z, (y - box.start[1], x - box.start[2]))

    # -- the smart brush ---------------------------------------------------------------------

    def _snap(self) -> None:
        layer = self._layer()
        if layer is not None:
            layer.snapping = self._snapped if self._tools.snaps else None

    def _snapped(
        self, dab: NDArray[np.bool_], box: Box, centre: list[int]
    ) -> tuple[NDArray[np.bool_], Box] | None:
        """Round a dab to areas between edges, if its centre lies in the patch."""
        sections = self._current()
        if sections is None:
            return None
        patch = sections.region.voxels
        if not all(a <= i < b for i, a, b in zip(centre, patch.start, patch.stop, strict=True)):
            return None
        _, top, left = patch.start
        corner = (box.start[1] - top, box.start[2] - left)
        areas = sections.areas(centre[0], self._tools.brush)
        mask, (y, x) = areas.snapped(dab, corner, (centre[1] - top, centre[2] - left))
        height, width = mask.shape
        start = (centre[0], y + top, x + left)
        return mask, Box(start, (centre[0] + 1, start[1] + height, start[2] + width))

"""The labels layer of the annotations: napari's tools, held to the patch and to the classes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from psygnal import Signal

from napari_emda._gui.annotate.draft import Draft
from napari_emda._gui.common.outlined_labels import OutlinedLabels
from napari_emda.data.box import Box

# In napari's status bar, instead of its list of tools with their digits: those choose classes here.
_HELP = "digits choose the class, P paint, E erase, F fill, Z move, Ctrl-Z undo, K done, N next"

_BEYOND = "The section on view lies beyond the volume: move the slider back, or press Next (N)."


Snapping = Callable[[NDArray[np.bool_], Box, list[int]], tuple[NDArray[np.bool_], Box] | None]
"""Rounds a dab: from its mask (y, x), its box and its centre (z, y, x) in voxels, to another mask
and box; None leaves it as it is."""


class AnnotationLayer(OutlinedLabels):
    """Paints nowhere but where its `Draft` allows it, and nothing but classes.

    Strokes are taken back by the draft's own history, which is exact.

    Args:
        draft: the voxels.
        arguments: of `napari.layers.Labels`.

    Attributes:
        snapping: rounds dabs of the brush to areas between edges; None for a plain brush.
    """

    refused = Signal(str)
    """A tool could change nothing; why, in a sentence."""

    def __init__(self, draft: Draft, **arguments: Any) -> None:
        # Before napari's own part, which sets the label.
        self._highest = draft.highest
        self._out_of_reach = False
        self._beyond = False
        self.snapping: Snapping | None = None
        super().__init__(draft, multiscale=False, **arguments)
        self.mouse_drag_callbacks.append(_explain)

    @property
    def draft(self) -> Draft:
        """The voxels, which know where may be painted."""
        draft = self.data
        assert isinstance(draft, Draft)
        return draft

    @property
    def data(self) -> Any:
        """The draft. Labels that are assigned are painted in the patch on view."""
        return Labels.data.fget(self)

    @data.setter
    def data(self, data: Any) -> None:
        if isinstance(data, Draft):
            Labels.data.fset(self, data)
            return
        # In place of the draft, they could be painted in and would never reach the disk.
        draft = self.draft
        patch = draft.patch
        if tuple(getattr(data, "shape", ())) != draft.shape:
            size = " x ".join(map(str, draft.shape))
            self.refused.emit(f"The annotations have {size} voxels, and only such labels fit.")
        elif patch is None:
            self.refused.emit("No patch is on view: go to the next one (N) to paint labels in it.")
        else:
            draft[patch.slices] = np.asarray(data[patch.slices])
            self.refresh()
            self.events.paint(value=[])
            self.refused.emit(
                "The labels were painted in the patch on view alone: 'Use existing labels' in "
                "Annotate takes those of the whole volume."
            )

    # -- what napari asks of a layer's class ---------------------------------------------------

    @property
    def help(self) -> str:
        """The text in napari's status bar."""
        return _HELP

    @help.setter
    def help(self, text: str) -> None:
        # napari sets it at every change of the tool.
        self.events.help(help=_HELP)

    # -- nothing but classes -----------------------------------------------------------------

    @property
    def selected_label(self) -> int:
        """The value to paint with: 0 takes paint away, k is class k - 1."""
        label: int = Labels.selected_label.fget(self)
        return label

    @selected_label.setter
    def selected_label(self, label: int) -> None:
        # The keys = and -, the label box and other plugins may ask for any number.
        held = min(max(int(label or 0), 0), self._highest)
        Labels.selected_label.fset(self, held)
        if held != label:
            self.events.selected_label()  # the label box shows what was asked for
            self.refused.emit(
                f"The project has {self._highest} classes: only these can be painted."
            )

    # -- nowhere but in the patch ------------------------------------------------------------

    def _apply_mask_to_data(
        self,
        data: NDArray[Any],
        mask: NDArray[np.bool_],
        new_label: int,
        volume_slice: tuple[slice, ...],
    ) -> NDArray[np.bool_] | None:
        # The draft refuses the same voxels: this keeps napari from showing them until the stroke
        # ends. Without this private method of napari, nothing else would change.
        allowed = mask & self.draft.may_change(volume_slice, new_label)
        if not allowed.any():
            self._out_of_reach = True
            return None
        changed: NDArray[np.bool_] | None = super()._apply_mask_to_data(
            data, allowed, new_label, volume_slice
        )
        return changed

    def paint_polygon(self, points: Any, new_label: int) -> None:
        """Paint a polygon, or say why nothing was painted."""
        self._out_of_reach = False
        if not self._misses(points[0]):
            with self._one_stroke():
                super().paint_polygon(points, new_label)
        self.explain()

    def paint(self, coord: Any, new_label: int, refresh: bool = True) -> None:
        """Paint a dab of the brush."""
        if not self._misses(coord):
            with self._one_stroke():
                super().paint(coord, new_label, refresh)

    def _get_brush_mask_and_bbox(
        self, coord: Any, dims_to_paint: list[int], shape: list[int]
    ) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[Any]] | None:
        # Without this private method of napari, the brush would be a plain one.
        dab = super()._get_brush_mask_and_bbox(coord, dims_to_paint, shape)
        # Only in sections as they are: a ball reaches into others.
        if dab is None or self.snapping is None or list(dims_to_paint) != [1, 2]:
            return dab
        mask, low, high = dab
        z, y, x = (round(float(position)) for position in coord)
        box = Box((z, int(low[0]), int(low[1])), (z + 1, int(high[0]), int(high[1])))
        snapped = self.snapping(mask, box, [z, y, x])
        if snapped is None:
            return dab
        return snapped[0], np.array(snapped[1].start[1:]), np.array(snapped[1].stop[1:])

    def correct(self, box: Box, values: NDArray[np.uint8]) -> None:
        """Paint values as one stroke, or say why nothing was painted.

        Args:
            box: of voxels.
            values: uint8 of the box's shape; 0 where nothing changes.
        """
        if not self.editable:
            self.refused.emit("Annotations are being written: go on when that is done.")
            return
        self._out_of_reach = True
        shown = np.asarray(self.draft[box.slices])
        self.draft[box.slices] = np.where(values > 0, values, shown)
        self.explain()
        self.events.paint(value=[])

    def fill(self, coord: Any, new_label: int, refresh: bool = True) -> None:
        """Fill an area."""
        if not self._misses(coord):
            with self._one_stroke():
                super().fill(coord, new_label, refresh)

    def _misses(self, coord: Any) -> bool:
        """Whether a tool is used in a section beyond the volume, as of a longer one.

        napari paints section -1 into the last one, and fails after the last one.
        """
        _, painted = self._get_shape_and_dims_to_paint()
        self._beyond = any(
            not 0 <= round(float(position)) < length
            for axis, (position, length) in enumerate(zip(coord, self.data.shape, strict=True))
            if axis not in painted
        )
        self._out_of_reach |= self._beyond
        return self._beyond

    def data_setitem(self, indices: Any, value: Any, refresh: bool = True) -> None:
        """Write voxels, as other plugins do."""
        with self._one_stroke():
            super().data_setitem(indices, value, refresh)

    def _one_stroke(self) -> AbstractContextManager[Any]:
        """Announce a stroke when its voxels are written; on its own, napari does it before."""
        under_way: bool = self._block_history
        return nullcontext() if under_way else self.block_history()

    @property
    def _block_history(self) -> bool:
        """Whether a stroke is under way, whichever of napari's tools paints it."""
        return self._is_in_stroke

    @_block_history.setter
    def _block_history(self, value: bool) -> None:
        self._is_in_stroke = value
        # napari sets it first before there are any voxels.
        if isinstance(getattr(self, "_data", None), Draft):
            self.draft.stored.in_stroke = value

    def explain(self) -> None:
        """Say why the last stroke has painted nothing, if so."""
        if self._out_of_reach and not self.draft.strokes.begun:
            self.refused.emit(_BEYOND if self._beyond else self.draft.why_not())
        self._out_of_reach = False
        self._beyond = False

    # -- strokes -----------------------------------------------------------------------------

    def undo(self) -> None:
        """Take back the last stroke in the patch."""
        self._replay(self.draft.undo(), "There is no stroke to undo here; U undoes decisions.")

    def redo(self) -> None:
        """Repeat the stroke that was taken back last."""
        self._replay(self.draft.redo(), "There is no stroke to repeat here.")

    def _replay(self, replayed: bool, nothing: str) -> None:
        if replayed:
            self.refresh()
            self.events.paint(value=[])
        else:
            self.refused.emit(nothing)

    def give_up(self) -> bool:
        """Give up the polygon or area that is being drawn; returns whether there was one."""
        drawn = self._overlays["polygon"].points
        encircled = self._overlays["brush_stroke"]
        under_way = bool(drawn) or encircled.active
        if encircled.active:
            encircled.abort(self)
        self._overlays["polygon"].points = []
        return under_way

    def put_away(self) -> bool:
        """Put the tool in use away; returns whether there was one."""
        used = str(self._mode) != "pan_zoom"
        self.mode = "pan_zoom"
        return used

    def _abort_stroke(self) -> None:
        # Our own history takes the stroke back; napari would write what it had shown.
        self._staged_history: list[Any] = []
        super()._abort_stroke()
        self.draft.abort()
        self.refresh()


def _explain(layer: AnnotationLayer, event: Any) -> Any:
    """A mouse callback: says why a stroke has painted nothing."""
    layer._out_of_reach = False
    yield
    while event.type == "mouse_move":
        yield
    layer.explain()

"""The layers to paint in: annotations on disk, with the proposal for a patch. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from psygnal import Signal

from napari_emda._gui.annotate.annotation_layer import AnnotationLayer
from napari_emda._gui.annotate.draft import Draft
from napari_emda._gui.annotate.seen import seen_instead_of
from napari_emda._gui.annotate.strokes import Strokes
from napari_emda._gui.annotate.tools import Tools
from napari_emda._gui.annotate.working_copy import WorkingCopy
from napari_emda._gui.common.adapters import show
from napari_emda._gui.common.palette import annotation_colours
from napari_emda._gui.open_project import OpenProject
from napari_emda.data.box import Box
from napari_emda.data.label_meaning import MeantLabels
from napari_emda.errors import DataError
from napari_emda.project.region import AUDIT, Region

# The tools that paint with the chosen class: choosing another one leaves them in the hand.
_PAINTS_CLASS = ("paint", "fill", "polygon")

Bytes = NDArray[np.uint8]


class Paint:
    """One annotation layer per volume.

    A patch begins with a proposal, usually the model's prediction (`Draft`). The user sees and
    corrects it, and only *Done* writes it to disk. So trainings use nothing but what the user has
    painted or confirmed.

    Args:
        opened: the project that is annotated.
        tools: the class and the brush to paint with.
    """

    layer_added = Signal(object)
    """A layer was created."""
    painted = Signal()
    """A stroke has ended; it is on disk."""
    said = Signal(str)
    """What a stroke has done, or why it has done nothing, in a sentence."""

    def __init__(self, opened: OpenProject, tools: Tools) -> None:
        self._opened = opened
        self.tools = tools
        # By patch and whether it is decided: the strokes before *Done* are valid again when *Done*
        # is taken back.
        self._strokes: dict[tuple[str, bool], Strokes] = {}
        self._finished: list[Region] = []
        self._in_use: AnnotationLayer | None = None
        tools.class_chosen.connect(self._on_class)
        tools.brush_chosen.connect(self._on_brush)
        tools.changed.connect(self._on_tools)

    # -- layers ------------------------------------------------------------------------------

    def layer(self, volume: str) -> AnnotationLayer:
        """The layer to paint in; its voxels are the project's annotations on disk."""
        shown = self._opened.output("annotations", volume)
        if isinstance(shown, AnnotationLayer):
            return shown
        layer = self._opened.add_output("annotations", volume, self._new_layer(volume))
        layer.events.paint.connect(lambda: self._on_stroke(layer))
        for event in (layer.events.selected_label, layer.events.brush_size):
            event.connect(lambda: self._on_controls(layer))
        layer.events.mode.connect(lambda: self._on_mode(layer))
        layer.refused.connect(self._say)
        self.layer_added.emit(layer)
        return layer

    def _say(self, text: str) -> None:
        self.said.emit(text)

    def _new_layer(self, volume: str) -> AnnotationLayer:
        stored = self._opened.project.annotations.require(volume)
        classes = self._opened.project.classes
        draft = Draft(WorkingCopy(stored), len(classes))
        draft.outside = self.tools.outside
        draft.finished = self._finished_in(volume)
        draft.obstacle = partial(self._obstacle, volume)
        layer = AnnotationLayer(
            draft,
            name=self._opened.called("annotations", volume),
            opacity=0.6,
            colormap=annotation_colours(classes),
            **self._opened.place_to_paint(volume).arguments(),
        )
        self._take_tools(layer)
        return layer

    def _obstacle(self, volume: str) -> str:
        """Why a volume cannot be painted now: the user sees another one there."""
        seen = seen_instead_of(self._opened, volume)
        if seen is None:
            return ""
        return f"You see '{seen}' and would paint in '{volume}': hide '{seen}' to paint."

    def draft(self, volume: str) -> Draft:
        """The data of the annotation layer."""
        return self.layer(volume).draft

    def _on_stroke(self, layer: AnnotationLayer) -> None:
        """Read the layer again after a stroke."""
        draft = layer.draft
        changed = draft.strokes.end(draft.stored)
        # Where a proposal was erased, the disk has background, but napari still shows nothing.
        draft.stored.forget()
        layer.refresh()
        # First, because it withdraws what was said of the stroke before.
        self.painted.emit()
        if changed is not None and draft.outside_of(changed):
            self.said.emit(
                "You painted outside the patch: that paint is kept, and trainings learn from it. "
                "Ctrl-Z takes it back."
            )

    # -- the paint of a patch ------------------------------------------------------------------

    def stored(self, region: Region) -> Bytes:
        """The paint in a patch, as it is on disk."""
        layer = self._existing(region.volume)
        if layer is not None:
            layer.draft.stored.write()  # the stroke that is under way
        # Not from the layer, which the user may have removed.
        return np.asarray(
            self._opened.project.annotations.require(region.volume)[region.voxels.slices]
        )

    def wrong_numbers(self, region: Region) -> str:
        """What is painted in a patch that is no class, in a sentence; empty if nothing is."""
        try:
            self._opened.project.annotations.check(region, self.stored(region))
        except DataError as error:
            return str(error)
        return ""

    def restore(self, region: Region, painted: Bytes) -> None:
        """Write earlier paint of a patch back to disk."""
        self._opened.project.annotations.require(region.volume)[region.voxels.slices] = painted
        layer = self._existing(region.volume)
        if layer is not None:
            layer.draft.stored.forget()

    def of_others(self, region: Region) -> Bytes:
        """The paint in a patch that belongs to other patches that were decided on; 0 elsewhere."""
        kept = np.zeros(region.voxels.shape, np.uint8)
        painted = self.stored(region)
        for other in self._finished:
            common = other.voxels.clip_to(region.voxels)
            if other.volume == region.volume and other.id != region.id and common.size:
                z, y, x = region.voxels.start
                part = common.moved((-z, -y, -x)).slices
                kept[part] = painted[part]
        return kept

    def keep(self, regions: Sequence[Region]) -> None:
        """Keep the patches as they are that were decided on, wherever the brush goes."""
        # Labels that were imported or came of objects are there to be painted over.
        self._finished = [r for r in regions if r.annotated and r.is_patch]
        for volume in {entry.name for entry in self._opened.project.volumes.entries}:
            layer = self._existing(volume)
            if layer is not None:
                layer.draft.finished = self._finished_in(volume)

    def _finished_in(self, volume: str) -> list[Box]:
        return [region.voxels for region in self._finished if region.volume == volume]

    def begin(self, region: Region) -> None:
        """Prepare a patch for painting; call `refresh` to show it."""
        layer = self._in_use = self.layer(region.volume)
        draft = layer.draft
        self._opened.place_to_paint(region.volume).apply(layer)
        # The project may have written to the annotations meanwhile.
        draft.stored.forget()
        draft.patch = region.voxels
        draft.strokes = self._strokes.setdefault((region.id, region.annotated), Strokes())
        # A patch that was decided on shows the decision.
        if not region.annotated:
            draft.set_proposal(region.voxels, self.proposal(region))
        # The brush acts on the selected layer, and napari resets the mode of a hidden one.
        self._opened.viewer.layers.selection.active = layer
        show(layer)
        layer.mode = "pan_zoom" if self.tools.clicks else "paint"
        self._take_tools(layer)

    def end(self, region: Region) -> None:
        """Remove the proposal of a patch; its paint stays. Call `refresh` to show it."""
        # Its own layer, which may have been removed from the viewer.
        layer = self._in_use
        self._in_use = None
        if layer is not None:
            draft = layer.draft
            draft.strokes.end(draft.stored)
            draft.stored.forget()  # the project writes the decision, behind the working copy
            draft.set_proposal(region.voxels, None)
            draft.patch = None
            # Of the volume, for strokes while no patch is on view.
            draft.strokes = self._strokes.setdefault((region.volume, False), Strokes())

    def reread(self) -> None:
        """Show the annotations as they are on disk, because the project has written to them."""
        for layer in self._layers():
            layer.draft.stored.forget()
            layer.refresh()

    @property
    def locked(self) -> bool:
        """Whether painting is disabled, because labels are being imported."""
        return any(not layer.editable for layer in self._layers())

    def is_in_use(self, layer: object) -> bool:
        """Whether a layer is the one that the patch on view is painted in."""
        return layer is not None and layer is self._in_use

    def refresh(self, volume: str) -> None:
        """Redraw the annotations of a volume."""
        layer = self._opened.output("annotations", volume)
        if layer is not None:
            layer.refresh()

    # -- what a patch begins with ------------------------------------------------------------

    def proposal(self, region: Region) -> Bytes | None:
        """What a patch begins with, as paint: class id + 1, 0 for background; None for nothing.

        The patches of an audit begin with nothing: users tend to accept a prediction, and the model
        would be judged too favourably.
        """
        start = self.tools.start
        if region.strategy == AUDIT or start == "nothing":
            return None
        if isinstance(start, MeantLabels) and start.shape == self._opened.shape(region.volume):
            paint: Bytes | None = np.asarray(start[region.voxels.slices])
        else:
            ids = self._opened.project.predictions.in_region(region)
            paint = None if ids is None else ids.astype(np.uint8) + np.uint8(1)
        if paint is None:
            return None
        # Background is proposed as "nothing": unpainted counts as background when the user is done.
        # Labels may hold numbers that are no class.
        proposed = (paint > 1) & (paint <= len(self._opened.project.classes))
        return np.where(proposed, paint, 0).astype(np.uint8)

    # -- strokes and tools ---------------------------------------------------------------------

    def undo_stroke(self, volume: str) -> None:
        """Take back the last stroke in the patch on view."""
        self.layer(volume).undo()

    def redo_stroke(self, volume: str) -> None:
        """Repeat the stroke that was taken back last."""
        self.layer(volume).redo()

    def use(self, volume: str, mode: str) -> None:
        """Take one of napari's tools for the annotations of a volume."""
        self.tools.take_clicks("")
        layer = self.layer(volume)
        self._opened.viewer.layers.selection.active = layer
        show(layer)
        layer.mode = mode

    def put_away(self, volume: str) -> bool:
        """Give up a polygon, or else put the tool away; returns whether there was either."""
        layer = self._existing(volume)
        return layer is not None and (layer.give_up() or layer.put_away())

    # -- class and brush ---------------------------------------------------------------------

    def select_class(self, index: int) -> None:
        """Choose the class to paint with, or say that there is none of that number."""
        classes = len(self._opened.project.classes)
        if 0 <= index < classes:
            self.tools.select_class(index)
        else:
            self._say(f"There is no class {index + 1}: the project has {classes} classes.")

    def _take_tools(self, layer: Labels) -> None:
        layer.selected_label = self.tools.class_index + 1  # 0 is not annotated
        layer.brush_size = self.tools.brush

    def _on_class(self, index: int) -> None:
        for layer in self._layers():
            layer.selected_label = index + 1
            # Choosing a class means that the user wants to paint, not erase or move.
            if layer.mode not in _PAINTS_CLASS and not self.tools.clicks:
                layer.mode = "paint"

    def _on_brush(self, size: int) -> None:
        for layer in self._layers():
            layer.brush_size = size
            layer.mode = "paint"

    def _on_mode(self, layer: AnnotationLayer) -> None:
        """Put the clicks away when one of napari's tools is taken."""
        if self.tools.clicks and layer.mode != "pan_zoom" and layer is self._in_use:
            self.tools.take_clicks("")

    def _on_tools(self) -> None:
        for layer in self._layers():
            layer.draft.outside = self.tools.outside

    def _on_controls(self, layer: AnnotationLayer) -> None:
        """Take over what was chosen in napari's own controls."""
        # 0 takes paint away: the class to go back to stays.
        index = layer.selected_label - 1 if layer.selected_label else self.tools.class_index
        if (index, layer.brush_size) != (self.tools.class_index, self.tools.brush):
            self.tools.note(index, int(layer.brush_size))

    def _existing(self, volume: str) -> AnnotationLayer | None:
        """The annotation layer of a volume; None before it is needed, or if it was removed."""
        layer = self._opened.output("annotations", volume)
        return layer if isinstance(layer, AnnotationLayer) else None

    def _layers(self) -> list[AnnotationLayer]:
        """The existing annotation layers."""
        volumes = (entry.name for entry in self._opened.project.volumes.entries)
        return [layer for layer in map(self._existing, volumes) if layer is not None]

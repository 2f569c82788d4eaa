"""The layers to paint in: annotations on disk, with the proposal for a patch. No Qt."""

from __future__ import annotations

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from psygnal import Signal

from napari_emda._gui.annotate.draft import Draft
from napari_emda._gui.annotate.tools import Tools
from napari_emda._gui.annotate.working_copy import WorkingCopy
from napari_emda._gui.common.adapters import show
from napari_emda._gui.common.layer_volumes import array_of
from napari_emda._gui.common.palette import annotation_colours
from napari_emda._gui.open_project import OpenProject
from napari_emda.project.region import AUDIT, Region

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

    def __init__(self, opened: OpenProject, tools: Tools) -> None:
        self._opened = opened
        self.tools = tools
        tools.class_chosen.connect(self._on_class)
        tools.brush_chosen.connect(self._on_brush)

    # -- layers ------------------------------------------------------------------------------

    def layer(self, volume: str) -> Labels:
        """The layer to paint in; its voxels are the project's annotations on disk."""
        shown = self._opened.output("annotations", volume)
        if isinstance(shown, Labels):
            return shown
        layer = self._opened.add_output("annotations", volume, self._new_layer(volume))
        layer.events.paint.connect(lambda: self._on_stroke(layer))
        self.layer_added.emit(layer)
        return layer

    def _on_stroke(self, layer: Labels) -> None:
        """Read the layer again after a stroke."""
        # Where a proposal was erased, the disk has background, but napari still shows nothing.
        layer.data.stored.forget()
        layer.refresh()
        self.painted.emit()

    def _new_layer(self, volume: str) -> Labels:
        stored = self._opened.project.annotations.require(volume)
        layer = Labels(
            Draft(WorkingCopy(stored)),
            name=self._opened.called("annotations", volume),
            multiscale=False,
            opacity=0.6,
            colormap=annotation_colours(self._opened.project.classes),
            **self._opened.place_to_paint(volume).arguments(),
        )
        self._take_tools(layer)
        return layer

    def draft(self, volume: str) -> Draft:
        """The data of the annotation layer."""
        draft = self.layer(volume).data
        assert isinstance(draft, Draft)
        return draft

    def stored(self, region: Region) -> Bytes:
        """The paint in a patch, as it is on disk."""
        return np.asarray(self.draft(region.volume).stored[region.voxels.slices])

    def restore(self, region: Region, painted: Bytes) -> None:
        """Write earlier paint of a patch back to disk."""
        self.draft(region.volume).stored[region.voxels.slices] = painted

    def begin(self, region: Region) -> None:
        """Prepare a patch for painting; call `refresh` to show it."""
        layer = self.layer(region.volume)
        draft = self.draft(region.volume)
        self._opened.place_to_paint(region.volume).apply(layer)
        # The project may have written to the annotations meanwhile.
        draft.stored.forget()
        # A patch that was decided on shows the decision.
        if not region.annotated:
            draft.set_proposal(region.voxels, self.proposal(region))
        # The brush acts on the selected layer, and napari resets the mode of a hidden one.
        self._opened.viewer.layers.selection.active = layer
        show(layer)
        layer.mode = "paint"
        self._take_tools(layer)
        forget_history(layer)

    def end(self, region: Region) -> None:
        """Remove the proposal of a patch; its paint stays. Call `refresh` to show it."""
        layer = self._opened.output("annotations", region.volume)
        if isinstance(layer, Labels):
            self.tools.brush = int(layer.brush_size)  # napari's own controls may have set it
            draft = self.draft(region.volume)
            draft.stored.forget()  # the project writes the decision, behind the working copy
            draft.set_proposal(region.voxels, None)
            forget_history(layer)

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
        if isinstance(start, Labels) and self._fits(start, region.volume):
            ids: Bytes | None = self._ids(start, region)
        else:
            ids = self._opened.project.predictions.in_region(region)
        # Background is proposed as "nothing": unpainted counts as background when the user is done.
        return None if ids is None else np.where(ids > 0, ids + 1, 0).astype(np.uint8)

    def _fits(self, labels: Labels, volume: str) -> bool:
        return tuple(array_of(labels).shape) == self._opened.shape(volume)

    def _ids(self, labels: Labels, region: Region) -> Bytes:
        """The class ids of labels in a patch; with two classes every label is foreground."""
        values = np.asarray(array_of(labels)[region.voxels.slices])
        classes = len(self._opened.project.classes)
        ids = values > 0 if classes == 2 else np.where(values < classes, values, 0)
        return ids.astype(np.uint8)

    # -- class and brush ---------------------------------------------------------------------

    def select_class(self, index: int) -> None:
        """Choose the class to paint with, if there is one of that number."""
        if 0 <= index < len(self._opened.project.classes):
            self.tools.select_class(index)

    def _take_tools(self, layer: Labels) -> None:
        layer.selected_label = self.tools.class_index + 1  # 0 is not annotated
        layer.brush_size = self.tools.brush

    def _on_class(self, index: int) -> None:
        for layer in self._layers():
            layer.selected_label = index + 1
            # Choosing a class means that the user wants to paint, not erase or move.
            layer.mode = "paint"

    def _on_brush(self, size: int) -> None:
        for layer in self._layers():
            layer.brush_size = size
            layer.mode = "paint"

    def _layers(self) -> list[Labels]:
        """The existing annotation layers."""
        volumes = (entry.name for entry in self._opened.project.volumes.entries)
        layers = (self._opened.output("annotations", volume) for volume in volumes)
        return [layer for layer in layers if isinstance(layer, Labels)]


def forget_history(layer: Labels) -> None:
    """Empty the undo stack of a layer whose voxels were changed behind its back.

    napari's undo would write outdated voxels.
    """
    # Private in napari: without it, Ctrl-Z keeps its old history, which is no reason to fail.
    reset = getattr(layer, "_reset_history", None)
    if reset is not None:
        reset()

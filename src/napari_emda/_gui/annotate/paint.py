"""The layers to paint in: the project's annotations on disk, with what a patch begins with on top. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from psygnal import Signal

from napari_emda._gui.annotate.draft import Draft
from napari_emda._gui.annotate.working_copy import WorkingCopy
from napari_emda._gui.common.adapters import array_of, show
from napari_emda._gui.common.palette import annotation_colours
from napari_emda._gui.session import Session
from napari_emda.project.project import Project
from napari_emda.project.regions import AUDIT, Region

Bytes = NDArray[np.uint8]
BRUSHES = (1, 5, 15, 40)
"""Diameters in pixels."""


class Paint:
    """One annotation layer per volume, and the class and brush to paint with.

    What a patch begins with, as a rule the model's prediction, is a proposal on top of the annotations (`Draft`): it is
    shown and can be corrected, and only *Done* brings it to disk, so that nothing is ever learnt from but what the user
    has painted or confirmed.

    Attributes:
        start: what patches begin with: ``prediction``, ``nothing``, or a layer of labels.
    """

    made = Signal(object)
    """A layer was made."""
    painted = Signal()
    """A stroke is over; it is on disk."""
    chosen = Signal()
    """Another class or brush."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.start: str | Labels = "prediction"
        self.class_index, self.brush = 1, 5

    def _project(self) -> Project:
        project = self._session.project
        assert project is not None
        return project

    # -- layers --------------------------------------------------------------------------------------------------

    def layer(self, volume: str) -> Labels:
        """The layer to paint in; its voxels are the project's annotations on disk."""
        known = self._session.output("annotations", volume)
        if isinstance(known, Labels):
            return known
        layer = self._session.output("annotations", volume, lambda: self._make(volume))
        assert isinstance(layer, Labels)
        layer.events.paint.connect(lambda: self._on_stroke(layer))
        self.made.emit(layer)
        return layer

    def _on_stroke(self, layer: Labels) -> None:
        """Look at the data again: napari shows what was painted, though erasing a proposal has written background."""
        layer.data.stored.forget()
        layer.refresh()
        self.painted.emit()

    def _make(self, volume: str) -> Labels:
        project = self._project()
        stored = project.annotations(volume, create=True)
        assert stored is not None
        layer = Labels(
            Draft(WorkingCopy(stored)),
            name=self._session.called("annotations", volume),
            multiscale=False,
            opacity=0.6,
            colormap=annotation_colours(project.classes),
            **self._session.place_to_paint(volume).arguments(),
        )
        layer.selected_label, layer.brush_size = self.class_index + 1, self.brush
        return layer

    def draft(self, volume: str) -> Draft:
        """What the layer shows."""
        draft = self.layer(volume).data
        assert isinstance(draft, Draft)
        return draft

    def stored(self, region: Region) -> Bytes:
        """What is painted in a patch, as it is on disk."""
        return np.asarray(self.draft(region.volume).stored[region.voxels.slices])

    def restore(self, region: Region, painted: Bytes) -> None:
        """Write back what was painted in a patch before."""
        self.draft(region.volume).stored[region.voxels.slices] = painted

    def begin(self, region: Region) -> None:
        """Make a patch ready to be painted in; `look_again` shows it."""
        layer = self.layer(region.volume)
        self._session.place_to_paint(region.volume).apply(layer)
        self.draft(region.volume).stored.forget()
        if not region.annotated:
            self.draft(region.volume).set_proposal(region.voxels, self.proposal(region))
        self._session.viewer.layers.selection.active = layer
        show(layer)
        layer.mode = "paint"
        layer.selected_label, layer.brush_size = self.class_index + 1, self.brush
        forget_history(layer)

    def end(self, region: Region) -> None:
        """Take away what the patch began with; what was painted stays. `look_again` shows it."""
        layer = self._session.output("annotations", region.volume)
        if isinstance(layer, Labels):
            self.brush = int(layer.brush_size)
            draft = self.draft(region.volume)
            draft.stored.forget()  # what is decided now is written by the project
            draft.set_proposal(region.voxels, None)
            forget_history(layer)

    def look_again(self, volume: str) -> None:
        """Show the annotations of a volume as they are now."""
        layer = self._session.output("annotations", volume)
        if layer is not None:
            layer.refresh()

    # -- what a patch begins with --------------------------------------------------------------------------------

    def proposal(self, region: Region) -> Bytes | None:
        """What a patch begins with as paint: class + 1, 0 for background; None for nothing.

        The patches of an audit begin with nothing: a prediction that the user only nods at would flatter the model.
        """
        if region.strategy == AUDIT or self.start == "nothing":
            return None
        ids = (
            self._labels(region)
            if isinstance(self.start, Labels)
            else self._project().predicted(region)
        )
        return None if ids is None else np.where(ids > 0, ids + 1, 0).astype(np.uint8)

    def _labels(self, region: Region) -> Bytes | None:
        assert isinstance(self.start, Labels)
        labels = array_of(self.start)
        if tuple(labels.shape) != self._session.shape(region.volume):
            return self._project().predicted(region)
        values, classes = np.asarray(labels[region.voxels.slices]), len(self._project().classes)
        return ((values > 0) if classes == 2 else np.where(values < classes, values, 0)).astype(
            np.uint8
        )

    # -- class and brush -----------------------------------------------------------------------------------------

    def _apply(self, **values: Any) -> None:
        project = self._project()
        for entry in project.entries:
            layer = self._session.output("annotations", entry.name)
            if isinstance(layer, Labels):
                for name, value in values.items():
                    setattr(layer, name, value)
        self.chosen.emit()

    def select_class(self, index: int) -> None:
        """Paint with a class from now on."""
        if 0 <= index < len(self._project().classes):
            self.class_index = index
            self._apply(selected_label=index + 1, mode="paint")

    def select_brush(self, size: int) -> None:
        """Paint with a brush of so many pixels from now on."""
        self.brush = size
        self._apply(brush_size=size, mode="paint")

    def next_brush(self) -> None:
        """The next larger of the presets; after the largest the smallest."""
        self.select_brush(next((size for size in BRUSHES if size > self.brush), BRUSHES[0]))


def forget_history(layer: Labels) -> None:
    """Empty the undo stack of a layer whose voxels were changed behind its back: undoing would bring old ones back."""
    reset = getattr(layer, "_reset_history", None)
    if reset is not None:
        reset()

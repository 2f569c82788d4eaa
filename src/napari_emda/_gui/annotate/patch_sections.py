"""What the tools that correct by object see of the patch on view, read once. No Qt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_emda._gui.annotate.draft import Draft
from napari_emda._gui.open_project import OpenProject
from napari_emda.data.box import Box
from napari_emda.objects.between import Outlines, between
from napari_emda.objects.clicks import ObjectClicks
from napari_emda.objects.flood import Mask, Pixel
from napari_emda.objects.supervoxels import Supervoxels, foreground
from napari_emda.project.region import AUDIT, Region

# Sections before and behind that are searched for an annotated outline: farther ones say little.
_FARTHEST = 10


class PatchSections:
    """The sections of a patch: image, map, and the annotations before and behind them.

    Args:
        opened: the project.
        region: the patch.
        draft: its paint.

    Attributes:
        region: the patch.
        is_predicted: whether there is a map that may be used.
    """

    def __init__(self, opened: OpenProject, region: Region, draft: Draft) -> None:
        self.region = region
        self._volume = opened.project.volumes.open(region.volume)
        self._draft = draft
        # The model must not help where it is measured.
        hidden = region.strategy == AUDIT or opened.auditing
        prediction = None
        if region.run and not hidden:
            prediction = opened.project.predictions.of(region.run, region.volume)
        covered = prediction is not None and prediction.predicted.covers(region.voxels)
        self._map = prediction.classes if prediction is not None and covered else None
        self.is_predicted = self._map is not None
        self._clicks: dict[int, ObjectClicks] = {}
        self._areas: dict[tuple[int, int], Supervoxels] = {}
        self._outlines: dict[tuple[int, int], Outlines] = {}

    @property
    def sections_are_independent(self) -> bool:
        """Whether nothing can be told from the sections before and behind."""
        return self._volume.grid.sections_are_independent

    def box(self, z: int) -> Box:
        """The part of the patch in a section."""
        return self.region.voxels.in_sections(z, z + 1)

    def paint(self, z: int) -> NDArray[np.uint8]:
        """What is seen in a section of the patch, uint8 (y, x)."""
        return np.asarray(self._draft[self.box(z).slices])[0]

    def clicks(self, z: int) -> ObjectClicks:
        """What clicks in a section mean."""
        if z not in self._clicks:
            self._clicks[z] = ObjectClicks(self._image(z), self._probabilities(z))
        return self._clicks[z]

    def areas(self, z: int, side: int) -> Supervoxels:
        """Areas between edges in a section, about ``side`` pixels wide."""
        if (z, side) not in self._areas:
            probabilities = self._probabilities(z)
            probability = None if probabilities is None else foreground(probabilities)
            self._areas[z, side] = Supervoxels(self._image(z), probability, side)
        return self._areas[z, side]

    def between(self, z: int, pixel: Pixel, class_id: int) -> Mask | None:
        """The outline of an object in a section, from the nearest annotated ones on both sides.

        Args:
            z: of the section.
            pixel: (y, x) in the patch, in or near the object.
            class_id: of the object, from 1.

        Returns:
            bool (y, x) of the patch; None unless the object is annotated on both sides.
        """
        ends = []
        for step in (-1, 1):
            found = self._annotated(z, step, pixel, class_id)
            if found is None:
                return None
            ends.append(found)
        (first, before), (last, behind) = ends
        return between(before, behind, (z - first) / (last - first))

    def _annotated(self, z: int, step: int, pixel: Pixel, class_id: int) -> tuple[int, Mask] | None:
        """The nearest section in one direction where an object is annotated, and its outline."""
        for other in range(z + step, z + step * (_FARTHEST + 1), step):
            if not 0 <= other < self._volume.shape[0]:
                return None
            if (other, class_id) not in self._outlines:
                # Stored ones alone: a prediction that nobody has corrected says nothing.
                stored = np.asarray(self._draft.stored[self.box(other).slices])[0]
                self._outlines[other, class_id] = Outlines(stored, class_id)
            mask = self._outlines[other, class_id].near(pixel)
            if mask is not None:
                return other, mask
        return None

    def _image(self, z: int) -> NDArray[np.float32]:
        return self._volume.read(self.box(z))[0]

    def _probabilities(self, z: int) -> NDArray[np.uint8] | None:
        if self._map is None:
            return None
        return np.asarray(self._map[(slice(None), *self.box(z).slices)])[:, 0]

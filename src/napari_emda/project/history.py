"""Taking decisions back and repeating them: patches, suggestions, audits, imports, names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_emda.project.annotation_arrays import AnnotationArrays
from napari_emda.project.import_record import ImportRecord
from napari_emda.project.region import Region, outside
from napari_emda.project.regions import Regions
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.undo import Change, ClusterNames, Decision, LabelImport, RegionStates


class History:
    """The decisions of a project, which can be taken back one by one, and repeated.

    Args:
        folder: of the project.
        regions: with the journal.
        arrays: of the annotations.
    """

    def __init__(self, folder: Path, regions: Regions, arrays: AnnotationArrays) -> None:
        self._folder = folder
        self._regions = regions
        self._arrays = arrays

    def undo(self) -> Change | None:
        """Take the latest decision back; returns what was restored, None if there was none."""
        return self._regions.decisions.undo(self._swap)

    def redo(self) -> Change | None:
        """Repeat the decision that was taken back last; returns what was restored, or None."""
        return self._regions.decisions.redo(self._swap)

    def _swap(self, change: Change) -> Change:
        """Restore what a change holds, on disk; returns what there was instead."""
        if isinstance(change, Decision):
            return self._swap_decision(change)
        if isinstance(change, RegionStates):
            now = {region.id: region for region in self._regions.all()}
            back = RegionStates(tuple(now[r.id] for r in change.before if r.id in now), change.what)
            self._regions.record_all(change.before)
            return back
        if isinstance(change, LabelImport):
            return self._swap_import(change)
        run = RunFolder.of(self._folder, change.run)
        names = run.cluster_names()
        run.write_cluster_names(change.names)
        return ClusterNames(change.run, names)

    def _swap_decision(self, change: Decision) -> Decision:
        region = change.before
        array = self._arrays.open_to_write(region.volume)
        if not region.lies_in(array.shape):
            raise outside(region)
        painted = np.array(array[region.voxels.slices])
        back = Decision(self._now(region), painted)
        array[region.voxels.slices] = change.painted
        self._arrays.sync(region.volume, region.voxels)
        self._regions.record(region)
        return back

    def _swap_import(self, change: LabelImport) -> LabelImport:
        region = change.before
        now = self._now(region)
        array = self._arrays.open_to_write(region.volume)
        ImportRecord(self._folder, region.id).swap(array, region.voxels, back=change.done)
        self._arrays.sync(region.volume, region.voxels)
        self._regions.record(region)
        return LabelImport(now, not change.done)

    def swap_taught(self, region: Region, *, back: bool) -> None:
        """Take the annotations back that came of a decision on an object, or repeat them."""
        array = self._arrays.open_to_write(region.volume)
        ImportRecord(self._folder, region.id).swap(array, region.voxels, back=back)
        self._arrays.sync(region.volume, region.voxels)
        state = "replaced" if back else "partial"
        self._regions.record(self._now(region).model_copy(update={"state": state}))

    def forget_taught(self, region: str) -> None:
        """Delete what was kept to repeat the annotations of a decision on an object."""
        ImportRecord(self._folder, region).remove()

    def _now(self, region: Region) -> Region:
        """The region as it is recorded; a decision may have been noted but never carried out."""
        return next((r for r in self._regions.all() if r.id == region.id), region)

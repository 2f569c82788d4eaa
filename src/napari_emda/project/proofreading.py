"""Decisions on the objects that were found: what they change, and what a model learns from them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.lazy import PartOf
from napari_emda.data.probabilities import ClassProbability, class_ids
from napari_emda.errors import DataError, JobError
from napari_emda.objects import taught
from napari_emda.objects.edited import EditedObjects, SingleObject
from napari_emda.objects.edits import Kind, ObjectEdit, Part
from napari_emda.objects.replay import Replay, apply, replay
from napari_emda.objects.splitting import split
from napari_emda.objects.table import Table, object_table
from napari_emda.project.found_objects import FoundObjects
from napari_emda.project.object_edits import Step
from napari_emda.project.predictions import Prediction
from napari_emda.project.project import Project
from napari_emda.project.region import Region
from napari_emda.project.regions import new_id
from napari_emda.project.stored_calibration import described

# What a network sees around an object that is redrawn, in pixels.
_SURROUNDINGS = 16
# Voxels of the box of an object that is read to find its largest section: a tenth of a second.
_LOOKED_THROUGH = 2**22


class Proofreading:
    """The objects of a class in a volume after edits, and decisions on them.

    Every decision is on disk when its method returns. *Good*, *delete* and *split* annotate the
    volume where nothing is annotated yet, so that the next training learns from them.

    Args:
        project: opened exclusively if decisions are to be made.
        found: the objects.
        class_id: of their class, from 1.

    Attributes:
        objects: as they are now.
        replayed: what became of the edits that were there before.

    Raises:
        JobError: the prediction of the objects is gone.
        DataError: their files are damaged.
    """

    def __init__(self, project: Project, found: FoundObjects, class_id: int) -> None:
        self._project = project
        self.found = found
        self.class_id = class_id
        description = found.description
        self.volume = description.volume
        self.class_name = description.classes[class_id]
        self.base = description.identity(class_id)
        self.grid = project.volumes.entry(self.volume).grid
        self._check_prediction()
        self.table = found.table(class_id)
        self.objects = EditedObjects(found.ids(class_id), self.table.extents)
        self.replayed = self.replay()

    @classmethod
    def of(
        cls,
        project: Project,
        run: str | None = None,
        volume: str | None = None,
        class_name: str | None = None,
    ) -> Proofreading:
        """Objects by the names of their run, volume and class; by default latest, first and only.

        Raises:
            JobError: there are none, or see `Proofreading`.
        """
        name = volume or project.volumes.target().name
        found = FoundObjects.of(project.run(run), name)
        return cls(project, found, found.class_id(class_name))

    def _check_prediction(self) -> None:
        """JobError unless the prediction that the objects were found in is still there."""
        description = self.found.description
        run = self._project.run(description.run)
        is_another = described(run, self.volume) != description.prediction
        if is_another or self._project.predictions.of(run.name, self.volume) is None:
            raise JobError(
                f"The prediction that the objects of '{self.volume}' were found in is gone or was "
                "replaced: find the objects again; edits are carried over."
            )

    def _check_unchanged(self) -> None:
        """JobError if these objects, or their prediction, are no longer those on the disk."""
        self._check_prediction()
        run = self._project.run(self.found.description.run)
        if FoundObjects.of(run, self.volume).description != self.found.description:
            raise JobError(
                f"The objects of '{self.volume}' were found anew meanwhile, and nothing was "
                "changed: decide on the new ones."
            )

    @property
    def prediction(self) -> Prediction:
        """The prediction that the objects were found in; JobError if it is gone."""
        run = self.found.description.run
        prediction = self._project.predictions.of(run, self.volume)
        if prediction is None:
            raise JobError(
                f"The prediction of '{self.volume}' by run '{run}' is gone: predict it again."
            )
        return prediction

    def replay(self) -> Replay:
        """Carry all edits in effect out again; returns what became of them."""
        edits = self._project.object_edits.of(self.volume, self.class_name)
        self.objects.reset()
        unfinished = self._unfinished(edits)
        if unfinished is not None:
            edits = edits[:-1]
        self.replayed = replayed = replay(self.objects, edits, self.base, self._cut)
        if unfinished is not None:
            # A crash came between the edit and what it teaches.
            self._carry_out(unfinished)
            replayed.done.append(unfinished)
        return replayed

    def _unfinished(self, edits: Sequence[ObjectEdit]) -> ObjectEdit | None:
        """The last edit, if it is of these objects and its annotations were never written."""
        if not edits or edits[-1].base != self.base or not _teaches(edits[-1]):
            return None
        regions = {region.id for region in self._project.regions.all()}
        return None if edits[-1].region in regions else edits[-1]

    def _cut(self, objects: EditedObjects, object_id: int, seeds: Sequence[Sequence[int]]) -> Part:
        # Opened where it is needed: most edits can do without it.
        prediction = self.prediction
        probability = ClassProbability(prediction.reported, self.class_id)
        return split(objects, object_id, seeds, self.grid, probability, prediction.object_maps)

    def queue(self) -> Table:
        """How suspicious the objects are on which no decision was made yet.

        Returns:
            Rows of `napari_emda.objects.suspicion.find_suspicious`, in the order of their ids.
        """
        table = self.queue_of_found
        objects = self.objects
        left = np.isin(table["id"], objects.ids)
        keep = left & ~np.isin(table["id"], list(objects.decided))
        return {name: column[keep] for name, column in table.items()}

    @cached_property
    def queue_of_found(self) -> Table:
        """As `queue`, of all objects that were found, decided on or not."""
        ids = self.table.columns["id"].astype(np.int64)
        return self.found.queue(self.class_id, ids)

    def measure(self, object_id: int) -> dict[str, float]:
        """What the table says of an object, measured now."""
        mask = SingleObject(self.objects, object_id)
        stored = ClassProbability(self.prediction.reported, self.class_id)
        table = object_table(mask, self.grid, PartOf(stored, mask.box))
        return {name: float(column[0]) for name, column in table.items()}

    def at(self, voxel: Sequence[int]) -> int:
        """The id of the object at a voxel (z, y, x); 0 for the background and outside."""
        if any(not 0 <= i < n for i, n in zip(voxel, self.objects.shape, strict=True)):
            return 0
        return int(self.objects.at(np.array([voxel]))[0])

    def largest_section(self, object_id: int) -> Box:
        """The box of an object in the section in which it is largest.

        Of an object that would take long to read, the box around the middle of it.
        """
        self.objects.check(object_id)
        box = self.objects.box(object_id)
        if box.size > _LOOKED_THROUGH:
            sample = self.objects.reference(object_id).sampled
            z = int(sample[len(sample) // 2, 0])
            return Box((z, *box.start[1:]), (z + 1, *box.stop[1:]))
        return self._largest_section(object_id)

    # -- decisions ---------------------------------------------------------------------------

    def delete(self, object_id: int) -> ObjectEdit:
        """It is no object: background."""
        return self._decide("delete", [object_id])

    def merge(self, first: int, second: int) -> ObjectEdit:
        """Two objects are one, which keeps the id of the first."""
        if first == second:
            raise DataError(f"Object {first} cannot be merged with itself: choose another one.")
        return self._decide("merge", [first, second])

    def split(self, object_id: int, seeds: Sequence[Sequence[int]]) -> ObjectEdit:
        """An object is two, with a seed in each (z, y, x); the smaller gets a new id."""
        self._check_prediction()
        part = self._cut(self.objects, object_id, seeds)
        first, second = (tuple(map(int, seed)) for seed in seeds)
        return self._decide("split", [object_id], seeds=(first, second), part=part)

    def good(self, object_id: int) -> ObjectEdit:
        """The outline of an object is right."""
        return self._decide("good", [object_id])

    def redraw(self, object_id: int) -> tuple[ObjectEdit, Region]:
        """The outline of an object is wrong: a patch to paint it in, where it is largest."""
        self._check_unchanged()
        self.objects.check(object_id)
        z0, z1, y0, y1, x0, x1 = self.largest_section(object_id).bounds
        wider = Box(
            (z0, y0 - _SURROUNDINGS, x0 - _SURROUNDINGS),
            (z1, y1 + _SURROUNDINGS, x1 + _SURROUNDINGS),
        )
        box = wider.clip(self.objects.shape)
        region = self._project.regions.add(self.volume, box, self.found.description.run)
        return self._decide("redraw", [object_id], region=region.id), region

    def _decide(self, kind: Kind, ids: Sequence[int], **values: object) -> ObjectEdit:
        project = self._project
        edit = ObjectEdit.model_validate(
            {
                "id": new_id(),
                "kind": kind,
                "volume": self.volume,
                "class_name": self.class_name,
                "run": self.found.description.run,
                "base": self.base,
                "objects": tuple(map(self.objects.reference, ids)),
                "region": new_id() if kind in _TEACHING else "",
                "time": time.time(),
                **values,
            }
        )
        # After reading: objects that were found anew have taken the place of these since.
        self._check_unchanged()
        # What was taken back belongs to another course of events from here on.
        for undone in project.object_edits.read().undone:
            if _teaches(undone):
                project.history.forget_taught(undone.region)
        # Before it is carried out: a crash in between loses nothing, see `replay`.
        project.object_edits.add(edit)
        self._carry_out(edit)
        return edit

    def _carry_out(self, edit: ObjectEdit) -> None:
        """Change the objects, and annotate what follows from it."""
        first = edit.ids[0]
        objects = self.objects
        box = taught.box_with_rim(objects, first, self.grid)
        teach = self._project.annotations.teach
        if edit.kind == "good":
            labels = taught.of_good(objects, first, self.class_id, self.grid, self._predicted)
            teach(edit.region, self.volume, box, labels)
        elif edit.kind == "delete":
            teach(edit.region, self.volume, box, taught.of_deleted(objects, first))
        apply(objects, edit)
        if edit.kind == "split":
            ids = (first, int(objects.ids.max()))
            # A model that predicts contours learns that objects touch; others need a gap.
            has_contours = self.prediction.object_maps is not None
            labels = taught.of_split(objects, ids, self.class_id, self.grid, gap=not has_contours)
            teach(edit.region, self.volume, box, labels)

    def _predicted(self, box: Box) -> NDArray[np.uint8]:
        probabilities = np.asarray(self.prediction.reported[(slice(None), *box.slices)])
        return class_ids(probabilities, self.found.description.settings.threshold)

    def _largest_section(self, object_id: int) -> Box:
        sections: dict[int, tuple[int, Box]] = {}
        for box, mask in self.objects.masks(object_id):
            for index in np.flatnonzero(mask.any(axis=(1, 2))):
                rows, columns = np.nonzero(mask[index])
                z = box.start[0] + int(index)
                low = (z, box.start[1] + int(rows.min()), box.start[2] + int(columns.min()))
                high = (z + 1, box.start[1] + int(rows.max()) + 1)
                here = Box(low, (*high, box.start[2] + int(columns.max()) + 1))
                count, before = sections.get(z, (0, here))
                sections[z] = (count + len(rows), before.around(here))
        _, largest = max(sections.values(), key=lambda found: found[0])
        return largest

    # -- undo and redo -----------------------------------------------------------------------

    def undo(self) -> ObjectEdit | None:
        """Take the latest edit of the project back, see `undo`."""
        edit = undo(self._project)
        self.replay()
        return edit

    def redo(self) -> ObjectEdit | None:
        """Repeat the edit that was taken back last, see `redo`."""
        edit = redo(self._project)
        self.replay()
        return edit


_TEACHING = ("good", "delete", "split")


def _teaches(edit: ObjectEdit) -> bool:
    """Whether annotations came of an edit."""
    return edit.kind in _TEACHING and bool(edit.region)


def undo(project: Project) -> ObjectEdit | None:
    """Take the latest edit of objects back, with its annotations; None if there is none."""
    active = project.object_edits.read().active
    if not active:
        return None
    edit = active[-1]
    project.object_edits.note(Step("undo", edit.id))
    _swap(project, edit, back=True)
    return edit


def redo(project: Project) -> ObjectEdit | None:
    """Repeat the edit that was taken back last, with its annotations; None if there is none."""
    undone = project.object_edits.read().undone
    if not undone:
        return None
    edit = undone[-1]
    project.object_edits.note(Step("redo", edit.id))
    _swap(project, edit, back=False)
    return edit


def _swap(project: Project, edit: ObjectEdit, *, back: bool) -> None:
    regions = {region.id: region for region in project.regions.all()}
    region = regions.get(edit.region)
    if region is None:
        return
    if _teaches(edit):
        project.history.swap_taught(region, back=back)
    # A patch that was painted meanwhile is a decision of its own.
    elif edit.kind == "redraw" and region.state in ("suggested", "replaced"):
        state = "replaced" if back else "suggested"
        project.regions.record(region.model_copy(update={"state": state}))


def reconcile(project: Project) -> None:
    """Finish what a crash has cut off between the journal of edits and the annotations."""
    history = project.object_edits.read()
    regions = {region.id: region for region in project.regions.all()}
    for edits, state in ((history.active, "partial"), (history.undone, "replaced")):
        for edit in edits:
            region = regions.get(edit.region)
            if region is not None and _teaches(edit) and region.state != state:
                project.history.swap_taught(region, back=state == "replaced")

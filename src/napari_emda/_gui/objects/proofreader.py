"""Going through objects and deciding on them: what the keys, buttons and clicks do. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from psygnal import Signal

from napari_emda._gui.common.adapters import look_at
from napari_emda._gui.objects.layers import ObjectLayers
from napari_emda._gui.objects.rows import Rows, rows_of
from napari_emda._gui.open_project import CANVAS, OpenProject
from napari_emda._gui.session import Session
from napari_emda.objects.edits import ObjectEdit
from napari_emda.project.proofreading import Proofreading
from napari_emda.project.region import Region

Mode = Literal["", "merge", "split"]
_NONE_ON_VIEW = "No object is on view: press Next (N), or click one."
# The side of what is seen, in sides of the object, and in pixels of the volume at least: an object
# of few pixels is seen among its neighbours.
_SURROUNDINGS = 3.0
_LEAST_SEEN = 128
_DONE = {
    "good": "Object {0} is good",
    "delete": "Object {0} was deleted",
    "merge": "Objects {0} and {1} are one",
    "split": "Object {0} was split",
    "redraw": "A patch was opened to redraw object {0}",
}


class Proofreader:
    """The objects of a class in a volume, one of which may be on view.

    Decisions are made in a worker thread, because an object may be large; nothing else is decided
    meanwhile, and nothing painted.

    Args:
        session: shows messages and runs the threads.
        opened: the project.
        objects: with their edits.
        rows: of the table.

    Attributes:
        current: id of the object on view; 0 for none.
        mode: whether the next click names the object to merge with, or a seed of a split.
        busy: whether a decision is being written.
        canvas: height and width of the canvas in pixels.
    """

    changed = Signal()
    """The objects, the one on view or the mode have changed."""
    redrawn = Signal(Region)
    """A patch was made to redraw an object."""

    def __init__(
        self, session: Session, opened: OpenProject, objects: Proofreading, rows: Rows
    ) -> None:
        self._session = session
        self._opened = opened
        self.objects = objects
        self.rows = rows
        self.layers = ObjectLayers(opened, objects.volume, objects.objects)
        self.current = 0
        self.mode: Mode = ""
        self.busy = False
        self.canvas = CANVAS
        self.following: Callable[[], int | None] = lambda: None
        """Says which object comes next in the table, before a decision changes its order."""
        self._seeds: list[tuple[int, int, int]] = []

    @property
    def volume(self) -> str:
        """Name of the volume."""
        return self.objects.volume

    # -- going from object to object ---------------------------------------------------------

    def go(self, object_id: int) -> None:
        """Bring an object into view, with its surroundings."""
        self._look_at(object_id)
        self.choose(object_id)

    def choose(self, object_id: int) -> None:
        """Make an object the one that is decided on, where it is seen already."""
        self._leave_mode()
        self.objects.objects.check(object_id)
        self.current = object_id
        self.layers.mark(*self._marked())
        self.changed.emit()

    def _marked(self) -> tuple[int, ...]:
        row = np.flatnonzero(self.rows.ids == self.current)
        twin = int(self.rows.twins[row[0]]) if len(row) else 0
        return (self.current, twin) if twin else (self.current,)

    def _look_at(self, object_id: int) -> None:
        opened = self._opened
        opened.uncover(self.volume)
        self.layers.show()
        box = self.objects.largest_section(object_id)
        side = max(box.shape[1:])
        share = side / max(_SURROUNDINGS * side, _LEAST_SEEN)
        look_at(opened.viewer, opened.place(self.volume), box, self.canvas, share)

    def step_to(self, object_id: int | None) -> None:
        """Go to the next object; say so if all are decided."""
        if object_id is None:
            self.current = 0
            self.layers.mark()
            self.changed.emit()
            count = len(self.rows.ids)
            self._session.say(
                f"All {count} objects are decided." if count else "There are no objects.", "done"
            )
            return
        self.go(object_id)

    # -- clicks ------------------------------------------------------------------------------

    def click(self, point: Sequence[float]) -> None:
        """A click on the canvas: choose an object, merge with it, or set a seed."""
        opened = self._opened
        index = opened.place(self.volume).to_index(opened.viewer, point)
        z, y, x = (round(i) for i in index)
        object_id = self.objects.at((z, y, x))
        if self.busy:
            return
        if self.mode == "split":
            self._add_seed((z, y, x), object_id)
        elif self.mode == "merge":
            self._merge_with(object_id)
        elif object_id:
            self.choose(object_id)

    def _merge_with(self, object_id: int) -> None:
        if not object_id:
            self._session.say("That is background: click the object to merge with; Escape ends it.")
        elif object_id == self.current:
            self._session.say("That is the object itself: click another one; Escape ends it.")
        else:
            first = self.current
            self.mode = ""
            self._decide(lambda: self.objects.merge(first, object_id))

    def _add_seed(self, voxel: tuple[int, int, int], object_id: int) -> None:
        if object_id != self.current:
            self._session.say(
                f"That is not in object {self.current}: click inside of it; Escape ends it.",
                "error",
            )
            return
        if voxel in self._seeds:
            return
        self._seeds.append(voxel)
        self.layers.show_seeds(self._seeds)
        if len(self._seeds) < 2:
            self._session.say("Now click a voxel of the other part; Escape gives it up.")
            return
        seeds = list(self._seeds)
        number = self.current
        self._leave_mode()
        self._decide(lambda: self.objects.split(number, seeds))

    def escape(self) -> None:
        """Give up merging or splitting."""
        if self.mode:
            self._leave_mode()
            self._session.say("Nothing was changed.")
            self.changed.emit()

    def _leave_mode(self) -> None:
        self.mode = ""
        if self._seeds:
            self._seeds = []
            self.layers.show_seeds([])

    # -- decisions ---------------------------------------------------------------------------

    def good(self) -> None:
        """The object on view is right."""
        self._decide_on_current(lambda number: self.objects.good(number))

    def delete(self) -> None:
        """The object on view is none."""
        self._decide_on_current(lambda number: self.objects.delete(number))

    def begin(self, mode: Mode, text: str) -> None:
        """Wait for clicks."""
        if self._none_on_view():
            return
        self._leave_mode()
        self.mode = mode
        self._session.say(text)
        self.changed.emit()

    def begin_merge(self) -> None:
        """Wait for a click on the object to merge with."""
        self.begin("merge", "Click the object to merge with; Escape gives it up.")

    def begin_split(self) -> None:
        """Wait for a click in each part of the object."""
        self.begin("split", "Click a voxel of one part, then one of the other; Escape gives it up.")

    def redraw(self) -> None:
        """Open a patch around the object on view."""
        if self._none_on_view():
            return
        number = self.current

        def work() -> ObjectEdit:
            edit, region = self.objects.redraw(number)
            self._patch = region
            return edit

        self._decide(work, go_on=False)

    def undo(self) -> None:
        """Take the latest decision on an object back."""
        self._swap(self.objects.undo, "undo", "was taken back")

    def redo(self) -> None:
        """Repeat the decision that was taken back last."""
        self._swap(self.objects.redo, "repeat", "was repeated")

    def _none_on_view(self) -> bool:
        if not self.current:
            self._session.say(_NONE_ON_VIEW)
        return not self.current

    def _decide_on_current(self, decide: Callable[[int], ObjectEdit]) -> None:
        if self._none_on_view():
            return
        number = self.current
        self._leave_mode()
        self._decide(lambda: decide(number))

    def _decide(self, work: Callable[[], ObjectEdit], *, go_on: bool = True) -> None:
        following = self.following() if go_on else None

        def done(edit: ObjectEdit) -> None:
            self._session.say(_DONE[edit.kind].format(*edit.ids) + "; U takes it back.", "done")
            if edit.kind == "redraw":
                self.changed.emit()
                self.redrawn.emit(self._patch)
            elif following is not None and self.objects.objects.exists(following):
                self.go(following)
            else:
                # The next one was merged away, or there is none.
                self.step_to(self.following())

        self._in_background(work, done)

    def _swap(self, work: Callable[[], ObjectEdit | None], wanted: str, happened: str) -> None:
        self._leave_mode()

        def done(edit: ObjectEdit | None) -> None:
            if edit is None:
                self._session.say(f"There is no decision on an object to {wanted}.")
                self.changed.emit()
                return
            self._session.say(f"The {edit} {happened}.")
            first = edit.ids[0]
            names_this_object = edit.base == self.objects.base and self.objects.objects.exists(
                first
            )
            if names_this_object:
                self.go(first)
            else:
                self.current = 0
                self.layers.mark()
                self.changed.emit()

        self._in_background(work, done)

    def _in_background(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Do what changes objects and annotations in a worker thread."""
        if self.busy:
            return
        self.busy = True
        painting = self._opened.output("annotations", self.volume)
        mode = str(getattr(painting, "mode", ""))
        if painting is not None:
            # What is painted meanwhile could be lost: both write the same chunks.
            painting.editable = False

        def both() -> tuple[Any, Rows]:
            result = work()
            return result, rows_of(self.objects)

        def free() -> None:
            self.busy = False
            if painting is not None:
                painting.editable = True
                painting.mode = mode  # napari resets the mode of a layer that cannot be edited

        def finished(results: tuple[Any, Rows]) -> None:
            free()
            result, self.rows = results
            self._reread()
            self.layers.refresh()
            done(result)
            self._session.project_changed.emit()

        def failed(text: str) -> None:
            free()
            self._session.say(text, "error")
            self.changed.emit()

        self.changed.emit()
        self._session.in_background(both, finished, failed)

    def _reread(self) -> None:
        """Show the annotations as they are on disk now."""
        painting: Any = self._opened.output("annotations", self.volume)
        if painting is not None:
            painting.draft.stored.forget()
            painting.refresh()

    def close(self) -> None:
        """Hide the layers, which those that come next may use."""
        self._leave_mode()
        self.layers.set_visible(False)

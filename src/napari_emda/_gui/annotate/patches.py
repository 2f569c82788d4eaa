"""The patches of a round and the current one: going to a patch, leaving it, drawing one. No Qt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from psygnal import Signal

from napari_emda._gui.annotate.annotation_layer import AnnotationLayer
from napari_emda._gui.annotate.overlays import Overlays
from napari_emda._gui.annotate.paint import Bytes, Paint
from napari_emda._gui.annotate.queue import OPEN, index_of, next_open, queue_of
from napari_emda._gui.annotate.rectangles import SMALLEST, Rectangles
from napari_emda._gui.annotate.stopwatch import PatchTimes
from napari_emda._gui.annotate.tools import Tools
from napari_emda._gui.common.adapters import look_at
from napari_emda._gui.open_project import CANVAS, OpenProject
from napari_emda._gui.predict.layers import rename_classes
from napari_emda._gui.session import Session
from napari_emda.data.box import Box
from napari_emda.project.region import AUDIT, Region
from napari_emda.project.regions import latest_round
from napari_emda.project.undo import Decision

HIDDEN = "The prediction and its uncertainty stay hidden, so that they do not sway you."
_NO_PATCHES = "There are no patches yet: press Suggest patches."


class Patches:
    """The patches of the latest round, in all volumes of a project; one of them may be on view.

    Args:
        session: shows messages and is notified of decisions.
        opened: the project that is annotated.
        tools: class and brush to paint with, and what patches begin with.

    Attributes:
        project: that is annotated.
        regions: the queue, in the order in which patches were suggested.
        current: the patch on view, as it was when the user came to it; None if there is none.
        canvas: height and width of the canvas in pixels.
        checking: whether check points are answered.
    """

    changed = Signal()
    """The regions, their states or the current one have changed."""

    def __init__(self, session: Session, opened: OpenProject, tools: Tools) -> None:
        self._session = session
        self._opened = opened
        self.project = opened.project
        self.paint = Paint(opened, tools)
        self.rectangles = Rectangles(opened, self.add_drawn)
        self.overlays = Overlays(opened)
        self.times = PatchTimes()
        self.regions: list[Region] = []
        self.current: Region | None = None
        self.canvas: tuple[float, float] = CANVAS
        self.checking = False
        self._before: Bytes | None = None
        # What the last stroke was refused for, or has done.
        self._of_stroke = ""
        self.paint.painted.connect(self._on_painted)
        self.paint.said.connect(self._say_of_stroke)

    def say(self, text: str, kind: str = "note") -> None:
        """Show one sentence in the dock."""
        self._session.say(text, kind)

    def _say_of_stroke(self, text: str) -> None:
        self._of_stroke = text
        self.say(text)

    def _on_painted(self) -> None:
        self.times.beat()
        # That an earlier stroke was refused is no longer of interest.
        if self._of_stroke:
            self._session.withdraw(self._of_stroke)
            self._of_stroke = ""

    def decided(self) -> None:
        """Notify of a decision. The paint is redrawn with the patch that comes next."""
        self.reload()
        self._session.project_changed.emit()

    # -- the queue -------------------------------------------------------------

    def open(self) -> None:
        """Show the patches of the project; go to the last one on view, or to the next open one."""
        for volume in dict.fromkeys(region.volume for region in self.project.regions.all()):
            self.paint.layer(volume)
        self.reload()
        if self.project.volumes.targets():
            self._show_section(self._opened.target)
            start = index_of(self.regions, self.project.regions.on_view)
            wanted = None if start is None else next_open(self.regions, start)
            if wanted is not None:
                self.go(wanted)

    def _show_section(self, volume: str, z: int | None = None) -> None:
        """Show a whole section of one volume."""
        self._show_only(volume)
        self._opened.show_section(volume, z, self.canvas)

    def _show_only(self, volume: str) -> None:
        """Hide the other targets; with a single target the source may stay visible beside it."""
        self._opened.uncover(volume)
        if len(self.project.volumes.targets()) > 1:
            self._opened.show_only(volume)
            self.rectangles.reveal(volume)

    def reload(self) -> None:
        """Read the regions from the project and draw them."""
        regions = self.project.regions.all()
        self.regions = queue_of(regions)
        self._opened.auditing = self.checking or bool(self.audit)
        self.paint.keep(regions)
        self.rectangles.show(regions, latest_round(regions), self.current)
        self.changed.emit()

    def prepare(self) -> Iterator[None]:
        """Make the layers of the target that suggestions need, one in each step."""
        yield
        self.paint.layer(self._opened.target)
        yield
        yield from self.rectangles.prepare(self._opened.target)

    def taking(self, regions: list[dict[str, Any]], strategy: str, run: str) -> Iterator[None]:
        """Record suggestions as a new round, all in the first step, and show them.

        The steps are for `Session.in_turns`.
        """
        # Before the regions change, because leaving may record a revision.
        self.leave()
        self.times.forget()
        suggested = self.project.regions.suggest(regions, strategy, run)
        volumes = {region.volume for region in suggested} | {self._opened.target}
        for volume in volumes:
            self.paint.layer(volume)
        self.reload()
        first = suggested[0] if suggested else None
        if first is not None and strategy == AUDIT:
            self._hide_model(first.volume)
        yield
        # As below: the user may be at a patch by now.
        if first is not None and self.current is None:
            self._show_section(first.volume, first.voxels.start[0])
        for volume in volumes:
            yield
            self._opened.remove_previews(volume)
        yield
        # With the uncertainty, until a patch is chosen, as may have happened meanwhile.
        if first is not None and strategy != AUDIT and self.current is None:
            self.overlays.show_overview(first.volume, first.run)

    @property
    def audit(self) -> list[Region]:
        """The patches of an audit that are still open."""
        return [r for r in self.regions if r.strategy == AUDIT and r.state == OPEN]

    def end_audit(self) -> None:
        """Leave the audit: the open patches are dropped, those that are done count."""
        dropped = self.audit
        # As after the last patch of a round: nothing is painted any more.
        if self.current is not None:
            self.step_back()
        self.project.regions.drop(dropped, "end of audit")
        self.decided()
        patches = "1 open patch is" if len(dropped) == 1 else f"{len(dropped)} open patches are"
        self.say(f"The audit has ended: its {patches} dropped; Undo (U) brings them back.")

    def _hide_model(self, volume: str) -> None:
        """Hide what the model says, which would cover the paint, and sway the user in an audit."""
        self.overlays.hide_predictions()
        if self.audit:
            self.overlays.hide_uncertainty(volume)

    # -- going from patch to patch -----------------------------------------------------------

    def go(self, region: Region) -> None:
        """Leave the current patch and go to this one.

        Where nothing is painted, the prediction is shown as paint.
        """
        self._put_down()
        region = self._with_prediction(region)
        self.current = region
        self._opened.annotating = True
        if not self.rectangles.has(region):
            self.reload()  # it was skipped, or the user has removed the rectangles
        # On disk, so that the project opens at this patch the next time.
        self.project.regions.on_view = region.id
        # For undo, and to find out whether the user has revised a patch that was decided.
        self._before = self.paint.stored(region)
        self._show_only(region.volume)
        self.overlays.end_overview()
        self._hide_model(region.volume)
        self.overlays.forget_hidden()
        self._opened.remove_previews(region.volume)
        self.rectangles.reveal(region.volume)
        self.paint.begin(region)
        place = self._opened.place(region.volume)
        # Moving to another section redraws the layers; otherwise the new proposal is not shown yet.
        if not look_at(self._opened.viewer, place, region.voxels, self.canvas):
            self.paint.refresh(region.volume)
        self.times.start()
        self.changed.emit()
        wrong = self.paint.wrong_numbers(region)
        if wrong:
            self.say(wrong, "error")

    def _with_prediction(self, region: Region) -> Region:
        """The patch, with the run of the newest prediction if its own run has none."""
        if region.annotated or self.project.predictions.in_region(region) is not None:
            return region
        run = self.project.predictions.newest_run(region.volume)
        return region.model_copy(update={"run": run or region.run})

    def next(self) -> None:
        """Go to the next open patch; after the last one, to the first open one."""
        if not self.regions:
            self.say(_NO_PATCHES)
            return
        index = self._index()
        start = 0 if index is None else index + 1
        if index is None:
            # The patch that was left last, as when its layer was removed.
            left = index_of(self.regions, self.project.regions.on_view)
            start = left if left is not None and self.regions[left].state == OPEN else 0
        wanted = next_open(self.regions, start)
        if wanted is not None:
            self.go(wanted)
            return
        # All are decided; the line at the top of the dock says what comes next.
        volume = self.volume()
        self.step_back()
        self.paint.refresh(volume)
        self.changed.emit()

    def back(self) -> None:
        """Go to the previous patch, decided or not, to revise it."""
        if not self.regions:
            self.say(_NO_PATCHES)
        elif self.current is not None:
            self.go(self.regions[(self._index() or 0) - 1])
        else:
            # No patch is on view, as after the end of a round: the one decided on last.
            last = self.project.regions.decisions.last()
            decided = last.before.id if isinstance(last, Decision) else None
            index = index_of(self.regions, decided)
            self.go(self.regions[-1 if index is None else index])

    def _index(self) -> int | None:
        return index_of(self.regions, self.current.id if self.current is not None else None)

    def leave(self) -> None:
        """Leave the current patch. Its paint stays; changes of a decided patch are recorded."""
        region = self.current
        self._put_down()
        if region is not None:
            self.paint.refresh(region.volume)

    def step_back(self) -> None:
        """Leave the patch, put the brush away, and show the whole section on view."""
        volume = self.volume()
        self.leave()
        self.paint.put_away(volume)
        self._show_section(volume, self._opened.section_on_view(volume).start[0])

    def _put_down(self) -> None:
        """Leave the current patch without redrawing the layers."""
        region = self.current
        self.current = None
        self._opened.annotating = False
        if region is None:
            return
        # The patch is not decided: its seconds count when the user comes back and decides.
        self.times.pause(region.id)
        self.paint.end(region)
        revised = self.paint.stored(region)
        if not region.annotated or self._before is None or np.array_equal(revised, self._before):
            return
        wrong = self.paint.wrong_numbers(region)
        if wrong:
            self.say(wrong, "error")
            return
        # A decided patch was changed: that is a new decision, which can be undone.
        seconds = region.seconds + self.times.take(region.id)
        self.project.regions.decisions.add(Decision(region, self._before))
        self.project.annotations.accept(
            region.model_copy(update={"seconds": seconds}),
            revised,
            complete=region.state == "accepted",
        )
        self.reload()

    def layer_removed(self, layer: object) -> None:
        """Leave the patch when its layer is removed: nobody decides on paint that is not shown."""
        if isinstance(layer, AnnotationLayer):
            layer.draft.retire()
        if not self.paint.is_in_use(layer):
            return
        self._put_down()
        self.changed.emit()
        self.say(
            "The layer with your paint was removed. The paint is kept: press Next (N) to show it "
            "again."
        )

    def close(self, region: Region) -> Region:
        """Close the current patch for a decision; returns it with the seconds that it took."""
        self.times.pause(region.id)
        self.current = None
        self._opened.annotating = False
        self.paint.end(region)
        seconds = region.seconds + self.times.take(region.id)
        return region.model_copy(update={"seconds": seconds})

    def painted_before(self, region: Region) -> Bytes:
        """The paint that *Undo* restores.

        For a decided patch it is the paint when the user came to it; for an open patch, the current
        paint.
        """
        if region.annotated and self._before is not None:
            return self._before
        return self.paint.stored(region)

    # -- drawing a patch -----------------------------------------------------------

    def draw_patch(self) -> None:
        """Let the user draw a patch in the current section."""
        volume = self.volume()
        self.leave()
        self.changed.emit()
        self.rectangles.begin_drawing(volume)
        self.say("Draw a rectangle around the part that you want to annotate; Escape gives it up.")

    def escape(self) -> None:
        """Leave the mode that the user is in: drawing a patch, a polygon, or a tool."""
        if self.rectangles.stop_drawing():
            self.say("No patch was drawn; W draws one.")
        else:
            self.paint.put_away(self.volume())

    def add_drawn(self, volume: str, box: Box) -> None:
        """Add a patch that the user has drawn to the queue, and go to it."""
        if min(box.shape[1:]) < SMALLEST:
            self.reload()
            self.say(
                f"A patch has at least {SMALLEST} x {SMALLEST} pixels: draw a larger one.", "error"
            )
            return
        run = self.project.predictions.newest_run(volume) or ""
        region = self.project.regions.add(volume, box, run)
        self.paint.layer(volume)
        # Undoing takes the patch out of the queue again.
        undone = region.model_copy(update={"state": "replaced"})
        self.project.regions.decisions.add(Decision(undone, self.paint.stored(region)))
        self.reload()
        self.go(region)
        self.say("Correct the paint in your patch, then press Done.")

    # -- the names of clusters -----------------------------------------------------------------

    def show_names(self, run: str) -> None:
        """Show the names of a run's clusters as they are now."""
        for entry in self.project.volumes.targets():
            if self._opened.output("clusters", entry.name) is not None:
                rename_classes(self._opened, run, entry.name)

    # -- the uncertainty -----------------------------------------------------------------------

    def volume(self) -> str:
        """The volume that the user is working on."""
        if self.current is not None:
            return self.current.volume
        # Without a patch, the target that is visible.
        targets = [entry.name for entry in self.project.volumes.targets()]
        shown = [image is not None and image.visible for image in map(self._opened.image, targets)]
        return targets[shown.index(True)] if any(shown) else self._opened.target

    def toggle_uncertainty(self) -> None:
        """Show or hide the uncertainty of the model."""
        if self._opened.auditing:
            self.say(HIDDEN)
            return
        region = self.current or next(reversed(self.regions), None)
        run = region.run if region is not None else ""
        if not self.overlays.show_uncertainty(self.volume(), run):
            self.say("It is not yet measured where the model is uncertain: press Predict.")

    def toggle_mask(self) -> None:
        """Show or hide the mask of the model; not during an audit, which it would sway."""
        if self._opened.auditing:
            self.say(HIDDEN)
        elif not self.overlays.toggle_mask(self.volume()):
            self.say("There is no mask yet: press Predict.")

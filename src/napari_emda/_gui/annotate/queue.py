"""The queue of patches and the one that is being annotated: what is decided, and how it is taken back. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
from psygnal import Signal

from napari_emda._gui.annotate.overlays import Overlays
from napari_emda._gui.annotate.paint import Bytes, Paint
from napari_emda._gui.annotate.rectangles import SMALLEST, Rectangles
from napari_emda._gui.annotate.stopwatch import Stopwatch
from napari_emda._gui.common.adapters import look_at, section_on_view
from napari_emda._gui.session import Session
from napari_emda.data.box import Box
from napari_emda.project import runs
from napari_emda.project.project import Project
from napari_emda.project.regions import IMPORTED, Region, State, latest_round
from napari_emda.project.undo import Decision

OPEN: State = "suggested"


class Patches:
    """The patches of the latest round, of all volumes, one of which may be on view."""

    changed = Signal()
    """Regions, their states or the current one."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.paint = Paint(session)
        self.rectangles = Rectangles(session, self.add_own)
        self.overlays = Overlays(session)
        self.watch = Stopwatch()
        self.regions: list[Region] = []
        self.current: Region | None = None
        self.canvas: tuple[float, float] = (700, 700)
        self._before: Bytes | None = None
        self._seconds: dict[str, float] = {}
        self.paint.painted.connect(self.watch.beat)

    def _project(self) -> Project:
        project = self._session.project
        assert project is not None
        return project

    # -- which patches there are ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Show the patches of the project that was just opened, and the one that was worked on, or that follows it."""
        self.current, self._seconds = None, {}
        project = self._session.project
        for volume in dict.fromkeys(
            region.volume for region in (project.regions() if project is not None else [])
        ):
            self.paint.layer(volume)
        self.reload()
        if project is not None and project.targets():
            self._show_target(self._session.target)
            self._resume(project.on_view)

    def _resume(self, worked_on: str) -> None:
        place = next((k for k, region in enumerate(self.regions) if region.id == worked_on), None)
        follow = [] if place is None else self.regions[place:] + self.regions[:place]
        wanted = next((region for region in follow if region.state == OPEN), None)
        if wanted is not None:
            self.go(wanted)

    def _show_target(self, volume: str) -> None:
        """The whole section on view: the source, which is hidden now, may have filled the canvas."""
        session = self._session
        if len(self._project().targets()) > 1:
            session.show_only(volume)
        place, shape = session.place(volume), session.shape(volume)
        z = section_on_view(session.viewer, place, shape).start[0]
        look_at(session.viewer, place, Box((z, 0, 0), (z + 1, *shape[1:])), self.canvas)

    def reload(self) -> None:
        """Read the regions from the project and draw them."""
        project = self._session.project
        every = project.regions() if project is not None else []
        latest = latest_round(every)
        self.regions = [
            r
            for r in every
            if r.round == latest and r.strategy != IMPORTED and r.state != "replaced"
        ]
        if project is not None:
            self.rectangles.show(every, latest)
        self.changed.emit()

    def take(self, regions: list[dict[str, Any]], strategy: str, run: str) -> None:
        """Record new suggestions as the next round."""
        project = self._project()
        self.leave()
        self._seconds = {}
        taken = project.suggest(regions, strategy, run)
        for volume in {region.volume for region in taken} | {self._session.target}:
            self.paint.layer(volume)
            self._session.remove_previews(volume)
        self.reload()
        if taken:
            self._show_overview(taken[0])

    def _show_overview(self, region: Region) -> None:
        """The whole section of the first patch, with the model's uncertainty, before any patch is chosen."""
        session, z = self._session, region.voxels.start[0]
        if len(self._project().targets()) > 1:
            session.show_only(region.volume)
            self.rectangles.reveal(region.volume)
        section = Box((z, 0, 0), (z + 1, *session.shape(region.volume)[1:]))
        look_at(session.viewer, session.place(region.volume), section, self.canvas)
        self.overlays.show_overview(region.volume, region.run)

    # -- going from patch to patch -------------------------------------------------------------------------------

    def go(self, region: Region) -> None:
        """Leave the current patch and bring this one on view, with the prediction painted where nothing is."""
        self._put_down()
        session, project = self._session, self._project()
        if not region.annotated and project.predicted(region) is None:
            region = region.model_copy(
                update={"run": runs.predicted_with(project, region.volume) or region.run}
            )
        self.current, session.annotating, project.on_view = region, True, region.id
        self._before = self.paint.stored(region)
        if len(project.targets()) > 1:
            session.show_only(region.volume)
        self.overlays.end_overview()
        self.overlays.hide_predictions()
        self.overlays.forget_hidden()
        session.remove_previews(region.volume)
        self.rectangles.reveal(region.volume)
        self.paint.begin(region)
        if not look_at(session.viewer, session.place(region.volume), region.voxels, self.canvas):
            self.paint.look_again(region.volume)
        self.watch.start()
        self.changed.emit()

    def next(self) -> None:
        """To the next patch that is open; past the last one begins anew."""
        if not self.regions:
            self._session.say("There are no patches yet: press Suggest patches.", "note")
            return
        at = self._index()
        order = self.regions[at + 1 :] + self.regions[: at + 1]
        wanted = next((region for region in order if region.state == OPEN), None)
        if wanted is None:
            self.leave()
            self.paint.look_again(self.volume())
            self.changed.emit()
            self._session.say(
                "All patches of this round are decided: retrain, or ask for more.", "note"
            )
        else:
            self.go(wanted)

    def back(self) -> None:
        """To the patch before, whatever was decided on it, to revise that."""
        if not self.regions:
            self._session.say("There are no patches yet: press Suggest patches.", "note")
        else:
            self.go(
                self.regions[
                    self._index() - 1 if self.current is not None else self._last_decided()
                ]
            )

    def _index(self) -> int:
        ids = [region.id for region in self.regions]
        return (
            ids.index(self.current.id)
            if self.current is not None and self.current.id in ids
            else -1
        )

    def _last_decided(self) -> int:
        ids, decision = [region.id for region in self.regions], self._project().decisions.last()
        return (
            ids.index(decision.before.id)
            if decision is not None and decision.before.id in ids
            else -1
        )

    def leave(self) -> None:
        """Leave the current patch: what was painted stays; of an accepted patch that was revised, the new is kept."""
        region = self.current
        self._put_down()
        if region is not None:
            self.paint.look_again(region.volume)

    def _put_down(self) -> None:
        """Leave the current patch; the layers still show it as it was."""
        region, self.current = self.current, None
        self._session.annotating = False
        if region is None:
            return
        seconds = self._seconds[region.id] = self._seconds.get(region.id, 0.0) + self.watch.stop()
        if self._session.output("annotations", region.volume) is None:
            return  # the user removed the layer; what was painted is on disk
        revised = self.paint.stored(region)
        self.paint.end(region)
        if (
            region.annotated
            and self._before is not None
            and not np.array_equal(revised, self._before)
        ):
            worked = region.model_copy(update={"seconds": region.seconds + seconds})
            self._project().decisions.add(Decision(region, self._before))
            del self._seconds[region.id]
            self._project().annotate(worked, revised, complete=region.state == "accepted")
            self.reload()

    # -- decisions -----------------------------------------------------------------------------------------------

    def accept(self, *, complete: bool) -> None:
        """Take the current patch: all of it, or only what the user has painted. On disk when this returns."""
        region = self._on_view()
        if region is None:
            return
        painted = self.paint.stored(region)
        if not complete and not painted.any():
            self._session.say(
                "You have painted nothing in this patch yet: paint, or press Done to take the prediction as it is.",
                "note",
            )
            return
        shown = np.asarray(self.paint.draft(region.volume)[region.voxels.slices])
        start = self.paint.proposal(region)
        begun = self._end(region)
        self._project().annotate(
            begun,
            shown if complete else painted,
            complete=complete,
            predicted=np.zeros_like(painted)
            if start is None
            else np.where(start > 0, start - 1, 0).astype(np.uint8),
        )
        self._after()

    def put_aside(self, state: State) -> None:
        """Do not annotate the current patch: ``skipped``, or ``unsure`` when nobody can tell."""
        region = self._on_view()
        if region is None:
            return
        ended = self._end(region)
        if region.annotated:
            self.paint.restore(region, np.zeros(region.voxels.shape, np.uint8))
            self._session.say(
                "What was annotated in this patch is not learnt from any more; Undo brings it back."
            )
        self._project().record(ended.model_copy(update={"state": state}))
        self._after()

    def _on_view(self) -> Region | None:
        if self.current is None:
            self._session.say("No patch is on view: go to the next one first.", "note")
        return self.current

    def _end(self, region: Region) -> Region:
        """Close the current patch and note how to take that back; returns it with the time that it took."""
        before = (
            self._before
            if self._before is not None and region.annotated
            else self.paint.stored(region)
        )
        self._project().decisions.add(Decision(region, before))
        seconds = self.watch.stop() + self._seconds.pop(region.id, 0.0)
        self.current, self._session.annotating = None, False
        self.paint.end(region)
        return region.model_copy(update={"seconds": region.seconds + seconds})

    def _after(self) -> None:
        """Tell what was decided; the paint is shown anew with the patch that comes next."""
        self.reload()
        self._session.project_changed.emit()

    def undo(self) -> None:
        """Take back the last decision, in whatever patch it was, and show that patch as it was painted."""
        decisions = self._project().decisions
        if decisions.last() is None:
            self._session.say("There is no decision to undo in this round.", "note")
            return
        self.leave()  # which may be a decision, too
        decision = decisions.last()
        assert decision is not None
        self._project().record(decision.before)
        self.paint.restore(decision.before, decision.painted)
        decisions.drop()
        self._after()
        if decision.before.state == "replaced":
            self.paint.look_again(decision.before.volume)
        else:
            self.go(decision.before)

    # -- a patch of the user's own -------------------------------------------------------------------------------

    def draw_own(self) -> None:
        """Let the user draw a patch in the section on view."""
        volume = self.volume()
        self.leave()
        self.changed.emit()
        self.rectangles.begin_drawing(volume)
        self._session.say("Draw a rectangle around what you want to annotate.", "note")

    def add_own(self, volume: str, box: Box) -> None:
        """Put a patch that the user has drawn into the queue and go there."""
        if min(box.shape[1:]) < SMALLEST:
            self.reload()
            self._session.say(
                f"A patch needs {SMALLEST} x {SMALLEST} pixels or more: draw a larger one.", "error"
            )
            return
        project = self._project()
        region = project.add_region(volume, box, runs.predicted_with(project, volume) or "")
        self.paint.layer(volume)
        taken_back = region.model_copy(update={"state": "replaced"})
        project.decisions.add(Decision(taken_back, self.paint.stored(region)))
        self.reload()
        self.go(region)
        self._session.say("Correct what is painted in your patch, then press Done.", "note")

    # -- what lies over the image --------------------------------------------------------------------------------

    def volume(self) -> str:
        """The volume that the user is working on."""
        if self.current is not None:
            return self.current.volume
        shown = [entry.name for entry in self._project().targets() if self._is_shown(entry.name)]
        return shown[0] if shown else self._session.target

    def _is_shown(self, volume: str) -> bool:
        image = self._session.image(volume)
        return image is not None and image.visible

    def toggle_uncertainty(self) -> None:
        """Show or hide where the model is unsure."""
        asked = self.current or (self.regions[-1] if self.regions else None)
        if not self.overlays.show_uncertainty(
            self.volume(), asked.run if asked is not None else ""
        ):
            self._session.say(
                "No uncertainty is known yet: suggest patches by entropy, or predict.", "note"
            )

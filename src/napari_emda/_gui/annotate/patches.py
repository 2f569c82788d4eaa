"""The patches and the one that is being annotated: coming to it, leaving it, drawing one. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
from psygnal import Signal

from napari_emda._gui.annotate.overlays import Overlays
from napari_emda._gui.annotate.paint import Bytes, Paint
from napari_emda._gui.annotate.queue import index_of, next_open, queue_of
from napari_emda._gui.annotate.rectangles import SMALLEST, Rectangles
from napari_emda._gui.annotate.stopwatch import PatchTimes
from napari_emda._gui.annotate.tools import Tools
from napari_emda._gui.common.adapters import look_at
from napari_emda._gui.open_project import CANVAS, OpenProject
from napari_emda._gui.session import Session
from napari_emda.data.box import Box
from napari_emda.project.region import Region
from napari_emda.project.regions import latest_round
from napari_emda.project.undo import Decision

_NO_PATCHES = "There are no patches yet: press Suggest patches."


class Patches:
    """The patches of the latest round, of all volumes of a project, one of which may be on view.

    Args:
        session: hears what there is to say, and that patches were decided.
        opened: the project that is annotated.
        tools: the class and the brush to paint with, and what patches begin with.

    Attributes:
        project: that is annotated.
        regions: the queue, in the order in which patches were suggested.
        current: the patch on view, as it was when the user came to it.
        canvas: height and width of the canvas in pixels.
    """

    changed = Signal()
    """Regions, their states or the current one."""

    def __init__(self, session: Session, opened: OpenProject, tools: Tools) -> None:
        self._session = session
        self._opened = opened
        self.project = opened.project
        self.paint = Paint(opened, tools)
        self.rectangles = Rectangles(opened, self.add_own)
        self.overlays = Overlays(opened)
        self.times = PatchTimes()
        self.regions: list[Region] = []
        self.current: Region | None = None
        self.canvas: tuple[float, float] = CANVAS
        self._before: Bytes | None = None
        self.paint.painted.connect(self.times.beat)

    def say(self, text: str, kind: str = "note") -> None:
        """Show one sentence in the dock."""
        self._session.say(text, kind)

    def decided(self) -> None:
        """Tell what was decided; the paint is shown anew with the patch that comes next."""
        self.reload()
        self._session.project_changed.emit()

    # -- which patches there are -------------------------------------------------------------

    def open(self) -> None:
        """Show the patches of the project, and go to the one that was worked on or to the next."""
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
        """A whole section: the source, which is hidden now, may have filled the canvas."""
        self._show_only(volume)
        self._opened.show_section(volume, z, self.canvas)

    def _show_only(self, volume: str) -> None:
        """Hide the other targets; with one target the user may look at the source beside it."""
        if len(self.project.volumes.targets()) > 1:
            self._opened.show_only(volume)
            self.rectangles.reveal(volume)

    def reload(self) -> None:
        """Read the regions from the project and draw them."""
        regions = self.project.regions.all()
        self.regions = queue_of(regions)
        self.rectangles.show(regions, latest_round(regions))
        self.changed.emit()

    def take(self, regions: list[dict[str, Any]], strategy: str, run: str) -> None:
        """Record new suggestions as the next round."""
        self.leave()
        self.times.forget()
        suggested = self.project.regions.suggest(regions, strategy, run)
        for volume in {region.volume for region in suggested} | {self._opened.target}:
            self.paint.layer(volume)
            self._opened.remove_previews(volume)
        self.reload()
        if suggested:
            self._show_overview(suggested[0])

    def _show_overview(self, region: Region) -> None:
        """Show the section of the first patch, with the uncertainty, until a patch is chosen."""
        self._show_section(region.volume, region.voxels.start[0])
        self.overlays.show_overview(region.volume, region.run)

    # -- going from patch to patch -----------------------------------------------------------

    def go(self, region: Region) -> None:
        """Leave the current patch and bring this one on view.

        The prediction is shown as paint where nothing is painted.
        """
        self._put_down()
        region = self._with_prediction(region)
        self.current = region
        self._opened.annotating = True
        self.project.regions.on_view = region.id
        self._before = self.paint.stored(region)
        self._show_only(region.volume)
        self.overlays.end_overview()
        self.overlays.hide_predictions()
        self.overlays.forget_hidden()
        self._opened.remove_previews(region.volume)
        self.rectangles.reveal(region.volume)
        self.paint.begin(region)
        place = self._opened.place(region.volume)
        if not look_at(self._opened.viewer, place, region.voxels, self.canvas):
            self.paint.look_again(region.volume)
        self.times.start()
        self.changed.emit()

    def _with_prediction(self, region: Region) -> Region:
        """The patch, with the newest prediction if the run that suggested it has none."""
        if region.annotated or self.project.predictions.in_region(region) is not None:
            return region
        run = self.project.predictions.newest_run(region.volume)
        return region.model_copy(update={"run": run or region.run})

    def next(self) -> None:
        """To the next patch that is open; past the last one begins anew."""
        if not self.regions:
            self.say(_NO_PATCHES)
            return
        index = self._index()
        wanted = next_open(self.regions, 0 if index is None else index + 1)
        if wanted is not None:
            self.go(wanted)
            return
        self.leave()
        self.paint.look_again(self.volume())
        self.changed.emit()
        self.say("All patches of this round are decided: retrain, or ask for more.")

    def back(self) -> None:
        """To the patch before, whatever was decided on it, to revise that."""
        if not self.regions:
            self.say(_NO_PATCHES)
        elif self.current is not None:
            self.go(self.regions[(self._index() or 0) - 1])
        else:
            last = self.project.regions.decisions.last()
            index = index_of(self.regions, last.before.id if last is not None else None)
            self.go(self.regions[-1 if index is None else index])

    def _index(self) -> int | None:
        return index_of(self.regions, self.current.id if self.current is not None else None)

    def leave(self) -> None:
        """Leave the current patch. What was painted stays; a revised patch is kept as revised."""
        region = self.current
        self._put_down()
        if region is not None:
            self.paint.look_again(region.volume)

    def _put_down(self) -> None:
        """Leave the current patch; the layers still show it as it was."""
        region = self.current
        self.current = None
        self._opened.annotating = False
        if region is None:
            return
        self.times.pause(region.id)
        if self._opened.output("annotations", region.volume) is None:
            return  # the user removed the layer; what was painted is on disk
        revised = self.paint.stored(region)
        self.paint.end(region)
        if not region.annotated or self._before is None or np.array_equal(revised, self._before):
            return
        seconds = region.seconds + self.times.take(region.id)
        self.project.regions.decisions.add(Decision(region, self._before))
        self.project.annotations.accept(
            region.model_copy(update={"seconds": seconds}),
            revised,
            complete=region.state == "accepted",
        )
        self.reload()

    def close(self, region: Region) -> Region:
        """Put the current patch down for a decision; returns it with the time that it took."""
        self.times.pause(region.id)
        self.current = None
        self._opened.annotating = False
        self.paint.end(region)
        seconds = region.seconds + self.times.take(region.id)
        return region.model_copy(update={"seconds": seconds})

    def painted_before(self, region: Region) -> Bytes:
        """The paint that *Undo* brings back.

        Of a patch that was decided on it is what was painted when the user came to it; of an open
        one, what is painted now.
        """
        if region.annotated and self._before is not None:
            return self._before
        return self.paint.stored(region)

    # -- a patch of the user's own -----------------------------------------------------------

    def draw_own(self) -> None:
        """Let the user draw a patch in the section on view."""
        volume = self.volume()
        self.leave()
        self.changed.emit()
        self.rectangles.begin_drawing(volume)
        self.say("Draw a rectangle around what you want to annotate.")

    def add_own(self, volume: str, box: Box) -> None:
        """Put a patch that the user has drawn into the queue and go there."""
        if min(box.shape[1:]) < SMALLEST:
            self.reload()
            self.say(
                f"A patch needs {SMALLEST} x {SMALLEST} pixels or more: draw a larger one.", "error"
            )
            return
        run = self.project.predictions.newest_run(volume) or ""
        region = self.project.regions.add(volume, box, run)
        self.paint.layer(volume)
        undone = region.model_copy(update={"state": "replaced"})
        self.project.regions.decisions.add(Decision(undone, self.paint.stored(region)))
        self.reload()
        self.go(region)
        self.say("Correct what is painted in your patch, then press Done.")

    # -- what lies over the image ------------------------------------------------------------

    def volume(self) -> str:
        """The volume that the user is working on."""
        if self.current is not None:
            return self.current.volume
        targets = (entry.name for entry in self.project.volumes.targets())
        return next((name for name in targets if self._is_shown(name)), self._opened.target)

    def _is_shown(self, volume: str) -> bool:
        image = self._opened.image(volume)
        return image is not None and image.visible

    def toggle_uncertainty(self) -> None:
        """Show or hide where the model is unsure."""
        asked = self.current or (self.regions[-1] if self.regions else None)
        run = asked.run if asked is not None else ""
        if not self.overlays.show_uncertainty(self.volume(), run):
            self.say("No uncertainty is known yet: suggest patches by entropy, or predict.")

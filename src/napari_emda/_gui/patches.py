"""The suggested patches and the one that is being annotated: what happens to layers and files. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Labels, Shapes
from numpy.typing import NDArray
from psygnal import Signal

from napari_emda._gui import runs
from napari_emda._gui.adapters import look_at
from napari_emda._gui.palette import annotation_colours, score_colours
from napari_emda._gui.session import Session
from napari_emda._gui.views import Draft, classify
from napari_emda.project import Project
from napari_emda.regions import Region

OPEN = "suggested"
Bytes = NDArray[np.uint8]


class Patches:
    """The patches of the latest round, one of which may be on view with the prediction painted into it.

    The prediction's paint is a `Draft` on top of the annotations: it is shown and can be corrected, and only *Done*
    brings it to disk, so that nothing is ever learnt from but what the user has painted or confirmed.
    """

    changed = Signal()
    """Regions, their states or the current one."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.regions: list[Region] = []
        self.current: Region | None = None
        self._accepted: list[tuple[Region, Bytes, Bytes | None]] = []
        self._drafts: dict[str, Bytes | None] = {}
        self._overview = False
        self.canvas: tuple[float, float] = (700, 700)

    # -- which patches there are ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Show the patches of the project that was just opened."""
        self.current, self._accepted, self._drafts = None, [], {}
        project = self._session.project
        if project is not None and project.regions():
            self.layer(project.target().name)
        self.reload()

    def reload(self) -> None:
        """Read the regions from the project and draw them."""
        project = self._session.project
        every = project.regions() if project is not None else []
        latest = max((region.round for region in every), default=0)
        self.regions = [region for region in every if region.round == latest]
        self._draw(every)
        self.changed.emit()

    def take(self, regions: list[dict[str, Any]], strategy: str, run: str) -> None:
        """Record new suggestions as the next round."""
        project = self._project()
        self.leave()
        self._drafts, self._accepted = {}, []
        project.suggest(regions, strategy, run)
        self.layer(project.target().name)
        self._session.remove_previews(self._session.target)
        self.reload()
        self._overview = self.show_uncertainty(visible=True)

    def _project(self) -> Project:
        project = self._session.project
        assert project is not None
        return project

    def _draw(self, regions: list[Region]) -> None:
        session, shown = self._session, [region for region in regions if region.state not in ("skipped", "replaced")]
        if session.project is None or not regions:
            return
        volume = session.project.target().name
        shown = [region for region in shown if region.volume == volume]
        layer = session.output(
            "patches",
            volume,
            lambda: Shapes(
                ndim=3, name="suggested patches", face_color="transparent", **session.place(volume).arguments()
            ),
        )
        assert isinstance(layer, Shapes)
        latest = [region.score for region in self.regions if region.state == OPEN] or [0.0]
        scores = [min(max(region.score, min(latest)), max(latest)) for region in shown]
        colours = score_colours(scores, [region.state for region in shown])
        layer.data = []
        if shown:
            layer.add_rectangles(
                [rectangle(region) for region in shown],
                edge_color=colours,
                face_color="transparent",
                edge_width=[max(0.5, max(region.voxels.shape) / 100) for region in shown],
            )
        layer.selected_data = set()
        layer.mode = "pan_zoom"

    # -- layers --------------------------------------------------------------------------------------------------

    def layer(self, volume: str) -> Labels:
        """The layer to paint in; its voxels are the project's annotations on disk."""

        def make() -> Labels:
            project = self._project()
            stored = project.annotations(volume, create=True)
            assert stored is not None
            made = Labels(
                Draft(stored),
                name="annotations",
                multiscale=False,
                opacity=0.6,
                colormap=annotation_colours(project.classes),
                **self._session.place(volume).arguments(),
            )
            made.selected_label, made.brush_size = 2, 8
            return made

        layer = self._session.output("annotations", volume, make)
        assert isinstance(layer, Labels)
        return layer

    def show_uncertainty(self, *, visible: bool | None = None) -> bool:
        """Show, hide or (None) toggle where the model is unsure; False when nothing is known of it."""
        session, project = self._session, self._project()
        volume = project.target().name
        run = self._run(self.current or (self.regions[-1] if self.regions else None), volume)
        stored = runs.array(project, run, "uncertainty", volume) if run is not None else None
        if stored is None:
            return False
        known: Any = session.output("uncertainty", volume)
        if known is not None and known.metadata.get("run") != run:
            visible = known.visible if visible is None else visible
            session.remove_output("uncertainty", volume)
        layer = session.output(
            "uncertainty",
            volume,
            lambda: Image(
                stored,
                name="uncertainty",
                colormap="inferno",
                blending="additive",
                opacity=0.6,
                contrast_limits=(0, 255),
                multiscale=False,
                visible=False,
                metadata={"run": run},
                **session.place(volume).arguments(),
            ),
        )
        assert layer is not None
        layer.visible = not layer.visible if visible is None else visible
        return True

    def toggle_prediction(self) -> None:
        """Hide or show what is painted, to see the image beneath."""
        if self._session.project is not None:
            layer = self.layer(self._session.project.target().name)
            layer.visible = not layer.visible

    def select_class(self, index: int) -> None:
        """Paint with a class from now on."""
        project = self._session.project
        if project is not None and 0 <= index < len(project.classes):
            layer = self.layer(project.target().name)
            layer.selected_label = index + 1
            layer.mode = "paint"

    # -- going from patch to patch -------------------------------------------------------------------------------

    def go(self, region: Region) -> None:
        """Leave the current patch and bring this one on view, with the prediction painted where nothing is."""
        self.leave()
        session = self._session
        layer = self.layer(region.volume)
        self.current, session.annotating = region, True
        if region.state == OPEN:
            if region.id not in self._drafts:
                self._drafts[region.id] = self.predicted(region)
            self._draft(region.volume).lend(region.voxels, self._drafts[region.id])
        look_at(session.viewer, session.place(region.volume), region.voxels, self.canvas)
        session.viewer.layers.selection.active = layer
        layer.visible, layer.mode = True, "paint"
        self._hide_overlays(region.volume)
        self._refresh(region.volume)
        self.changed.emit()

    def _hide_overlays(self, volume: str) -> None:
        """What would hide the paint: previews, and the uncertainty that was shown with the suggestions."""
        self._session.remove_previews(volume)
        if self._overview:
            self._overview = False
            self.show_uncertainty(visible=False)

    def step(self, by: int) -> None:
        """To the next (1) or previous (-1) patch that is open; past the last one begins anew."""
        if not self.regions:
            self._session.say("There are no patches yet: press Suggest patches.", "note")
            return
        at = self._index()
        order = [self.regions[(at + by * (1 + i)) % len(self.regions)] for i in range(len(self.regions))]
        wanted = next((region for region in order if region.state == OPEN), None)
        if wanted is None:
            self.leave()
            self.changed.emit()
            self._session.say("All patches of this round are done: retrain, or ask for more.", "done")
        else:
            self.go(wanted)

    def _index(self) -> int:
        ids = [region.id for region in self.regions]
        return ids.index(self.current.id) if self.current is not None and self.current.id in ids else -1

    def leave(self) -> None:
        """Leave the current patch; what was painted stays, the prediction is no longer shown in it."""
        region, self.current = self.current, None
        self._session.annotating = False
        if region is not None and self._session.output("annotations", region.volume) is not None:
            self._draft(region.volume).lend(region.voxels, None)
            self._refresh(region.volume)

    def accept(self, *, complete: bool) -> None:
        """Take the current patch: all of it, or only what the user has painted. On disk when this returns."""
        region, project = self.current, self._project()
        if region is None or region.state != OPEN:
            self._session.say("No open patch is on view: go to the next one first.", "note")
            return
        draft, slices = self._draft(region.volume), region.voxels.slices
        painted: Bytes = np.asarray(draft.stored[slices])
        if not complete and not painted.any():
            self._session.say(
                "You have painted nothing in this patch yet: paint, or press Done to take the prediction as it is.",
                "note",
            )
            return
        done = project.annotate(region, np.asarray(draft[slices]) if complete else painted, complete=complete)
        lent = self._drafts.get(region.id)
        self._accepted.append((done, painted, None if lent is None else lent.copy()))
        self.leave()
        self._after(region.volume)

    def skip(self) -> None:
        """Put the current patch aside."""
        region = self.current
        if region is None or region.state != OPEN:
            self._session.say("No open patch is on view: go to the next one first.", "note")
            return
        self.leave()
        self._project().record(region.model_copy(update={"state": "skipped"}))
        self._after(region.volume)

    def _after(self, volume: str) -> None:
        at = self._session.viewer.layers.selection.active
        forget_history(self.layer(volume))
        self.reload()
        self._session.viewer.layers.selection.active = at
        self._session.project_changed.emit()

    def undo(self) -> None:
        """Open the patch again that was accepted last, painted as it was."""
        if not self._accepted:
            self._session.say("There is no accepted patch to undo in this round.", "note")
            return
        self.leave()
        region, before, lent = self._accepted.pop()
        self._draft(region.volume).stored[region.voxels.slices] = before
        self._drafts[region.id] = lent
        reopened = self._project().record(region.model_copy(update={"state": OPEN}))
        self._after(region.volume)
        self.go(reopened)

    # -- paint ---------------------------------------------------------------------------------------------------

    def _draft(self, volume: str) -> Draft:
        draft = self.layer(volume).data
        assert isinstance(draft, Draft)
        return draft

    def _run(self, region: Region | None, volume: str) -> str | None:
        """The run whose prediction belongs to a patch: the one that suggested it, else the newest."""
        project = self._project()
        if region is not None and region.run and runs.array(project, region.run, "probabilities", volume) is not None:
            return region.run
        return runs.predicted_with(project, volume)

    def predicted(self, region: Region) -> Bytes | None:
        """The prediction inside a patch as paint: 0 for background, class + 1 for foreground; None without one."""
        run = self._run(region, region.volume)
        stored = runs.array(self._project(), run, "probabilities", region.volume) if run is not None else None
        if stored is None:
            return None
        classes = classify(np.asarray(stored[(slice(None), *region.voxels.slices)]), 0.5)
        return np.where(classes > 0, classes + 1, 0).astype(np.uint8)

    def _refresh(self, volume: str) -> None:
        layer = self._session.output("annotations", volume)
        if isinstance(layer, Labels):
            forget_history(layer)
            layer.refresh()


def rectangle(region: Region) -> NDArray[np.float64]:
    """The outline of a patch in voxel coordinates: its four corners in its first section."""
    z0, _, y0, y1, x0, x1 = region.voxels.bounds
    low_y, high_y, low_x, high_x = y0 - 0.5, y1 - 0.5, x0 - 0.5, x1 - 0.5
    return np.array([[z0, low_y, low_x], [z0, low_y, high_x], [z0, high_y, high_x], [z0, high_y, low_x]])


def forget_history(layer: Labels) -> None:
    """Empty the undo stack of a layer whose voxels were changed behind its back: undoing would bring old ones back."""
    reset = getattr(layer, "_reset_history", None)
    if reset is not None:
        reset()

"""Decide on the patch on view, and take decisions back. No Qt.

What a function does is on disk when it returns.
"""

from __future__ import annotations

import numpy as np

from napari_emda._gui.annotate.paint import Bytes
from napari_emda._gui.annotate.patches import Patches
from napari_emda.project.region import Region, State
from napari_emda.project.undo import Decision


def accept(patches: Patches, *, complete: bool) -> None:
    """Take the patch: all of it, or only what the user has painted."""
    region = _on_view(patches)
    if region is None:
        return
    painted = patches.paint.stored(region)
    if not complete and not painted.any():
        patches.say(
            "You have painted nothing in this patch yet: paint, or press Done to take the "
            "prediction as it is."
        )
        return
    shown = np.asarray(patches.paint.draft(region.volume)[region.voxels.slices])
    predicted = _predicted(patches, region)
    patches.project.annotations.accept(
        _close(patches, region),
        shown if complete else painted,
        complete=complete,
        predicted=predicted,
    )
    patches.decided()


def put_aside(patches: Patches, state: State) -> None:
    """Do not annotate the patch: ``skipped``, or ``unsure`` when nobody can tell."""
    region = _on_view(patches)
    if region is None:
        return
    closed = _close(patches, region)
    if region.annotated:
        patches.paint.restore(region, np.zeros(region.voxels.shape, np.uint8))
        patches.say(
            "What was annotated in this patch is not learnt from any more; Undo brings it back."
        )
    patches.project.regions.record(closed.model_copy(update={"state": state}))
    patches.decided()


def undo(patches: Patches) -> None:
    """Take back the last decision, whatever the patch, and show that patch as it was painted."""
    decisions = patches.project.regions.decisions
    if decisions.last() is not None:
        patches.leave()  # which may be a decision, too
    decision = decisions.last()
    if decision is None:
        patches.say("There is no decision to undo in this round.")
        return
    patches.project.regions.record(decision.before)
    patches.paint.restore(decision.before, decision.painted)
    decisions.drop()
    patches.decided()
    if decision.before.state == "replaced":
        patches.paint.look_again(decision.before.volume)
    else:
        patches.go(decision.before)


def _on_view(patches: Patches) -> Region | None:
    if patches.current is None:
        patches.say("No patch is on view: go to the next one first.")
    return patches.current


def _close(patches: Patches, region: Region) -> Region:
    """Note how to undo what follows, and put the patch down; returns it with the time it took."""
    patches.project.regions.decisions.add(Decision(region, patches.painted_before(region)))
    return patches.close(region)


def _predicted(patches: Patches, region: Region) -> Bytes:
    """The class ids that a patch began with: what the user's decision is compared with."""
    start = patches.paint.proposal(region)
    if start is None:
        return np.zeros(region.voxels.shape, np.uint8)
    return np.where(start > 0, start - 1, 0).astype(np.uint8)

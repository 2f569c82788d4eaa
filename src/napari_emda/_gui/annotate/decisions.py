"""Decisions on the patch on view, and undoing them. No Qt.

When a function returns, its decision is on disk.
"""

from __future__ import annotations

import numpy as np

from napari_emda._gui.annotate.paint import Bytes
from napari_emda._gui.annotate.patches import Patches
from napari_emda.project.region import Region, State
from napari_emda.project.undo import Decision


def accept(patches: Patches, *, complete: bool) -> None:
    """Accept the patch.

    Args:
        patches: the patch on view is accepted.
        complete: accept everything that is shown, unpainted being background; otherwise only what
            the user has painted.
    """
    region = _on_view(patches)
    if region is None:
        return
    painted = patches.paint.stored(region)
    if not complete and not painted.any():
        patches.say(
            "You have not painted anything in this patch yet: paint, or press Done to accept the "
            "prediction as it is."
        )
        return
    # Read before the patch is closed, which removes the proposal.
    shown = np.asarray(patches.paint.draft(region.volume)[region.voxels.slices])
    predicted = _predicted(patches, region)
    # Before the patch is closed, so that wrong numbers can be corrected in it.
    patches.project.annotations.check(region, shown if complete else painted)
    patches.project.annotations.accept(
        _close(patches, region),
        shown if complete else painted,
        complete=complete,
        predicted=predicted,
    )
    patches.decided()


def put_aside(patches: Patches, state: State) -> None:
    """Leave the patch without annotations, as ``skipped`` or ``unsure``."""
    region = _on_view(patches)
    if region is None:
        return
    closed = _close(patches, region)
    # Skipping a patch that was accepted before takes its annotations away.
    if region.annotated:
        patches.paint.restore(region, np.zeros(region.voxels.shape, np.uint8))
        patches.say(
            "The annotations of this patch are no longer used for training; Undo restores them."
        )
    patches.project.regions.record(closed.model_copy(update={"state": state}))
    patches.decided()


def undo(patches: Patches) -> None:
    """Undo the last decision, on whichever patch, and show that patch as it was painted."""
    decisions = patches.project.regions.decisions
    if decisions.last() is not None:
        # Leaving a revised patch is a decision itself, and then the one to undo.
        patches.leave()
    decision = decisions.last()
    if decision is None:
        patches.say("There is no decision to undo in this round.")
        return
    patches.project.regions.record(decision.before)
    patches.paint.restore(decision.before, decision.painted)
    decisions.drop()
    patches.decided()
    # The decision was to draw the patch, which is gone now: there is nothing to go to.
    if decision.before.state == "replaced":
        patches.paint.refresh(decision.before.volume)
    else:
        patches.go(decision.before)


def _on_view(patches: Patches) -> Region | None:
    if patches.current is None:
        patches.say("No patch is on view: go to the next one first.")
    return patches.current


def _close(patches: Patches, region: Region) -> Region:
    """Record how to undo what follows, and close the patch; returns it with the time it took."""
    patches.project.regions.decisions.add(Decision(region, patches.painted_before(region)))
    return patches.close(region)


def _predicted(patches: Patches, region: Region) -> Bytes:
    """The class ids that a patch began with; the user's decision is compared with them."""
    start = patches.paint.proposal(region)
    if start is None:
        return np.zeros(region.voxels.shape, np.uint8)
    # Paint k + 1 is class k, and nothing proposed is background.
    return np.where(start > 0, start - 1, 0).astype(np.uint8)

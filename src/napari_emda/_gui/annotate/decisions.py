"""Decisions on the patch on view, and undoing them. No Qt.

When a function returns, its decision is on disk.
"""

from __future__ import annotations

import numpy as np

from napari_emda._gui.annotate.paint import Bytes
from napari_emda._gui.annotate.patches import Patches
from napari_emda.project.region import OWN, Region, State
from napari_emda.project.undo import Change, Decision, LabelImport, RegionStates

# How the dock names changes of several patches at once.
_WHAT = {
    "suggestions": "The suggestion of patches",
    "audit": "The drawing of audit patches",
    "end of audit": "The end of the audit",
}


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
    """Leave the patch without annotations: skipped, not sure, or taken out of the queue."""
    region = _on_view(patches)
    if region is None:
        return
    closed = _close(patches, region)
    # Skipping a patch that was accepted before takes its annotations away.
    if region.annotated:
        patches.paint.restore(region, patches.paint.of_others(region))
        patches.say(
            "Training no longer learns from this patch; Undo (U) brings its annotations back."
        )
    patches.project.regions.record(closed.model_copy(update={"state": state}))
    patches.decided()


def delete(patches: Patches) -> None:
    """Take a patch that the user has drawn out of the queue; its annotations are no longer used."""
    region = _on_view(patches)
    if region is None:
        return
    if region.strategy != OWN:
        patches.say("Only a patch that you drew yourself can be deleted: skip this one (J).")
        return
    put_aside(patches, "replaced")
    patches.paint.refresh(region.volume)
    patches.say("Your patch was deleted; Undo (U) brings it back.")


def undo(patches: Patches) -> None:
    """Take the last decision back, whatever it was on, and show it as it was before."""
    if _importing(patches):
        return
    if patches.project.regions.decisions.last() is not None:
        # Leaving a revised patch is a decision itself, and then the one to undo.
        patches.leave()
    _show(patches, patches.project.history.undo(), "undo", "was taken back")


def redo(patches: Patches) -> None:
    """Repeat the decision that was taken back last, and show it."""
    if _importing(patches):
        return
    patches.leave()
    _show(patches, patches.project.history.redo(), "repeat", "was repeated")


def _importing(patches: Patches) -> bool:
    """Whether labels are being written, which must not be taken back halfway; says so."""
    if patches.paint.locked:
        patches.say("Labels are being imported: undo when they are there.")
    return patches.paint.locked


def _show(patches: Patches, change: Change | None, wanted: str, happened: str) -> None:
    """Show what was restored.

    Args:
        patches: of the project.
        change: that was restored; None if there was none.
        wanted: what the user wants to do with a decision, for the sentence that there is none.
        happened: the verb of the sentence.
    """
    if change is None:
        patches.say(f"There is no decision to {wanted}.")
        return
    patches.paint.reread()
    patches.decided()
    # A patch whose drawing was taken back is gone: there is nothing to go to.
    if isinstance(change, Decision) and change.before.state != "replaced":
        patches.go(change.before)
        return
    patches.changed.emit()
    if isinstance(change, Decision):
        patches.say(f"Your patch in '{change.before.volume}' {happened}.")
    elif isinstance(change, RegionStates):
        patches.say(f"{_WHAT.get(change.what, 'The last change of the patches')} {happened}.")
    elif isinstance(change, LabelImport):
        patches.say(f"The import of labels into '{change.before.volume}' {happened}.")
    else:
        patches.show_names(change.run)
        patches.say(f"The last naming of clusters of {change.run} {happened}.")


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

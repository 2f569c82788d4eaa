"""The patches as a list: thumbnail, section, score, state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QSignalBlocker, QSize, Qt
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from napari_emda._gui.annotate.patches import HIDDEN
from napari_emda._gui.annotate.thumbnails import thumbnail
from napari_emda._gui.session import Session
from napari_emda.project.region import AUDIT, OWN, RANDOMLY_DRAWN, Region, State

# Side of a thumbnail in pixels: large enough to recognise membranes, and four of them fit.
_ICON = 44
# Visible patches; with more the list scrolls.
_VISIBLE = 4
# How the list names the states.
_WORDS: dict[State, str] = {
    "suggested": "to do",
    "accepted": "done",
    "partial": "partly done",
    "skipped": "skipped",
    "unsure": "not sure",
}


class PatchList(QListWidget):
    """The patches of a round; a click goes to one.

    Args:
        session: of the dock.
        go: called with the patch that was clicked.
    """

    def __init__(self, session: Session, go: Callable[[Region], object]) -> None:
        super().__init__()
        self._session = session
        self._regions: list[Region] = []
        # By id of the patch. The list is filled at every decision, and an icon reads the volume.
        self._icons: dict[str, Any] = {}
        self.setIconSize(QSize(_ICON, _ICON))
        # A long name of a volume is cut off rather than scrolled to.
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setAccessibleName("Patches of this round")
        self.setToolTip(
            "Click a patch, or press Enter on it, to go there. The score says how much the "
            "strategy expects from the patch: the highest comes first. Scores of different "
            "strategies cannot be compared."
        )
        # Some systems report a click as an activation as well: going to a patch twice is harmless.
        for chosen in (self.itemClicked, self.itemActivated):
            chosen.connect(lambda item: go(self._regions[self.row(item)]))

    def forget_icons(self) -> None:
        """Draw the thumbnails again the next time."""
        self._icons.clear()

    def show_regions(
        self, regions: Sequence[Region], current: Region | None, *, with_volume: bool
    ) -> None:
        """Show these patches, if wanted with the names of their volumes."""
        self._regions = list(regions)
        with QSignalBlocker(self):
            self.clear()
            for region in self._regions:
                item = QListWidgetItem(
                    self._icon(region), describe(region, with_volume=with_volume)
                )
                self.addItem(item)
                if current is not None and region.id == current.id:
                    self.setCurrentItem(item)
        # As high as its entries, whose text may be larger than the thumbnails.
        rows = min(_VISIBLE, self.count())
        self.setFixedHeight(rows * max(0, self.sizeHintForRow(0)) + 2 * self.frameWidth())

    def _icon(self, region: Region) -> Any:
        if region.id not in self._icons:
            opened = self._session.opened
            layer = opened.image(region.volume) if opened is not None else None
            self._icons[region.id] = thumbnail(layer, region.voxels, _ICON)
        return self._icons[region.id]


def describe(region: Region, *, with_volume: bool = False) -> str:
    """The text of a patch in the list."""
    # Random and drawn patches have no score.
    origins = {**dict.fromkeys(RANDOMLY_DRAWN, "random"), OWN: "drawn by you"}
    origin = origins.get(region.strategy, f"score {region.score:.2f}")
    volume = f"{region.volume} · " if with_volume else ""
    # Two lines, as high as the thumbnail: one would be wider than the dock.
    return f"{volume}section {region.voxels.start[0]}\n{origin} · {_WORDS[region.state]}"


def progress(regions: Sequence[Region]) -> str:
    """Progress of a round of annotation, as a sentence."""
    if not regions:
        return ""
    decided = sum(region.state != "suggested" for region in regions)
    audit = all(region.strategy == AUDIT for region in regions)
    patches = "1 patch" if len(regions) == 1 else f"{len(regions)} patches"
    title = "Audit" if audit else f"Round {regions[0].round}"
    # What to do next is said by the line at the top of the dock.
    if decided == len(regions):
        return f"{title}: all of the {patches} are decided."
    hidden = f" {HIDDEN}" if audit else ""
    return f"{title}: {decided} of {patches} decided.{hidden}"

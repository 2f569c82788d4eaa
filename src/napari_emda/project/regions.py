"""The regions of a project, in a file to which lines are only ever appended."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from napari_emda.data.box import Box
from napari_emda.io.atomic import write_text
from napari_emda.io.journal import Line, append, journal_lines
from napari_emda.io.safe_files import LARGEST_LINES, inside, read_file
from napari_emda.project.import_record import ImportRecord
from napari_emda.project.region import AUDIT, OWN, Region
from napari_emda.project.undo import Change, Journal, LabelImport, RegionStates


class Regions:
    """Regions that were suggested, drawn or annotated, round by round.

    ``regions.jsonl`` holds one line per change of a region; the last line of a region counts.

    Args:
        folder: of the project.
    """

    def __init__(self, folder: Path) -> None:
        self._path = inside(folder, "regions.jsonl")
        self._on_view_path = inside(folder, "on-view.txt")
        self._folder = folder
        # What was read last: whole lines of the file, and the regions in them.
        self._read: tuple[bytes, dict[str, Region]] = (b"", {})
        self.decisions = Journal(folder, self._forget)
        """The decisions that can be taken back, and those that were."""

    def _forget(self, change: Change) -> None:
        """Delete what was kept to repeat a change."""
        if isinstance(change, LabelImport):
            ImportRecord(self._folder, change.before.id).remove()

    def all(self) -> list[Region]:
        """All regions in their latest state, in the order in which they were first suggested."""
        try:
            content = read_file(self._path, LARGEST_LINES)
        except FileNotFoundError:
            content = b""
        # Lines are only ever appended, and every decision asks for the regions several times: those
        # that were read before are not read again, unless the file is another one.
        before, regions = self._read if content.startswith(self._read[0]) else (b"", {})
        whole = content[: content.rfind(b"\n") + 1]
        regions = regions | _latest(journal_lines(whole[len(before) :]))
        self._read = (whole, regions)
        # The next line that is appended ends the last one, or takes its place if it was cut off.
        return list((regions | _latest(journal_lines(content[len(whole) :]))).values())

    def record(self, region: Region) -> Region:
        """Append a region's new state, on disk when this returns."""
        return self.record_all([region])[0]

    def record_all(self, regions: Sequence[Region]) -> list[Region]:
        """Append the new states of several regions at once, on disk when this returns."""
        now = time.time()
        recorded = [region.model_copy(update={"time": now}) for region in regions]
        append(self._path, [region.model_dump_json() for region in recorded])
        return recorded

    def suggest(self, suggestions: list[dict[str, Any]], strategy: str, run: str) -> list[Region]:
        """Record suggestions as the next round; they replace those that are still open.

        Args:
            suggestions: ``volume``, ``box`` and ``score`` of each; possibly ``strategy``.
            strategy: that of the suggestions that do not name one.
            run: the run whose model was asked; empty for none.
        """
        regions = self.all()
        pending = [region for region in regions if region.state == "suggested"]
        values = {"strategy": strategy, "run": run, "round": latest_round(regions) + 1}
        new = [Region.model_validate({**values, **s, "id": new_id()}) for s in suggestions]
        what = "audit" if strategy == AUDIT else "suggestions"
        self.decisions.add(RegionStates((*pending, *map(_replaced, new)), what))
        recorded = self.record_all([*map(_replaced, pending), *new])
        return recorded[len(pending) :]

    def drop(self, regions: Sequence[Region], what: str) -> None:
        """Take regions out of the queue without a decision; this can be taken back.

        Args:
            regions: that are still open.
            what: the change, for the journal.
        """
        self.decisions.add(RegionStates(tuple(regions), what))
        self.record_all([*map(_replaced, regions)])

    def add(self, volume: str, box: Box, run: str = "") -> Region:
        """Record a patch that the user drew, in the latest round (the first if there is none)."""
        return self.record(
            Region(
                id=new_id(),
                volume=volume,
                box=str(box),
                strategy=OWN,
                run=run,
                round=max(1, self.round),
            )
        )

    @property
    def round(self) -> int:
        """Number of the latest round, 0 before the first."""
        return latest_round(self.all())

    def any_annotated(self) -> bool:
        """Whether any patch was accepted, in full or in part."""
        return any(region.annotated for region in self.all())

    @property
    def on_view(self) -> str:
        """Id of the patch that was worked on last, to open the project there; empty for none."""
        try:
            return read_file(self._on_view_path).decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    @on_view.setter
    def on_view(self, region: str) -> None:
        # Losing it costs the user one click, so an error must not interrupt the annotation, and a
        # sync to disk with every patch is not worth its time.
        with suppress(OSError):
            write_text(self._on_view_path, region, durable=False)


def _latest(lines: Sequence[Line]) -> dict[str, Region]:
    """The regions in some lines, in their latest state, by their ids."""
    latest: dict[str, Region] = {}
    for line in lines:
        # Damaged lines are passed over: each line is whole in itself, and a later decision must not
        # be lost with an earlier line.
        with suppress(ValidationError):
            region = Region.model_validate_json(line.text or b"")
            latest[region.id] = region
    return latest


def latest_round(regions: Sequence[Region]) -> int:
    """Number of the latest round that was not taken back, 0 before the first."""
    return max((region.round for region in regions if region.state != "replaced"), default=0)


def _replaced(region: Region) -> Region:
    return region.model_copy(update={"state": "replaced"})


def new_id() -> str:
    """A unique id for a region."""
    # 48 random bits: two of 10 000 regions of a project agree with a probability of 2e-7.
    return uuid.uuid4().hex[:12]

"""The journal of decisions, stored on disk, so that Undo works after a restart as well.

Every line says what there was before a change. Taking a change back swaps that with what there is
now, so a change that was taken back is of the same kind and can be repeated.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.names import check_file_name
from napari_emda.io.journal import Line, append, read_journal
from napari_emda.io.safe_files import inside, truncate
from napari_emda.json_text import parse_json
from napari_emda.project.region import Region

# Largest patch whose annotations are read back: a section of 32 768 x 16 384 pixels.
MOST_VOXELS = 2**29


@dataclass(frozen=True)
class Decision:
    """What there was before a decision on a region.

    Attributes:
        before: the region.
        painted: its annotations, uint8 of its shape, 0 = not annotated, k = class k - 1.
    """

    before: Region
    painted: NDArray[np.uint8]

    def values(self) -> dict[str, Any]:
        """For one line of JSON; the annotations as base64 of their deflated bytes."""
        # Annotations hold few values in large areas: deflated, a patch of 128 x 128 voxels takes a
        # few hundred bytes instead of 16 KiB.
        packed = base64.b64encode(zlib.compress(self.painted.astype(np.uint8).tobytes())).decode()
        return {"before": self.before.model_dump(), "painted": packed}


@dataclass(frozen=True)
class RegionStates:
    """Regions before a change of several at once: new suggestions, an audit, or the end of one.

    Attributes:
        before: the regions; those that are new count as replaced before.
        what: the change, such as "suggestions".
    """

    before: tuple[Region, ...]
    what: str

    def values(self) -> dict[str, Any]:
        """For one line of JSON."""
        return {"regions": [region.model_dump() for region in self.before], "what": self.what}


@dataclass(frozen=True)
class LabelImport:
    """An import of labels; the voxels that it changed are in a file of their own.

    Attributes:
        before: the region of the import.
        done: whether the labels were not imported before, so that taking this back removes them.
    """

    before: Region
    done: bool

    def values(self) -> dict[str, Any]:
        """For one line of JSON."""
        return {"imported": self.before.model_dump(), "done": self.done}


@dataclass(frozen=True)
class ClusterNames:
    """The names of a run's clusters before they were changed.

    Attributes:
        run: whose clusters they are.
        names: class by cluster.
    """

    run: str
    names: dict[int, str]

    def values(self) -> dict[str, Any]:
        """For one line of JSON."""
        return {"run": self.run, "names": {str(k): name for k, name in self.names.items()}}


Change = Decision | RegionStates | LabelImport | ClusterNames


def parse(line: bytes) -> Change:
    """Read a line of the journal; ValueError when it is damaged."""
    try:
        entry = parse_json(line)
        if "painted" in entry:
            before = Region.model_validate(entry["before"])
            size = before.voxels.size
            return Decision(before, _unpacked(entry["painted"], size).reshape(before.voxels.shape))
        if "regions" in entry:
            regions = tuple(Region.model_validate(region) for region in entry["regions"])
            return RegionStates(regions, str(entry["what"]))
        if "imported" in entry:
            return LabelImport(Region.model_validate(entry["imported"]), bool(entry["done"]))
        names = {int(cluster): str(name) for cluster, name in entry["names"].items()}
        return ClusterNames(check_file_name(str(entry["run"])), names)
    except (AttributeError, KeyError, TypeError, zlib.error) as error:
        raise ValueError(f"Not a decision: {error}") from error


def _unpacked(text: str, size: int) -> NDArray[np.uint8]:
    """That many annotations, as `Decision.values` packs them; ValueError if there are others."""
    if size > MOST_VOXELS:
        raise ValueError("A patch of this size was never annotated")
    # Bounded, because a few MB can unfold to thousands of times as much.
    packed = base64.b64decode(text)
    values = np.frombuffer(zlib.decompressobj().decompress(packed, size + 1), np.uint8)
    if len(values) != size:
        raise ValueError("These are not the annotations of the patch")
    return values


def _change(line: Line) -> Change | None:
    """The change in a line; None if the line is damaged."""
    try:
        return parse(line.text or b"")
    except ValueError:
        return None


class DecisionLog:
    """A file of changes, the latest last.

    Args:
        path: of the file; the first change creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def last(self) -> Change | None:
        """The latest change; None if there is none. Incomplete lines are skipped."""
        return next((c for line in reversed(self._lines()) if (c := _change(line))), None)

    def all(self) -> Iterator[Change]:
        """All changes, the latest last; one at a time, because their annotations take memory."""
        yield from filter(None, map(_change, self._lines()))

    def add(self, change: Change) -> None:
        """Append a change, on disk when this returns.

        Call it before the change is carried out: after a crash in between, Undo restores what is
        still there.
        """
        append(self._path, [json.dumps(change.values())])

    def drop(self) -> None:
        """Forget the latest change, after it was taken back."""
        lines = self._lines()
        # Incomplete lines behind it go as well.
        while lines:
            if _change(lines.pop()) is not None:
                break
        self._cut(sum(line.size for line in lines))

    def clear(self) -> None:
        """Forget all changes."""
        self._cut(0)

    def _lines(self) -> list[Line]:
        return read_journal(self._path)

    def _cut(self, size: int) -> None:
        if self._path.exists():
            # In place, without a copy: a crash before this line leaves a change that Undo can take
            # back once more, to the same state.
            truncate(self._path, size)


class Journal:
    """The changes that can be taken back (``undo.jsonl``) and repeated (``redo.jsonl``).

    Args:
        folder: of the project.
        forgotten: called with every change that can no longer be repeated.
    """

    def __init__(self, folder: Path, forgotten: Callable[[Change], object]) -> None:
        self._done = DecisionLog(inside(folder, "undo.jsonl"))
        self._undone = DecisionLog(inside(folder, "redo.jsonl"))
        self._forgotten = forgotten

    def last(self) -> Change | None:
        """The change that Undo would take back; None if there is none."""
        return self._done.last()

    def add(self, change: Change) -> None:
        """Note a change before it is carried out; see `DecisionLog.add`."""
        # What was taken back belongs to another course of events from here on.
        for undone in self._undone.all():
            self._forgotten(undone)
        self._undone.clear()
        self._done.add(change)

    def undo(self, swap: Callable[[Change], Change]) -> Change | None:
        """Take the latest change back.

        Args:
            swap: restores what a change holds; returns the change back.

        Returns:
            The change that was taken back; None if there was none.
        """
        return _move(self._done, self._undone, swap)

    def redo(self, swap: Callable[[Change], Change]) -> Change | None:
        """Repeat the change that was taken back last; see `undo`."""
        return _move(self._undone, self._done, swap)


def _move(
    source: DecisionLog, destination: DecisionLog, swap: Callable[[Change], Change]
) -> Change | None:
    change = source.last()
    if change is None:
        return None
    destination.add(swap(change))
    source.drop()
    return change

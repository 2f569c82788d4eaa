"""The journal of a prediction: which boxes of a volume are predicted.

The first line, the header, holds everything that the prediction depends on. The others list boxes
that are done, as z0, z1, y0, y1, x0, x1: ``{"boxes": [[0, 4, 0, 512, 0, 512]]}``. Under ``empty``
instead of ``boxes`` stand those whose image is empty, so that no network was asked.

Older versions numbered the tiles of a plan, whose size the header had as ``tiles``, and listed
numbers: ``{"tiles": [0, 1]}``, or one number a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.io.journal import read_journal
from napari_emda.json_text import parse_json
from napari_emda.settings.base import with_new_names

# What headers of older versions say of their plan. Without "chunk", tiles did not end at the
# chunks: none of them is a tile of today's.
PLAN = ("tiles", "first", "chunk")
_KINDS = ("boxes", "empty")
# Cells that boxes may cut a volume into: those of 16 x 16 voxels of 1000 sections of 8192 x 8192.
# Only a forged journal has more, which would fill the memory.
_MOST_CELLS = 2**28


@dataclass(frozen=True)
class Journalled:
    """What a journal says.

    Attributes:
        header: empty if it cannot be read.
        boxes: that are done.
        numbers: of the tiles that are done, in journals of older versions.
        shape: of the volume, (z, y, x).
    """

    header: dict[str, Any] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    numbers: frozenset[int] = frozenset()
    shape: tuple[int, int, int] = (0, 0, 0)

    def in_volume(self, shape: tuple[int, int, int]) -> Journalled:
        """The same of a volume of this shape, up to the first box that does not lie in it."""
        fits = [_lies_in(box, shape) for box in self.boxes]
        count = fits.index(False) if False in fits else len(fits)
        boxes = self.boxes[:count]
        rows, columns = (
            len({end for box in boxes for end in (box.start[axis], box.stop[axis])})
            for axis in (1, 2)
        )
        if shape[0] * rows * columns > _MOST_CELLS:
            boxes = ()
        return replace(self, boxes=boxes, shape=shape)

    @cached_property
    def predicted(self) -> Coverage:
        """The part of the volume that is done. An older journal says it only of all tiles."""
        if self.numbers and len(self.numbers) >= int(self.header["tiles"]):
            return Coverage.of(self.shape, [Box.whole(self.shape)])
        return Coverage.of(self.shape, self.boxes)

    def numbered_by(self, tiles: Sequence[Box]) -> list[Box] | None:
        """The boxes that are done; None if an older version has cut the volume otherwise.

        Args:
            tiles: how the volume is cut now.
        """
        if "tiles" not in self.header:
            return list(self.boxes)
        plan = [len(tiles), list(tiles[0].bounds) if tiles else []]
        if [self.header["tiles"], self.header.get("first")] != plan or "chunk" not in self.header:
            return None
        return [tiles[number] for number in sorted(self.numbers)]


def line_of(boxes: Iterable[Box], *, are_empty: bool = False) -> str:
    """A line that lists boxes as done."""
    return json.dumps({_KINDS[are_empty]: [box.bounds for box in boxes]})


def read_boxes(path: Path) -> Journalled:
    """What a journal says, up to the first damaged line; nothing if it cannot be trusted."""
    texts = [line.text for line in read_journal(path)]
    try:
        header = parse_json(texts[0] or b"") if texts else {}
        # Its name in the first version.
        header = with_new_names(header, {"neighbours": "z_smoothing"})
        tiles = range(int(header.get("tiles", 0)))
        header["uncertainty"]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return Journalled()
    boxes: list[Box] = []
    numbers: set[int] = set()
    for text in texts[1:]:
        # Behind a damaged line nothing is sure, and is predicted again.
        if "tiles" in header:
            found = _numbers_in(text)
            if found is None:
                break
            numbers.update(number for number in found if number in tiles)
        else:
            listed = _boxes_in(text)
            if listed is None:
                break
            boxes += listed
    return Journalled(header, tuple(boxes), frozenset(numbers))


def _boxes_in(line: bytes | None) -> list[Box] | None:
    """The boxes in a line; None if it is no such line."""
    try:
        ((kind, bounds),) = parse_json(line or b"").items()
        if kind not in _KINDS or not all(type(end) is int for ends in bounds for end in ends):
            return None
        return [Box.from_bounds(ends) for ends in bounds]
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None


def _numbers_in(line: bytes | None) -> list[int] | None:
    """The numbers of tiles in a line of an older journal; None if it is no such line."""
    # Longer ones are no number of a tile, and Python refuses to read thousands of digits.
    if line is not None and line.isdigit() and len(line) < 20:
        return [int(line)]
    try:
        numbers = parse_json(line or b"")["tiles"]
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        return None
    return numbers


def _lies_in(box: Box, shape: tuple[int, int, int]) -> bool:
    ends = zip(box.start, box.stop, shape, strict=True)
    return all(0 <= low < high <= size for low, high, size in ends)
